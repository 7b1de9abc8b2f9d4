"""Cityscapes' files: classes, names of images, and instance results as its benchmark wants them.

Instance results are a text file for each image, ``*_pred.txt``, whose lines ``mask.png label_id score`` name a PNG of
the image's size by its path from the text file; pixels other than 0 are the object. Read here as strictly as the
benchmark's program does (https://github.com/mcordts/cityscapesScripts), and stricter where that would pass over a line.
"""

import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pnm.cityscapes_classes import CITYSCAPES_IDS, CITYSCAPES_INSTANCE_CLASSES
from pnm.errors import UserError
from pnm.formats.atomic_files import write_bytes, write_text
from pnm.formats.folders import files_below, one_file_each
from pnm.formats.label_png import png_size_of, read_label_png

_FRAME = re.compile(r"(.+_\d{6}_\d{6})(?![^_.])")
_ENDING = "_pred.txt"
_EXPECTED = 'expected "mask.png label_id score", parted by one space each'


class CityscapesPrediction(NamedTuple):
    """A line of a result file.

    Attributes:
        mask_path: of the PNG.
        label_id: a key of ``CITYSCAPES_INSTANCE_CLASSES``.
        score: finite.
        name: the PNG's path as the line has it.
    """

    mask_path: Path
    label_id: int
    score: float
    name: str


def frame_name(file: str | Path) -> str | None:
    """``city_000000_000019`` of any file of that image, or None for other names."""
    match = _FRAME.match(Path(file).name)
    return match[1] if match else None


def files_by_frame(folder: str | Path, ending: str) -> dict[str, Path]:
    """Files ``*<ending>`` in a folder and the folders in it, by :func:`frame_name`, sorted.

    Raises:
        FileNotFoundError: no such folder, or no such file in it.
        UserError: a file isn't named after an image, or two are of one image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: expected one with *{ending}")
    named = []
    for file in (folder / path for path in files_below(folder, ending)):
        frame = frame_name(file)
        if frame is None:
            raise UserError(f"{file} is not named after an image: expected CITY_000000_000019...{ending}")
        named.append((frame, file))
    return one_file_each(named, folder, f"*{ending}")


def result_files(folder: str | Path) -> dict[str, Path]:
    """The ``*_pred.txt`` of a folder of instance results, see :func:`files_by_frame`."""
    return files_by_frame(folder, _ENDING)


def read_cityscapes_predictions(txt: str | Path, folder: str | Path | None = None) -> list[CityscapesPrediction]:
    """Predicted instances of one image, in the order of the lines; none of an empty file.

    Args:
        txt: a ``*_pred.txt``.
        folder: that of the results, which masks may not leave; by default that of ``txt``.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: a line that isn't ``mask.png label_id score``, a label without instances, a score that isn't finite,
            a mask that is missing, named twice or outside of the folder. Masks aren't opened, see :func:`read_mask`.
    """
    txt = Path(txt)
    try:
        text = txt.read_bytes().decode()
    except FileNotFoundError:
        raise FileNotFoundError(f"{txt} is missing: expected Cityscapes' instance results") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{txt} cannot be read ({error}): expected Cityscapes' instance results") from None
    predictions = _parsed(text, txt, Path(folder) if folder is not None else txt.parent)
    for n, prediction in enumerate(predictions, 1):
        if not os.path.isfile(prediction.mask_path):
            raise UserError(f"{txt}, line {n}: {prediction.mask_path} is missing; restore it, or take the line out")
    return predictions


def _parsed(text: str, txt: Path, folder: Path) -> list[CityscapesPrediction]:
    lines = text.replace("\r\n", "\n").split("\n")
    predictions: list[CityscapesPrediction] = []
    seen: dict[str, int] = {}
    for n, line in enumerate(lines if lines[-1] else lines[:-1], 1):
        prediction = _parsed_line(line, f"{txt}, line {n}", txt.parent)
        place = os.path.abspath(prediction.mask_path)
        if not Path(place).is_relative_to(os.path.abspath(folder)):
            raise UserError(f"{txt} names a mask {prediction.name} outside of {folder}: expected one in it (line {n})")
        if seen.setdefault(place, n) != n:
            raise UserError(f"{txt}, line {n}: mask {prediction.name} is that of line {seen[place]}, expected another")
        predictions.append(prediction)
    return predictions


def _parsed_line(line: str, where: str, folder: Path) -> CityscapesPrediction:
    fields = line.split(" ")
    if len(fields) != 3 or not fields[0]:
        raise UserError(f"{where} is {line[:80]!r}: {_EXPECTED}")
    name, label, score = fields
    if os.path.isabs(name):
        raise UserError(f"{where}: mask {name} has an absolute path, expected one from the text file's folder")
    label_id, value = _number(label), _number(score)
    if label_id not in CITYSCAPES_INSTANCE_CLASSES:
        fault = "which has no instances" if label_id in range(CITYSCAPES_IDS) else "which Cityscapes doesn't have"
        classes = ", ".join(f"{k} {word}" for k, word in CITYSCAPES_INSTANCE_CLASSES.items())
        raise UserError(f"{where}: label id is {label}, {fault}; expected one of {classes}")
    if not math.isfinite(value):
        raise UserError(f"{where}: score is {score}, expected a finite number")
    return CityscapesPrediction(folder / name, int(label_id), value, name)


def _number(text: str) -> float:
    """The number that a text is, or nan."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def mask_size(path: str | Path) -> tuple[int, int]:
    """(height, width) that a mask's header states; a UserError if it is no PNG."""
    return png_size_of(path)


