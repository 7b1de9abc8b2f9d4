"""Result files, or one mask, refined step by step: what is common to refiners with and without a network."""

import argparse
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from tqdm import tqdm

from pnm.annotations.annotation_format import Source
from pnm.errors import UserError, listed, message_of
from pnm.formats.class_names import read_class_names
from pnm.formats.folders import IMAGE_ENDINGS, files_below
from pnm.formats.image_files import ImageFiles, Key, missing_images
from pnm.masks.crops import MaskCrop
from pnm.predictions.change_counts import ChangeCount, changes_of
from pnm.predictions.detail_report import DetailReport
from pnm.predictions.image_predictions import Objects, Partition
from pnm.predictions.lost_objects import with_lost_objects
from pnm.predictions.opening import open_predictions
from pnm.predictions.output_place import OutputPlace
from pnm.predictions.prediction_set import PredictionSet
from pnm.predictions.prediction_writer import PredictionWriter
from pnm.predictions.refinement_details import Detailed, lower_confidences, refine_detailed
from pnm.predictions.relisting import with_kept_ids
from pnm.predictions.run_ending import Refined, end_run, merge_shards
from pnm.read_ahead import read_ahead

AHEAD = 2  # images that are read while another is refined
Prediction = Objects | Partition


class Step(Protocol):
    """A refiner, with a fingerprint of all that its output depends on but image and prediction."""

    @property
    def fingerprint(self) -> str: ...
    def read(self, image_file: Path) -> Any:
        """What it needs of an image; called in another thread, while images before it are refined."""

    def refine(self, content: Any, prediction: Prediction) -> list[MaskCrop] | np.ndarray | Partition:
        """Masks of Objects, in order, or the label map of a Partition.

        Of a panoptic prediction it may be a Partition into other segments instead, see
        :func:`pnm.predictions.relisting.with_kept_ids`.
        """


@runtime_checkable
class Prepares(Protocol):
    """A step that loads something when it is first needed, or before, when it is told to."""

    def prepare(self) -> None:
        """Errors of it are no image's."""


class Chain:
    """Steps one after the other, each refining what the one before made; a step itself."""

    def __init__(self, steps: Sequence[Step]):
        self.steps = steps
        self.fingerprint = chained_fingerprint([step.fingerprint for step in steps])

    def prepare(self) -> None:
        """See :class:`Prepares`."""
        for step in self.steps:
            if isinstance(step, Prepares):
                step.prepare()

    def read(self, image_file: Path) -> Mapping[Callable[[Path], Any], Any]:
        """What the steps need of an image, by how they read it; steps that read alike share it."""
        return {read: read(image_file) for read in dict.fromkeys(step.read for step in self.steps)}

    def refine(self, contents: Mapping[Callable[[Path], Any], Any], prediction: Prediction) -> Any:
        """As :meth:`Step.refine`; a Partition once a step has changed the list of segments."""
        return self.refine_detailed(contents, prediction).refined

    def refine_detailed(self, contents: Mapping[Callable[[Path], Any], Any], prediction: Prediction) -> Detailed:
        """As :meth:`refine`, with the lowest of the confidences that steps state; no object vanishes, see
        :mod:`pnm.predictions.lost_objects`."""
        coarse, refined, is_relisted = prediction, None, False
        confidences: dict[int, float] = {}
        for n, step in enumerate(self.steps):
            if isinstance(refined, Partition):
                assert isinstance(coarse, Partition)
                refined = with_kept_ids(coarse, refined)
            prediction = replaced(prediction, refined) if n else prediction
            refined, stated = with_lost_objects(prediction, refine_detailed(step, contents[step.read], prediction))
            confidences = lower_confidences(confidences, stated)
            is_relisted |= isinstance(refined, Partition)
        return Detailed(replaced(prediction, refined) if is_relisted else refined, confidences)


def chained_fingerprint(fingerprints: Sequence[str]) -> str:
    """That of steps one after the other; of one step its own."""
    if len(fingerprints) == 1:
        return fingerprints[0]
    return hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()


class HasTask(Protocol):
    """Something that is made for predictions of one task, or of any (None)."""

    task: str | None


def common_task(parts: Sequence[HasTask]) -> str | None:
    """The one task of the parts that have one; a UserError if they differ."""
    tasks = list(dict.fromkeys(part.task for part in parts if part.task))
    if len(tasks) > 1:
        raise UserError(f"these refiners do not go together: one is of task {tasks[0]}, another of task {tasks[1]}")
    return tasks[0] if tasks else None


def image_names(folder: str | Path) -> list[str]:
    """Images in a folder and the folders in it, by their paths in it; a UserError if there are none."""
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: expected one with images")
    names = files_below(folder, *IMAGE_ENDINGS)
    if not names:
        raise UserError(f"{folder} has no image in it: check the path")
    return names


def replaced(prediction: Prediction, refined: Any) -> Prediction:
    """A prediction whose masks or labels are others; a Partition into other segments takes its place."""
    if isinstance(refined, Partition):
        return refined
    if isinstance(prediction, Partition):
        return replace(prediction, labels=refined)
    return replace(prediction, masks=tuple(refined))


