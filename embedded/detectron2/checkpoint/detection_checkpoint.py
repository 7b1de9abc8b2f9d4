"""Checkpoints of detection models: written whole or not at all, read without running code, converted if foreign."""

import os
from typing import Any
from urllib.parse import parse_qs

import torch
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from fvcore.common.checkpoint import Checkpointer, _filter_reused_missing_keys
from tabulate import tabulate
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .c2_model_loading import align_and_update_state_dicts

__all__ = ["DetectionCheckpointer"]

_HEURISTICS = "matching_heuristics"


def _incompatibility_table(missing: list[str], unexpected: list[str], mismatched: list[tuple]) -> str:
    """One row per parameter or group of parameters that was not loaded."""
    rows = [(name, str(tuple(theirs)), str(tuple(ours))) for name, theirs, ours in mismatched]
    for names, row in ((missing, ("-", "yes")), (unexpected, ("yes", "-"))):
        groups: dict[str, list[str]] = {}
        for name in sorted(names):
            module, _, leaf = name.rpartition(".")
            groups.setdefault(module, []).append(leaf)
        for module, leaves in groups.items():
            joined = leaves[0] if len(leaves) == 1 else f"{{{','.join(leaves)}}}"
            rows.append((f"{module}.{joined}".lstrip("."), *row))
    return tabulate(rows, headers=["parameter", "in checkpoint", "in model"], disable_numparse=True)


