"""Checkpoints that are written whole, read without executing them, and whose fit is told in one table."""

import logging
import re
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qs, urlsplit, urlunsplit

import torch
from detectron2.checkpoint import DetectionCheckpointer
from tabulate import tabulate

from pnm.formats.atomic_files import atomic_file, write_bytes
from pnm.formats.safe_checkpoint import CheckpointError, check_weights, load_pickle, load_torch

from ..refining.named_weights import local_weights

logger = logging.getLogger(__name__)

_ROWS_SHOWN = 20


def read_checkpoint(path: str, align: bool = False) -> dict[str, Any]:
    """Reads a local checkpoint into the dict that Detectron2's checkpointer expects.

    Args:
        path: ``.pkl`` (Detectron2 model zoo, Caffe2/Detectron1, ImageNet backbones), ``.pyth`` (pycls) or ``.pth``.
        align: match names by their endings, as ``?matching_heuristics=True`` asks for.

    Raises:
        CheckpointError: unreadable, unsafe, or no state dict of finite numbers in it.
    """
    content = load_pickle(path) if path.endswith(".pkl") else load_torch(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a dict of weights")
    if path.endswith(".pkl") and not ("model" in content and "__author__" in content):
        weights = content.get("blobs", content)
        check_weights(weights, path)
        weights = {name: array for name, array in weights.items() if not name.endswith("_momentum")}
        content = {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
    elif path.endswith(".pyth") and "model_state" in content:
        content = {"model": content["model_state"], "__author__": "pycls", "matching_heuristics": True}
    elif "model" not in content:
        content = {"model": content}
    check_weights(content["model"], path)
    if align:
        content["matching_heuristics"] = True
    return content


class SafeCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with safe reading, atomic writing, a table of mismatches and a whole file on resume.

    Args:
        strict: a checkpoint that leaves parameters of the model unset, or does not fit it, is a CheckpointError.
    """

    def __init__(self, model, save_dir: str = "", *, strict: bool = False, save_to_disk=None, **checkpointables):
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.strict = strict
        self._align = False
        self._source = ""

    def load(self, path: str, *args, **kwargs) -> dict[str, Any]:
        """See Detectron2; ``path`` may be local, https, ``detectron2://`` or ``pnm://``; it may end
        with ``?matching_heuristics=True``.

        Raises:
            CheckpointError: the file cannot be had, read or (if strict) does not fit the model.
        """
        parts = urlsplit(path or "")
        query = parse_qs(parts.query)
        self._align = query.pop("matching_heuristics", ["False"]) == ["True"]
        if query:
            raise CheckpointError(f"{path}: unknown option {sorted(query)}; only matching_heuristics=True is known")
        self._source = urlunsplit(parts._replace(query="")) if path else ""
        if self._source:  # a failure is told here, before anything depends on it
            local_weights(self._source)
        return super().load(self._source, *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        return read_checkpoint(filename, self._align)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        check_weights(checkpoint["model"], self._source, self.model.state_dict())
        return super()._load_model(checkpoint)

    def _log_incompatible_keys(self, incompatible) -> None:
        """One table of what did not fit, instead of scattered log lines."""
        misshapen, unexpected = incompatible.incorrect_shapes, incompatible.unexpected_keys
        # fvcore lists a misshapen parameter among the missing ones, too.
        missing = [key for key in incompatible.missing_keys if key not in {row[0] for row in misshapen}]
        if not (misshapen or missing or unexpected):
            logger.info("all weights of %s fit the model", self._source)
            return
        # What decides whether the model works comes first.
        rows = [
            ("other shape", key, f"{tuple(came)} in checkpoint, {tuple(own)} in model") for key, came, own in misshapen
        ]
        rows += [("missing in checkpoint", name, "") for name in _by_module(missing)]
        rows += [("unexpected in checkpoint", name, "") for name in _by_module(unexpected)]
        if len(rows) > _ROWS_SHOWN:
            rows[_ROWS_SHOWN:] = [("...", f"and {len(rows) - _ROWS_SHOWN} more", "")]
        counts = f"{len(misshapen)} of another shape, {len(missing)} missing, {len(unexpected)} unexpected"
        table = tabulate(rows, headers=("problem", "parameter", "shapes"))
        logger.warning("%s and the model differ (%s):\n%s", self._source, counts, table)
        if self.strict and (misshapen or missing):
            raise CheckpointError(
                f"{self._source} does not fit the model ({counts}), so its numbers would mean nothing. Use the config "
                "that it was trained with, or set TEST.ALLOW_PARTIAL_WEIGHTS True to evaluate all the same"
            )

    def save(self, name: str, **kwargs: Any) -> None:
        """Writes ``<name>.pth`` beside its final place and renames it, then tags it as the last one.

        Raises:
            WriteError: the disk is full, or the like; the file that was there is as it was.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        content = {"model": self.model.state_dict()}
        content.update((key, item.state_dict()) for key, item in self.checkpointables.items())
        final = Path(self.save_dir) / f"{name}.pth"
        logger.info("saving checkpoint %s", final)
        with atomic_file(final, sync=True) as file:
            _save_torch({**content, **kwargs}, file)
        self.tag_last_checkpoint(final.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_bytes(Path(self.save_dir) / "last_checkpoint", last_filename_basename.encode(), sync=True)

    def has_checkpoint(self) -> bool:
        return bool(self.get_checkpoint_file())

    def get_checkpoint_file(self) -> str:
        """The newest whole checkpoint of ``save_dir``, or "": the tagged one, else the one of the highest iteration.

        Raises:
            CheckpointError: the tag names something that is no file of that folder.
        """
        folder = Path(self.save_dir)
        if not self.save_dir or not folder.is_dir():
            return ""
        candidates = sorted(folder.glob("model_*.pth"), key=_iteration, reverse=True)
        tag = folder / "last_checkpoint"
        if tag.is_file():
            name = tag.read_bytes()[:256].decode(errors="replace").strip()
            if Path(name).name != name or "\\" in name or name == "..":
                raise CheckpointError(f"{tag} names {name!r}, expected a file in its folder: delete it")
            candidates.insert(0, folder / name)
        for path in candidates:
            state = path.stat() if path.is_file() else None
            if _is_whole(path, state and (state.st_size, state.st_mtime_ns)):
                return str(path)
        return ""


class _Remembering:
    """A file that remembers why it could not be written: torch tells of a position in its archive instead."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _save_torch(content: dict[str, Any], file: BinaryIO) -> None:
    target = _Remembering(file)
    try:
        torch.save(content, cast(BinaryIO, target))
    except RuntimeError:
        if target.error is not None:
            raise target.error from None
        raise


def _by_module(keys: list[str]) -> list[str]:
    """``a.b.weight, a.b.bias`` as ``a.b.{weight, bias}``."""
    modules: dict[str, list[str]] = {}
    for key in keys:
        parent, _, leaf = key.rpartition(".")
        modules.setdefault(parent, []).append(leaf)
    grouped = ((m, "{" + ", ".join(leaves) + "}" if len(leaves) > 1 else leaves[0]) for m, leaves in modules.items())
    return [f"{module}.{leaves}".lstrip(".") for module, leaves in grouped]


def _iteration(path: Path) -> float:
    number = re.fullmatch(r"model_(\d+)", path.stem)
    return int(number[1]) if number else float("inf") if path.stem == "model_final" else -1


@lru_cache(maxsize=64)
def _is_whole(path: Path, state: tuple[int, int] | None) -> bool:
    """Whether the zip archive of a ``.pth`` is complete and its checksums hold; if not, that is logged.

    Resuming asks several times: what is read and told once holds for a file of that ``state`` (size, time).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            is_whole = state is not None and archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        is_whole = False
    if not is_whole:
        logger.warning("%s is missing or damaged and is passed over", path)
    return is_whole
