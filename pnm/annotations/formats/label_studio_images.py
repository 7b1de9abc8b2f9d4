"""Which image a task of Label Studio is of: tasks have addresses, of local files, uploads and cloud storage."""

import posixpath
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pnm.annotations.formats.entry_checks import name_below
from pnm.annotations.image_folder import ImageFolder
from pnm.errors import UserError
from pnm.formats.folders import IMAGE_ENDINGS

_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file
_LOCAL = "/data/local-files/"


def image_name(task: Mapping[str, Any], images: ImageFolder | None, where: str) -> str:
    """The image's path below the folder of images, or as much of it as the address tells.

    In a folder it is the file whose path the address ends with, as long a part of it as there is; its name is also
    tried without the eight digits of an upload.

    Raises:
        UserError: the task has no image, or the folder doesn't.
    """
    address = _address(task, where)
    path = _path(address)
    if images is None:
        is_below = (_LOCAL in address or "://" not in address) and not path.startswith("/")
        return name_below(path if is_below else _UPLOAD.sub("", posixpath.basename(path)), where)
    parts = path.strip("/").split("/")
    for start in range(len(parts)):
        for last in (parts[-1], _UPLOAD.sub("", parts[-1])):
            name = "/".join([*parts[start:-1], last])
            if name in images:
                return name
    raise UserError(f"{where}: image {path} is not in {images.folder}: check the folder of images (--images)")


def stated_size(task: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) that a task's data say, where they were written here."""
    height, width = task["data"].get("height"), task["data"].get("width")
    return (height, width) if type(height) is int and type(width) is int and min(height, width) > 0 else None


def _address(task: Mapping[str, Any], where: str) -> str:
    """That under "image", or the first that ends like an image's."""
    data = task["data"]
    texts = [data.get("image"), *data.values()]
    for text in texts:
        if isinstance(text, str) and (_path(text).lower().endswith(IMAGE_ENDINGS)):
            return text
    if isinstance(texts[0], str) and texts[0]:
        return texts[0]
    raise UserError(f'{where}: data is {str(data)[:60]}, expected the address of an image, {{"image": ...}}')


def _path(address: str) -> str:
    """The path in an address, with slashes."""
    address = address.replace("\\", "/")
    try:
        parts = urlsplit(address)
        local = parse_qs(parts.query).get("d", []) if parts.path.startswith(_LOCAL) or parts.path == _LOCAL[:-1] else []
    except ValueError:
        return address
    if local:
        return local[0].replace("\\", "/")
    return unquote(parts.path) if parts.scheme and len(parts.scheme) > 1 or address.startswith("/data/") else address