class DetectionCheckpointer(Checkpointer):
    """fvcore's checkpointer that also reads ``.pkl`` files of Detectron2's and its predecessor's model zoo.

    Only the main process writes unless ``save_to_disk`` says otherwise. Paths may be local, ``https://``,
    ``detectron2://`` or ``catalog://``; with ``?matching_heuristics=True`` at the end, names are matched by
    their endings.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, save_to_disk: bool | None = None, **checkpointables: Any
    ):
        writes = comm.is_main_process() if save_to_disk is None else save_to_disk
        super().__init__(model, save_dir, save_to_disk=writes, **checkpointables)
        self.path_manager = PathManager
        self._shared = isinstance(model, DistributedDataParallel)
        self._match_names = False

    def save(self, name: str, **kwargs: Any) -> None:
        """Writes ``name.pth`` with the model, all checkpointables and ``kwargs``, and marks it as the last one.

        The file gets its name when it is whole, so that an interrupted run leaves the previous one.
        """
        if not (self.save_dir and self.save_to_disk):
            return
        if "://" in self.save_dir:
            super().save(name, **kwargs)
            return
        states = {key: part.state_dict() for key, part in self.checkpointables.items()}
        target = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info("saving checkpoint %s", target)
        with _WholeFile(target) as file:
            torch.save({"model": self.model.state_dict(), **states, **kwargs}, file)
        self.tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Makes ``save_dir/last_checkpoint`` name this file."""
        if "://" in self.save_dir:
            super().tag_last_checkpoint(last_filename_basename)
            return
        with _WholeFile(os.path.join(self.save_dir, "last_checkpoint")) as file:
            file.write(last_filename_basename.encode())

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Continues from the last checkpoint in ``save_dir`` if there is one and ``resume`` is set, else loads
        the model alone from ``path``.

        Raises:
            FileNotFoundError: processes on several machines see different last checkpoints.
        """
        if resume and self._shared:
            last = comm.all_gather(os.path.basename(self.get_checkpoint_file()))
            if len(set(last)) > 1:
                raise FileNotFoundError(
                    f"the processes see different last checkpoints in {self.save_dir}: {last}. Put OUTPUT_DIR on a "
                    "file system that all machines share, or copy the main machine's checkpoint to the others"
                )
        return super().resume_or_load(path, resume=resume)

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Loads the model and the named checkpointables (all that the file has if None).

        Returns:
            What else the file holds, such as "iteration".

        Raises:
            FileNotFoundError: no such file, in this or another process.
            ValueError: a damaged or unsafe file, or an unknown ``?option``.
        """
        if not path:
            return super().load(path, checkpointables)
        path, _, query = path.partition("?")
        options = parse_qs(query)
        self._match_names = options.pop(_HEURISTICS, ["False"]) == ["True"]
        if options:
            raise ValueError(f"{path}?{query}: unknown option {', '.join(options)}; expected {_HEURISTICS}=True")
        local = self.path_manager.get_local_path(path)
        present = comm.all_gather(os.path.isfile(local)) if self._shared else [os.path.isfile(local)]
        if not all(present):
            absent = [rank for rank, found in enumerate(present) if not found]
            where = f" for processes {absent}" if len(present) > 1 else ""
            raise FileNotFoundError(f"checkpoint {path} does not exist{where}; check MODEL.WEIGHTS or OUTPUT_DIR")
        return super().load(local, checkpointables)

    def _load_file(self, filename: str) -> dict[str, Any]:
        from pnm.formats.safe_checkpoint import check_weights, load_pickle, load_torch

        is_pickle = filename.endswith(".pkl")
        loaded = load_pickle(filename) if is_pickle else load_torch(filename)
        if not isinstance(loaded, dict):
            raise ValueError(f"{filename} holds a {type(loaded).__name__}; expected a mapping of names to weights")
        if not is_pickle:
            loaded = loaded if "model" in loaded else {"model": loaded}
            check_weights(loaded["model"], filename)
            return loaded | ({_HEURISTICS: True} if self._match_names else {})
        if "model" in loaded and "__author__" in loaded:
            self.logger.info("%s was written by %s", filename, loaded["__author__"])
            check_weights(loaded["model"], filename)
            return loaded
        # Caffe2: detectors keep their weights in "blobs" and the optimizer's momentum beside them
        weights = loaded.get("blobs", loaded)
        check_weights(weights, filename)
        weights = {name: value for name, value in weights.items() if not name.endswith("_momentum")}
        return {"model": weights, "__author__": "Caffe2", _HEURISTICS: True}

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if checkpoint.get(_HEURISTICS, False):
            self._convert_ndarray_to_tensor(checkpoint["model"])
            from_caffe2 = checkpoint.get("__author__") == "Caffe2"
            checkpoint["model"] = align_and_update_state_dicts(
                self.model.state_dict(), checkpoint["model"], c2_conversion=from_caffe2
            )
        incompatible = super()._load_model(checkpoint)
        # the config sets the pixel statistics, and anchors are computed: old files differ in both, harmlessly
        own_buffers = dict(self.model.named_buffers(recurse=False))
        for name in {"pixel_mean", "pixel_std"} & own_buffers.keys() & set(incompatible.missing_keys):
            incompatible.missing_keys.remove(name)
        incompatible.unexpected_keys[:] = [
            name for name in incompatible.unexpected_keys if "anchor_generator.cell_anchors" not in name
        ]
        return incompatible

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        mismatched = {name for name, *_ in incompatible.incorrect_shapes}
        missing = _filter_reused_missing_keys(self.model, incompatible.missing_keys)
        missing = [name for name in missing if name not in mismatched]
        problems = (missing, incompatible.unexpected_keys, incompatible.incorrect_shapes)
        if any(problems):
            self.logger.warning(
                "%d parameters of the model are not in the checkpoint, %d of the checkpoint are not in the model, "
                "%d differ in shape and were not loaded:\n%s",
                *map(len, problems),
                _incompatibility_table(*problems),
            )


class _WholeFile:
    """A binary file that appears under its name when the block ends without an error."""

    def __init__(self, path: str):
        self._path, self._partial = path, f"{path}.part"

    def __enter__(self) -> Any:
        os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
        self._file = open(self._partial, "wb")
        return self._file

    def __exit__(self, failure: Any, *details: Any) -> None:
        if failure is None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        if failure is None:
            os.replace(self._partial, self._path)
        else:
            os.unlink(self._partial)
