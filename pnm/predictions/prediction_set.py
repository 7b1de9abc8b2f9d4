"""Predictions of a data set in files, read image by image."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pnm.formats.image_files import Key
from pnm.predictions.prediction_writer import PredictionWriter
from pnm.predictions.records import Record
from pnm.predictions.refinement_details import Detail
from pnm.shards import Shard

RecordOf = Callable[[Key], Record | None]


class PredictionSet(ABC):
    """Predictions of any model, of one task, in files of one format.

    Attributes:
        FORMAT: the format in words.
        SUFFIXES: of the files in an output that is a folder.
        HAS_FIELDS: whether entries may have more fields, see :meth:`with_fields`.
        KEEPS_BROKEN: whether an output can be made with a prediction as it was that can't be read.
        OPTIONS: names of the keyword arguments that say more of the files than their path does.
        task: "instance", "semantic" or "panoptic".
        path: what was opened, a file or folder.
        keys: the images in the order of the file, or sorted where a folder is all there is.
    """

    FORMAT: str
    SUFFIXES: tuple[str, ...] = (".png",)
    OPTIONS: tuple[str, ...] = ()
    HAS_FIELDS = False
    KEEPS_BROKEN = True
    task: str

    def __init__(self, path: str | Path, keys: Iterable[Key]):
        self.path = Path(path)
        self._keys = dict.fromkeys(keys)
        self.keys: tuple[Key, ...] = tuple(self._keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    @abstractmethod
    def read(self, key: Key) -> Any:
        """Decodes one image's prediction: :class:`Objects` of "instance", else a :class:`Partition`.

        Raises:
            KeyError: no such image.
            UserError: a file or mask is damaged or inconsistent; the message names it.
        """

    @abstractmethod
    def inputs(self) -> tuple[Path, ...]:
        """Files and folders that the predictions are in."""

    @abstractmethod
    def digest(self) -> str:
        """Tells these predictions from others."""

    @abstractmethod
    def targets(self, output: Path) -> tuple[Path, ...]:
        """What an output consists of, files and folders; the one whose presence says that it is whole comes last."""

    def may_write(self, path: Path) -> bool:
        """Whether a file below an output that is a folder can be one of this kind of output."""
        return path.suffix in self.SUFFIXES

    @abstractmethod
    def encode(self, key: Key, refined: Any, coarse: Any) -> Record:
        """A refined prediction, checked, as :meth:`assemble` wants it; ``coarse`` is what :meth:`read` gives."""

    def with_fields(self, record: Record, details: Sequence[Detail]) -> Record:
        """What :meth:`encode` gave, with fields for each object, or each segment that has pixels, in order."""
        raise NotImplementedError

    @abstractmethod
    def assemble(self, places: Sequence[Path], record_of: RecordOf) -> None:
        """Makes an output whole at ``places``, which stand for its targets; without a record an image stays coarse."""

    def writer(
        self,
        output: str | Path,
        fingerprint: str,
        *,
        overwrite: bool = False,
        shard: Shard | None = None,
        merges: bool = False,
    ) -> PredictionWriter:
        """A writer of these predictions refined, see :class:`PredictionWriter`."""
        return PredictionWriter(self, output, fingerprint, overwrite=overwrite, shard=shard, merges=merges)


def files_digest(whole: Iterable[Path], stated: Iterable[tuple[str, Path]] = ()) -> str:
    """SHA-256 of the content of files, and of the names, sizes and times of others, which may be many and large."""
    digest = hashlib.sha256()
    for path in whole:
        with path.open("rb") as file:
            for part in iter(partial(file.read, 2**20), b""):
                digest.update(part)
    for name, path in stated:
        state = path.stat() if path.exists() else None
        digest.update(f"{name} {state and (state.st_size, state.st_mtime_ns)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
