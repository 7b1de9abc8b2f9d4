"""Offline weight maps, read and checked. :mod:`.writer` makes them, :mod:`.manifest` describes their folder."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pnm.errors import UserError
from pnm.formats.label_png import decode_label_png, read_bytes
from pnm.null_model.stored.manifest import (
    MapRow,
    WeightMapParameters,
    check_header,
    default_weight_root,
    map_name,
    read_manifest,
    remedy,
    weight_folder,
)

__all__ = ["WeightMapParameters", "WeightMaps", "default_weight_root", "remedy", "weight_folder"]

_ENTRY = np.dtype([("map", "V32"), ("height", np.int32), ("width", np.int32)])


class WeightMaps:
    """Reads the weight maps of one data set, each checked against the digests in the manifest.

    Holds 72 bytes a map, and can be pickled: workers of a data loader take it along.
    """

    def __init__(self, folder: str | Path, expected: WeightMapParameters):
        """
        Args:
            folder: what :func:`weight_folder` names.
            expected: parameters that the maps must have been made with.

        Raises:
            UserError: no folder or manifest, one that cannot be read, another format or other parameters; the message
                says which command makes the maps.
        """
        self.folder = Path(folder)
        self.parameters = expected
        rows = self._rows()
        of_digest = {bytes.fromhex(row.label_digest): row for row in rows}
        ordered = sorted(of_digest)
        self._labels = np.array(ordered, "S32")
        entries = [of_digest[key] for key in ordered]
        self._entries = np.array([(bytes.fromhex(r.map_digest), r.height, r.width) for r in entries], _ENTRY)

    def __len__(self) -> int:
        """Number of maps."""
        return len(self._labels)

    def _rows(self) -> list[MapRow]:
        manifest = read_manifest(self.folder, self.parameters)
        check_header(manifest, self.folder, self.parameters)
        return manifest.rows

    def _error(self, what: str) -> UserError:
        return UserError(f"{what}; run: {remedy(self.parameters, self.folder)}")

    def check_complete(self, label_files: Iterable[str | Path]) -> None:
        """Checks by base name that each label file has a map, without reading it.

        Raises:
            UserError: how many have none, the first of them, and the command that makes them.
        """
        names = [Path(file).name for file in label_files]
        known = {row.label for row in self._rows()}
        missing = [name for name in names if name not in known]
        if missing:
            raise self._error(
                f"{len(missing)} of {len(names)} label files of {self.parameters.dataset} have no weight map "
                f"(first: {missing[0]})"
            )

    def read(self, label_file: str | Path) -> np.ndarray:
        """The map of a label file: (H, W) uint16 for :func:`pnm.null_model.stored.surprisal.weights_of_surprisal`.

        Raises:
            UserError: the label file cannot be read, has no map or has changed since, or the map is missing or
                damaged; the message names the file and the command.
        """
        return self.read_for(read_bytes(label_file), label_file)

    def read_for(self, label_data: bytes, label_file: str | Path) -> np.ndarray:
        """As :meth:`read`, where the label file's bytes are at hand."""
        digest = hashlib.sha256(label_data)
        key = np.array(digest.digest(), "S32")
        at = int(np.searchsorted(self._labels, key))
        if at == len(self) or self._labels[at] != key:
            raise self._no_map(label_file)
        path = self.folder / map_name(digest.hexdigest())
        try:
            data = path.read_bytes()
        except OSError as error:
            reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise self._error(f"weight map {path} of {label_file} {reason}") from None
        entry = self._entries[at]
        if hashlib.sha256(data).digest() != entry["map"].tobytes():
            raise self._error(f"weight map {path} of {label_file} is damaged")
        encoded = decode_label_png(data, path)
        if encoded.shape != (entry["height"], entry["width"]) or encoded.dtype != np.uint16:
            raise self._error(f"weight map {path} of {label_file} is not of the size and type that it should be")
        return encoded

    def _no_map(self, label_file: str | Path) -> UserError:
        known = Path(label_file).name in {row.label for row in self._rows()}
        return self._error(
            f"{label_file} {'has changed since its weight map was made' if known else 'has no weight map'}"
        )
