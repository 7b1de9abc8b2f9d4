"""The engine's path manager: local files, web addresses and ``detectron2://``, kept in a local cache.

Web files are stored under ``$FVCORE_CACHE`` (``~/.torch/iopath_cache`` if unset). A file appears there
only once it is whole.
"""

import logging
import os
import shutil
import tempfile
from typing import IO, Any
from urllib.parse import urlparse
from urllib.request import urlopen

from iopath.common.file_io import HTTPURLHandler, PathHandler, file_lock, get_cache_dir
from iopath.common.file_io import PathManager as PathManagerBase

__all__ = ["PathHandler", "PathManager"]

logger = logging.getLogger(__name__)


def _download_whole(url: str, target: str) -> None:
    """Fetches ``url`` into ``target``; on any failure, an interrupt included, ``target`` is not created.

    Raises:
        OSError: no connection, an HTTP error, an empty file, or fewer bytes than the server announced.
    """
    folder, name = os.path.split(target)
    descriptor, partial = tempfile.mkstemp(prefix=f".{name[:80]}.", suffix=".part", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file, urlopen(url) as response:
            announced = response.headers.get("Content-Length")
            shutil.copyfileobj(response, file, 1 << 20)
            received = file.tell()
        if received == 0 or (announced is not None and received != int(announced)):
            raise OSError(f"{url}: {received} of {announced or 'an unknown number of'} bytes arrived; try again")
        # mkstemp's mode 0600 would hide a shared cache's files from its other users
        os.chmod(partial, 0o644)
        os.replace(partial, target)
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


class _WebHandler(HTTPURLHandler):
    """``http(s)://`` and ``ftp://`` addresses, read through the local cache."""

    def _get_local_path(self, path: str, force: bool = False, cache_dir: str | None = None, **kwargs: Any) -> str:
        self._check_kwargs(kwargs)
        relative = urlparse(path).path.lstrip("/")
        if not os.path.basename(relative):
            raise ValueError(f"{path} names a folder; expected the address of a file")
        local = os.path.join(get_cache_dir(cache_dir), relative)
        os.makedirs(os.path.dirname(local), exist_ok=True)
        # one process downloads, the others of the machine wait for it
        with file_lock(local):
            if force or not os.path.isfile(local):
                logger.info("downloading %s to %s", path, local)
                _download_whole(path, local)
        return local


class _PublishedHandler(PathHandler):
    """``detectron2://NAME``: what Detectron2's authors publish, read as a web file."""

    scheme, address = "detectron2://", "https://dl.fbaipublicfiles.com/detectron2/"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.scheme]

    def _to_url(self, path: str) -> str:
        return self.address + path.removeprefix(self.scheme)

    def _get_local_path(self, path: str, **kwargs: Any) -> str:
        return PathManager.get_local_path(self._to_url(path), **kwargs)

    def _open(self, path: str, mode: str = "r", **kwargs: Any) -> IO:
        return PathManager.open(self._to_url(path), mode, **kwargs)


PathManager = PathManagerBase()
for _handler in (_WebHandler(), _PublishedHandler()):
    PathManager.register_handler(_handler)