def opened(args: argparse.Namespace, images: ImageFiles, task: str | None) -> PredictionSet:
    """The result files that the arguments name; a UserError, before the long work, if the output can't be made."""
    options: dict[str, Any] = {"png_folder": args.png_folder} if args.png_folder else {}
    classes = read_class_names(args.classes) if args.classes else None
    source = Source(args.predictions, args.images, classes, args.split)
    predictions = open_predictions(
        args.predictions, task, known_sizes=images.sizes, annotations=args.format, source=source, **options
    )
    OutputPlace(predictions, args.output, overwrite=args.overwrite).check()
    return predictions


def with_image(args: argparse.Namespace, predictions: PredictionSet, images: ImageFiles) -> set[Key]:
    """Keys of the predictions that have an image; without --keep-missing, all must have one."""
    missing = set(missing_images(predictions, images))
    if missing and not args.keep_missing:
        shown = listed(sorted(missing, key=str), 10)
        raise UserError(
            f"{len(missing)} of {len(predictions)} predictions have no image in {args.images}: {shown}. Give the right "
            "folder, or --image-info with COCO's list of images; --keep-missing leaves these predictions as they are"
        )
    return set(predictions.keys) - missing


class _Given(NamedTuple):
    """An image and its prediction as they were read.

    Attributes:
        content: what the step needs of the image.
        fault: why one of the two can't be read; then there are none.
    """

    key: Key
    content: Any = None
    prediction: Any = None
    fault: UserError | OSError | None = None


def _read_ahead(step: Step, predictions: PredictionSet, images: ImageFiles, keys: Sequence[Key]) -> Iterator[_Given]:
    """All that is refined, read in other threads while what comes before is refined."""

    def read(key: Key) -> _Given:
        if not predictions.KEEPS_BROKEN:
            prediction = predictions.read(key)
        try:
            content = step.read(images.path(key))
            return _Given(key, content, predictions.read(key) if predictions.KEEPS_BROKEN else prediction)
        except (UserError, OSError) as error:
            return _Given(key, fault=error)

    return read_ahead(read, keys, AHEAD)


def refine_each(
    step: Step,
    predictions: PredictionSet,
    images: ImageFiles,
    keys: Sequence[Key],
    writer: PredictionWriter,
    *,
    progress: bool = True,
    report: DetailReport | None = None,
) -> Refined:
    """Refines the predictions of some images and writes them; those that are written already are passed over, as are
    those that can't be read, or are of another size than their image.

    Args:
        report: where what became of each object goes, if anywhere.

    Returns:
        What changed in those that were not written before, and which could not be refined.

    Raises:
        UserError: the output can't be written, or a step made something that isn't a refinement.
    """
    left, count = [key for key in keys if key not in writer.done], ChangeCount()
    broken: dict[Key, str] = {}
    if left and isinstance(step, Prepares):
        step.prepare()
    with tqdm(
        initial=len(keys) - len(left), total=len(keys), unit="image", disable=not progress, dynamic_ncols=True
    ) as bar:
        for key, content, prediction, fault in _read_ahead(step, predictions, images, left):
            bar.update(1)
            try:
                if fault is not None:
                    raise fault
                detailed = refine_detailed(step, content, prediction)
            except (UserError, OSError) as error:
                broken[key] = message_of(error)
                continue
            if isinstance(detailed.refined, Partition):
                assert isinstance(prediction, Partition)
                detailed = detailed._replace(refined=with_kept_ids(prediction, detailed.refined))
            fields = report.add(key, prediction, detailed) if report else None
            writer.write(key, detailed.refined, prediction, details=fields)
            count = count.plus(changes_of(prediction, detailed.refined, f"image {key}"))
    return Refined(count, broken)


def own_keys(args: argparse.Namespace, predictions: PredictionSet, present: Collection[Key]) -> list[Key]:
    """Keys of the predictions that this run refines: those that have an image, and are in its shard."""
    keys = predictions.keys if args.shard is None else args.shard.part(predictions.keys)
    return [key for key in keys if key in present]


def refine_files(args: argparse.Namespace, step: Step) -> None:
    """Refines all result files that the arguments name, or a shard of them, in this process."""
    images = ImageFiles(args.images, args.image_info)
    predictions = opened(args, images, None)
    report = DetailReport(args.details, args.details_in_results)
    report.check(predictions)
    present = with_image(args, predictions, images)
    print(f"{args.predictions}: {len(predictions)} images, {predictions.FORMAT}")
    fingerprint = report.fingerprint(step.fingerprint)
    if args.merge is not None:
        merge_shards(args, predictions, present, report, fingerprint)
        return
    with predictions.writer(args.output, fingerprint, overwrite=args.overwrite, shard=args.shard) as writer:
        report.check_done(writer.done)
        keys = own_keys(args, predictions, present)
        end_run(args, writer, keys, refine_each(step, predictions, images, keys, writer, report=report))
