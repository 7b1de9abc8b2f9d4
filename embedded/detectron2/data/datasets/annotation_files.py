"""Opening annotation files and folders, with errors that say what is missing and how to get it."""

import json
import os

from detectron2.utils.file_io import PathManager


def _root_hint() -> str:
    root = os.environ.get("DETECTRON2_DATASETS")
    shown = repr(root) if root else "not set, so ./datasets is used"
    return f"check the path, or set DETECTRON2_DATASETS (now {shown}) to the folder that holds the data sets"


def read_json(path: str, remedy: str | None = None):
    """Parses a JSON file.

    Raises: FileNotFoundError (with ``remedy``, default: where to look), ValueError if it is truncated or not JSON.
    """
    require_file(path, "annotation file", remedy)
    with PathManager.open(path, "r") as stream:
        try:
            return json.load(stream)
        except ValueError as error:  # JSONDecodeError, or bytes that are not text
            raise ValueError(f"annotation file {path} is truncated or not JSON ({error}): fetch it again") from error


def require_file(path: str, what: str, remedy: str | None = None) -> None:
    """FileNotFoundError if ``path`` is not a file."""
    if not PathManager.isfile(path):
        raise FileNotFoundError(f"{what} {path} does not exist: {remedy or _root_hint()}")


def require_folder(path: str, what: str, remedy: str | None = None) -> None:
    """FileNotFoundError if ``path`` is not a folder."""
    if not PathManager.isdir(path):
        raise FileNotFoundError(f"{what} {path} does not exist: {remedy or _root_hint()}")
