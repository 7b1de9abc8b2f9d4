"""What became of each object, told in files beside a refined output, or in its own entries."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pnm.errors import UserError
from pnm.formats.atomic_files import MADE, check_folder_writable, write_bytes, write_text
from pnm.formats.image_files import Key
from pnm.predictions.image_predictions import Objects, Partition
from pnm.predictions.prediction_set import PredictionSet
from pnm.predictions.refinement_details import Detail, Detailed, details_of


@dataclass(frozen=True)
class DetailReport:
    """Where details go.

    Attributes:
        folder: gets ``<image>.json`` for each image, ``{"image", "objects": [{"refinement_confidence",
            "refinement_changed_px", "bbox"}]}`` in the order of the predictions, segments with their "id"; and of label
            maps ``<image>_changes.png``, 255 where a pixel changed. None: nothing.
        in_results: whether entries of the refined file get the two fields.
    """

    folder: Path | None = None
    in_results: bool = False

    def check(self, predictions: PredictionSet) -> None:
        """A UserError if the folder can't be written, or the format's entries have no place for fields."""
        if self.folder is not None:
            check_details_folder(self.folder)
        if self.in_results and not predictions.HAS_FIELDS:
            raise UserError(
                f"{predictions.path}, a {predictions.FORMAT}, has no place for more fields, which --details-in-results "
                "adds to COCO results and panoptic JSON: use --details DIR"
            )

    def check_done(self, done: Collection[Key]) -> None:
        """A UserError if an image that an earlier run refined has no details."""
        if self.folder is None:
            return
        missing = [key for key in done if not details_file(self.folder, key).is_file()]
        if missing:
            raise UserError(
                f"the run that is gone on with left no details of image {missing[0]} in {self.folder}: leave --details "
                "out, or delete what it left and start anew"
            )

    def fingerprint(self, of_step: str) -> str:
        """A step's fingerprint, with what changes the output beside it."""
        return f"{of_step} with fields" if self.in_results else of_step

    def add(self, key: Key, coarse: Objects | Partition, detailed: Detailed) -> list[Detail] | None:
        """Writes an image's details; what its entries are to say, if anything."""
        if self.folder is None and not self.in_results:
            return None
        details = details_of(coarse, detailed, f"image {key}")
        if self.folder is not None:
            if isinstance(coarse, Partition):
                refined = detailed.refined
                after = refined.labels if isinstance(refined, Partition) else refined
                write_changes(changes_file(self.folder, key), after != coarse.labels)
            write_details(details_file(self.folder, key), key, details)
        return details if self.in_results else None


def check_details_folder(folder: Path) -> None:
    """Makes the folder for details, and marks it; a UserError if it holds what no run of this kind made."""
    check_folder_writable(folder, "--details")
    if any(path.name != MADE for path in folder.iterdir()) and not (folder / MADE).exists():
        raise UserError(f"--details {folder} holds files already, which details could replace: choose a new folder")
    (folder / MADE).touch()


def details_file(folder: Path, key: Key) -> Path:
    """Where an image's details lie in a folder."""
    return _beside(folder, key, ".json")


def changes_file(folder: Path, key: Key) -> Path:
    """Where the picture of an image's changed pixels lies in a folder."""
    return _beside(folder, key, "_changes.png")


def _beside(folder: Path, key: Key, ending: str) -> Path:
    parts = [part for part in str(key).replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return folder.joinpath(*parts[:-1], f"{parts[-1] if parts else 'image'}{ending}")


def write_details(path: Path, key: Key, details: list[Detail]) -> None:
    """A JSON, see :class:`DetailReport`; a refiner that says no confidence has null."""
    rows: list[dict[str, Any]] = []
    for one in details:
        own = {"refinement_confidence": None, **one.fields(), "bbox": list(one.box_xywh)}
        rows.append(own if one.label is None else {"id": one.label, **own})
    write_text(path, json.dumps({"image": key, "objects": rows}, indent=1))


def write_changes(path: Path, changed: np.ndarray) -> None:
    """A PNG, 255 where (H, W) bool is true."""
    done, png = cv2.imencode(".png", changed.astype(np.uint8) * 255)
    assert done
    write_bytes(path, png.tobytes())
