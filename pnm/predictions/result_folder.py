"""A folder of a model's predictions on images without annotations, made image by image: a killed run goes on.

::

    output/
      coco_instances_results.json                 of instances
      labels/<image>.png, names.txt               of classes
      predictions.json, panoptic/<image>.png      of segments
      images.json                                 ids, names and sizes of the images, and the categories
      run.json                                    what the predictions depend on
      partial/                                    while the run goes on, or images are missing

Beside them lies whatever the caller adds: overlays, GeoTIFFs, annotations.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2

from pnm.annotations.annotation_set import Category
from pnm.annotations.formats.class_lists import FILES, list_text
from pnm.errors import UserError, listed
from pnm.formats.atomic_files import atomic_file, check_folder_writable, write_bytes, write_text
from pnm.formats.coco_instances import read_json
from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.formats.folders import stem
from pnm.formats.label_png import encode_label_png
from pnm.predictions.image_predictions import Partition
from pnm.predictions.predicted_image import PredictedImage
from pnm.predictions.records import Record, RecordFile, find_records, read_record

RESULTS = {"instance": "coco_instances_results.json", "semantic": FILES[0], "panoptic": "predictions.json"}
FOLDERS = {"semantic": "labels", "panoptic": "panoptic"}  # of a PNG for each image
EXTRAS = ("overlays", "overlays.mp4", "geotiff", "annotations", "frames")  # that a caller may put beside
_IMAGES, _RUN, _PARTIAL = "images.json", "run.json", "partial"


class ImageId(NamedTuple):
    """An image as result files call it: its file below the folder of images, with slashes, and its number."""

    name: str
    id: int


class StoredImage(NamedTuple):
    """What the folder keeps of an image: (height, width), and the rows of its :class:`PredictedImage`."""

    size: tuple[int, int]
    rows: list[dict[str, Any]]


class ResultFolder:
    """The folder of one run.

    Args:
        folder: made where it is missing.
        task: "instance", "semantic" or "panoptic".
        settings: all that the predictions depend on but the images, by what it is called.
        images: of the run, in the order of the result files.
        categories: with their ids.

    Attributes:
        done: names of the images that have been predicted, by this run or an earlier one.

    Raises:
        UserError: the folder holds something and is not to be gone on with (``resume``) or replaced (``overwrite``), or
            belongs to a run of other settings; it can't be written.
    """

    def __init__(
        self,
        folder: Path,
        task: str,
        settings: Mapping[str, str],
        images: Sequence[ImageId],
        categories: Sequence[Category],
        *,
        resume: bool = False,
        overwrite: bool = False,
    ):
        self.folder, self.task, self.images, self.categories = folder, task, images, categories
        self._settings = {"task": task, **settings}
        check_place(folder, resume=resume, overwrite=overwrite)
        if overwrite:
            _clear(folder)
        self._finished = _settings_in(folder) if resume else None
        self._check_same()
        self._records = find_records(folder / _PARTIAL, self._settings)
        names = {image.name for image in images}
        self.done = names if self._finished else names & {str(key) for key in self._records}
        self._file = RecordFile(folder / _PARTIAL, self._settings)

    def _check_same(self) -> None:
        """A UserError if a finished run in the folder was another."""
        if self._finished is None:
            return
        other = [name for name, value in self._settings.items() if self._finished.get(name) != value]
        if self._finished.get("images") != len(self.images):
            other.append("images")
        if other:
            raise UserError(
                f"--output {self.folder} holds a finished run of other {' and '.join(other)}: choose another folder, "
                "or add --overwrite"
            )

    @property
    def is_finished(self) -> bool:
        """Whether all was there when the run began."""
        return self._finished is not None

    def add(self, name: str, predicted: PredictedImage) -> None:
        """Keeps an image's prediction; what the caller wants to lie beside it is to be there already."""
        if self.task in FOLDERS:
            write_bytes(self.folder / FOLDERS[self.task] / f"{stem(name)}.png", encode_prediction(predicted))
        self._file.append(name, Record({"size": list(predicted.size), "rows": list(predicted.rows)}))
        self.done.add(name)

    def stored(self, name: str) -> StoredImage:
        """What was kept of an image that is done."""
        meta = read_record(self._records[name]).meta
        height, width = meta["size"]
        return StoredImage((height, width), meta["rows"])

    def close(self) -> None:
        """All that was added is to be seen by :meth:`stored`."""
        self._file.close()
        self._records = find_records(self.folder / _PARTIAL, self._settings)

    def assemble(self) -> None:
        """Writes the result files of all images that are done, after :meth:`close`."""
        present = [image for image in self.images if image.name in self.done]
        sizes = [self.stored(image.name).size for image in present]
        infos = [
            {"id": image.id, "file_name": image.name, "height": height, "width": width}
            for image, (height, width) in zip(present, sizes)
        ]
        listing = {"images": infos, "categories": _category_entries(self.categories, self.task)}
        write_text(self.folder / _IMAGES, json.dumps(listing))
        path = self.folder / RESULTS[self.task]
        if self.task == "semantic":
            write_text(path, list_text([category.name for category in self.categories]))
        elif self.task == "panoptic":
            write_text(path, json.dumps({**listing, "annotations": [self._segments(image) for image in present]}))
        else:
            with atomic_file(path) as file:  # row by row: those of many images, parsed, take gigabytes
                file.writelines(_json_list(row for image in present for row in self._detections(image)))

    def _segments(self, image: ImageId) -> dict[str, Any]:
        rows = self.stored(image.name).rows
        return {"image_id": image.id, "file_name": f"{stem(image.name)}.png", "segments_info": rows}

    def _detections(self, image: ImageId) -> list[dict[str, Any]]:
        return [{"image_id": image.id, **row} for row in self.stored(image.name).rows]

    def finish(self) -> None:
        """Says that all is there, and drops what was kept to go on with."""
        write_text(self.folder / _RUN, json.dumps({**self._settings, "images": len(self.images)}, indent=1))
        shutil.rmtree(self.folder / _PARTIAL, ignore_errors=True)


