"""Files of trained weights, and ``pnm://NAME``, those of this project by name, in both engines."""

import os
from typing import IO, Any

from detectron2.utils.file_io import PathHandler, PathManager

from pnm.formats.safe_checkpoint import CheckpointError
from pnm.object_refinement.trained_weights import SCHEME, weights_file


class _NamedWeights(PathHandler):
    """Addresses that begin with ``pnm://``."""

    def _get_supported_prefixes(self) -> list[str]:
        return [SCHEME]

    def _get_local_path(self, path: str, **kwargs: Any) -> str:
        return str(weights_file(path))

    def _open(self, path: str, mode: str = "r", **kwargs: Any) -> IO:
        return open(self._get_local_path(path), mode)  # noqa: SIM115 - the caller closes it


PathManager.register_handler(_NamedWeights(), allow_override=True)


def local_weights(address: str, key: str = "MODEL.WEIGHTS") -> str:
    """The file of a checkpoint, fetched into the cache if it is remote.

    Args:
        address: local, https, ``detectron2://`` or ``pnm://``.
        key: of the config, which names it.

    Raises:
        CheckpointError: it cannot be had.
    """
    try:
        local: str = PathManager.get_local_path(address)
    except Exception as error:  # whatever the transport raises
        raise CheckpointError(f"checkpoint {address} cannot be had: {type(error).__name__}: {error}") from None
    if not os.path.isfile(local):
        raise CheckpointError(f"checkpoint {address} does not exist; check {key}")
    return local
