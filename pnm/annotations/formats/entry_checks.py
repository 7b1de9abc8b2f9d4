"""Checks of what files of annotations say of images and outlines, which may have been written by anybody."""

import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pnm.errors import UserError
from pnm.formats.folders import stem
from pnm.masks.runs import MOST_PIXELS

LEAST_POINTS = 3  # of an outline


def points_in(value: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """Points of a list of pairs.

    Args:
        size: (height, width) of the image.
        where: the file and the place in it, for messages.

    Returns:
        (N, 2) float64 of (x, y) in pixels.

    Raises:
        UserError: no such list, or points that are no numbers or farther outside of the image than it is long.
    """
    pairs = isinstance(value, list) and all(isinstance(point, (list, tuple)) and len(point) == 2 for point in value)
    if not pairs or not all(type(part) in (int, float) for point in value for part in point):
        raise UserError(f"{where}: points are {str(value)[:60]}, expected [[x, y], ...] in pixels")
    reach = max(size)
    if not all(-reach <= part <= 2 * reach for point in value for part in point):
        raise UserError(
            f"{where}: points {str(value)[:60]} lie far outside the image of {size[0]} x {size[1]}, or are no numbers: "
            "give pixels, and check that the image is the one that was annotated"
        )
    return np.array(value, np.float64).reshape(-1, 2)


def size_in(height: Any, width: Any, where: str) -> tuple[int, int]:
    """(height, width) of an image; a UserError unless both are whole numbers that an image can have."""
    for side in (height, width):
        if type(side) is not int or not 1 <= side <= MOST_PIXELS:
            raise UserError(f"{where}: height and width are {height} and {width}, expected whole numbers from 1")
    if height * width > MOST_PIXELS:
        raise UserError(f"{where}: the image has {height} x {width} pixels, the most is {MOST_PIXELS}")
    return height, width


def name_below(text: Any, where: str) -> str:
    """A path in a file as the name of an image below a folder, with slashes.

    Raises:
        UserError: it is no text, empty, absolute, or leads out of the folder.
    """
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise UserError(f"{where}: the image's name is {str(text)[:60]!r}, expected the path of a file")
    name = posixpath.normpath(text.replace("\\", "/"))
    if leads_out(name):
        raise UserError(f"{where}: {text} leads out of the folder of images: name the image by its path below it")
    return name


def leads_out(name: str) -> bool:
    """Whether a normal path with slashes is absolute, of another drive, or begins with ``..``, or is no file."""
    return name.startswith("/") or name[1:2] == ":" or name in (".", "..") or name.startswith("../")


def label_names(images: Iterable[str], ending: str) -> dict[str, str]:
    """Files of labels, with slashes, by names of images, whose ending they exchange.

    Raises:
        UserError: two images would have the same.
    """
    owners: dict[str, str] = {}
    for image in images:
        file = stem(image) + ending
        if file in owners:
            raise UserError(f"images {owners[file]} and {image} would both be annotated in {file}: rename one of them")
        owners[file] = image
    return {image: file for file, image in owners.items()}


def read_text(path: Path, what: str) -> str:
    """Text of a file in UTF-8, a byte order mark left out, lines ended by a newline alone.

    Raises:
        FileNotFoundError, UserError: there is none, or it is not UTF-8; the message says that it should be ``what``.
    """
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: expected {what}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): save {what} as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): expected {what}") from None