def _json_list(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """The text of a list as json.dumps writes it, in parts."""
    yield b"["
    for n, row in enumerate(rows):
        yield ((", " if n else "") + json.dumps(row)).encode()
    yield b"]"


def encode_prediction(predicted: PredictedImage) -> bytes:
    """The PNG of a map of classes or of panoptic ids."""
    assert isinstance(predicted.prediction, Partition)
    labels = predicted.prediction.labels
    if predicted.task == "semantic":
        return encode_label_png(labels)
    done, png = cv2.imencode(".png", ids_to_rgb(labels)[..., ::-1])
    assert done
    return png.tobytes()


def _category_entries(categories: Sequence[Category], task: str) -> list[dict[str, Any]]:
    rows = [{"id": category.id, "name": category.name} for category in categories]
    if task != "panoptic":
        return rows
    return [{**row, "isthing": int(category.isthing)} for row, category in zip(rows, categories)]


def _ours() -> set[str]:
    return {*RESULTS.values(), *FOLDERS.values(), *EXTRAS, _IMAGES, _RUN, _PARTIAL}


def check_place(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """A UserError if a run must not write to a folder, which is made."""
    check_folder_writable(folder, "--output")
    present = sorted(path.name for path in folder.iterdir())
    if present and not (resume or overwrite):
        raise UserError(
            f"--output {folder} is not empty ({listed(present, 3)}): choose another folder, or add --resume to go on "
            "with the run in it, or --overwrite to replace it"
        )
    foreign = [name for name in present if name not in _ours()]
    if foreign:
        raise UserError(
            f"--output {folder} holds {listed(foreign, 3)}, which no run of this program made: choose another folder"
        )


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _settings_in(folder: Path) -> dict[str, Any] | None:
    """Those of a finished run."""
    path = folder / _RUN
    content = read_json(path, "settings of a run") if path.is_file() else None
    return content if isinstance(content, dict) else None