def read_mask(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """(H, W) bool of a mask: its pixels other than 0.

    Args:
        path: of a grey or palette PNG of 8 or 16 bits.
        size: (height, width) of the image, if known.

    Raises:
        UserError: no such PNG, a damaged one, or one of another size.
    """
    values = read_label_png(path)
    if size is not None and values.shape != tuple(size):
        own_size = "{} x {}".format(*values.shape)
        raise UserError(f"mask {path} is {own_size}, the image {size[0]} x {size[1]}: expected one size")
    return values != 0


def prediction_lines(image: str, label_ids: Sequence[int], scores: Sequence[float]) -> str:
    """Text of a result file for masks ``masks/<image>_<n>.png``; scores are written to their last digit.

    Args:
        image: its name, e.g. ``aachen_000000_000019_leftImg8bit``.
        label_ids, scores: (N,) of each instance.
    """
    if len(label_ids) != len(scores):
        raise UserError(f"{len(label_ids)} label ids and {len(scores)} scores came for {image}: expected as many")
    pairs = enumerate(zip(label_ids, scores))
    return "".join(f"masks/{image}_{n}.png {int(label)} {float(score)!r}\n" for n, (label, score) in pairs)


def write_cityscapes_predictions(
    txt: str | Path, text: str, masks: Iterable[np.ndarray], folder: str | Path | None = None
) -> None:
    """Writes the results of one image: first the masks, then ``txt``, each file whole or not at all.

    Args:
        txt: the ``*_pred.txt`` to be written.
        text: its lines, which are written as they are and say where the masks go: those of :func:`prediction_lines`, or
            of another result file (``read_bytes().decode()``) whose masks are replaced.
        masks: (H, W) arrays, one for each line; what isn't 0 becomes 255.
        folder: that of the results, which masks may not leave; by default that of ``txt``.

    Raises:
        UserError: the text isn't that of a result file, or has more or fewer lines than there are masks.
    """
    import cv2

    txt = Path(txt)
    predictions, masks = _parsed(text, txt, Path(folder) if folder is not None else txt.parent), list(masks)
    if len(predictions) != len(masks):
        raise UserError(f"{txt}: {len(masks)} masks came for {len(predictions)} lines, expected one for each")
    wrong = [np.shape(mask) for mask in masks if np.ndim(mask) != 2 or not np.size(mask)]
    if wrong:
        raise UserError(f"{txt}: a mask is {wrong[0]}, expected (height, width)")
    for prediction, mask in zip(predictions, masks):
        _, png = cv2.imencode(".png", (np.asarray(mask) != 0).astype(np.uint8) * 255)
        write_bytes(prediction.mask_path, png.tobytes())
    write_text(txt, text)
