"""``MODEL.WEIGHTS pnm://NAME``: trained weights of this project by name."""

from typing import IO, Any

from detectron2.utils.file_io import PathHandler, PathManager

from pnm.object_refinement.trained_weights import SCHEME, weights_file


class _NamedWeights(PathHandler):
    """Addresses that begin with ``pnm://``."""

    def _get_supported_prefixes(self) -> list[str]:
        return [SCHEME]

    def _get_local_path(self, path: str, **kwargs: Any) -> str:
        return str(weights_file(path))

    def _open(self, path: str, mode: str = "r", **kwargs: Any) -> IO:
        return open(self._get_local_path(path), mode)  # noqa: SIM115 - the caller closes it


def register() -> None:
    """Makes both engines' checkpointers know the names; again changes nothing."""
    PathManager.register_handler(_NamedWeights(), allow_override=True)
