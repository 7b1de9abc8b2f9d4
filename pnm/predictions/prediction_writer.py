"""Writes refined predictions so that a killed run goes on, and an output is whole or not there."""

import glob
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pnm.errors import UserError, listed
from pnm.formats.image_files import Key
from pnm.predictions.image_predictions import Objects, Partition
from pnm.predictions.output_place import OutputPlace
from pnm.predictions.records import Place, Record, RecordFile, find_records, read_record
from pnm.predictions.refinement_details import Detail
from pnm.predictions.sharded_records import check_shard_folders, records_of_run, records_of_shards, write_broken
from pnm.shards import Shard

logger = logging.getLogger(__name__)


class Writable(Protocol):
    """What a writer needs of predictions: see :class:`pnm.predictions.prediction_set.PredictionSet`, which has it."""

    FORMAT: str
    path: Path
    keys: tuple[Key, ...]

    def __len__(self) -> int: ...
    def __contains__(self, key: object) -> bool: ...
    def read(self, key: Key) -> Any: ...
    def may_write(self, path: Path) -> bool: ...
    def inputs(self) -> tuple[Path, ...]: ...
    def digest(self) -> str: ...
    def targets(self, output: Path) -> tuple[Path, ...]: ...
    def encode(self, key: Key, refined: Any, coarse: Any) -> Record: ...
    def with_fields(self, record: Record, details: Sequence[Detail]) -> Record: ...
    def assemble(self, places: Sequence[Path], record_of: Callable[[Key], Record | None]) -> None: ...


class PredictionWriter:
    """Writes refined predictions image by image and, in the end, an output of the same format.

    Until :meth:`finish`, what was written is in the folder ``<output>.partial``. A run that was killed at any moment
    goes on where it was when a writer is made with the same arguments. Several processes may write at once, other
    images each; when they are through (a barrier), one of them finishes. May be used from several threads.

    A writer of a shard has its own folder in that one, so that shards on several machines don't disturb each other, and
    doesn't finish: a writer without a shard finds what all shards wrote, and goes on from there.

    Where images could not be refined, the output is made with their predictions as they were, and the folder stays: a
    writer that overwrites that output finds what is done.

    Args:
        predictions: what is refined.
        output: the file or folder to make, of the kind that ``predictions.path`` is.
        fingerprint: of all that the refined masks depend on but the predictions: the model and its settings.
        overwrite: replace an output that is there. A folder is replaced only if all in it are files of such an output.
        shard: whose images are written, of a run that is split.
        merges: :meth:`merge` is all that will be called; what there is isn't looked at before that.

    Attributes:
        output: the path.
        done: keys of the images that have been written, by this run or an earlier one.

    Raises:
        UserError: the output is an input, is there already, or was begun with other predictions, settings or number of
            shards.
    """

    def __init__(
        self,
        predictions: Writable,
        output: str | Path,
        fingerprint: str,
        *,
        overwrite: bool = False,
        shard: Shard | None = None,
        merges: bool = False,
    ):
        self.output = Path(output)
        self._predictions, self._place = predictions, OutputPlace(predictions, self.output, overwrite=overwrite)
        self._folder, self._shard = self._place.folder, shard
        self._header = {
            "format": predictions.FORMAT,
            "predictions": predictions.digest(),
            "model or settings": fingerprint,
        }
        self._remove_finished()
        self._place.check()
        if shard is not None:
            check_shard_folders(self._folder, shard.of)
        own = self._folder if shard is None else self._folder / shard.folder_name
        self._file, self._lock = RecordFile(own, self._header), threading.Lock()
        self.done: set[Key] = set()
        if not merges:
            self.done |= (find_records(own, self._header) if shard else self._found()).keys()
        if self.done:
            logger.info("%s: %d of %d images are refined already", self._folder, len(self.done), len(predictions))

    def __enter__(self) -> "PredictionWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file of this process; :meth:`write` would start another one."""
        with self._lock:
            self._file.close()

    def write(
        self,
        key: Key,
        refined: Any,
        coarse: Objects | Partition | None = None,
        *,
        details: Sequence[Detail] | None = None,
    ) -> None:
        """Adds an image's refined prediction; once this returns, it outlives the process.

        Args:
            key: one of ``predictions.keys`` that isn't in ``done``.
            refined: of Objects, as many masks in the same order, (H, W) bool or integer arrays or RLEs; of a
                Partition, (H, W) labels of it, in which all pixels of segments have a segment, or, of a panoptic
                prediction, a Partition into other segments, in which pixels may be void.
            coarse: what ``predictions.read(key)`` gives; read again without.
            details: what entries are to say of their refinement; None: nothing.

        Raises:
            UserError: another key, or something that isn't a refinement of this image.
        """
        if key not in self._predictions:
            raise UserError(f"image {key} isn't in {self._predictions.path}")
        if key in self.done:
            raise UserError(f"image {key} has been written before: write only images that aren't in `done`")
        coarse = self._predictions.read(key) if coarse is None else coarse
        record = self._predictions.encode(key, refined, coarse)
        if details is not None:
            record = self._predictions.with_fields(record, details)
        with self._lock:
            self._file.append(key, record)
            self.done.add(key)

    def _found(self) -> dict[Key, Place]:
        return records_of_run(self._folder, self._header)

    def tell_broken(self, broken: Mapping[Key, str]) -> None:
        """Keeps which images a shard could not refine, and why, for :meth:`merge`."""
        assert self._shard is not None
        write_broken(self._folder / self._shard.folder_name, broken)

    def written_by_shards(self, of: int, wanted: Collection[Key]) -> tuple[dict[Key, Place], dict[Key, str]]:
        """What the shards of a run wrote, and why they could not refine the images that :meth:`tell_broken` told.

        Args:
            of: their number.
            wanted: keys that they were to write.

        Raises:
            UserError: a shard hasn't written all of its images, or did with other predictions or settings; shards of
                another number are there. The message names the shards to run again.
        """
        self._place.check_free()
        return records_of_shards(self._folder, self._header, self._predictions.keys, wanted, of)

    def merge(self, written: Mapping[Key, Place], broken: Collection[Key] = ()) -> Path:
        """Makes the output from what :meth:`written_by_shards` gives; other images are left as they were predicted.
        Returns its path."""
        return self._finished(written, keeps=bool(broken))

    def finish(self, *, keep_missing: bool = False, broken: Collection[Key] = ()) -> Path:
        """Makes the output from the images of all processes, in the predictions' order; returns its path.

        Args:
            keep_missing: leave images that were never written as they were predicted.
            broken: images that could not be refined, left so, too.

        Raises:
            UserError: images are missing, or the output has come into being meanwhile.
        """
        assert self._shard is None, "a shard is a part of the output"
        self.close()
        self._place.check_free()
        records = self._found()
        missing = [key for key in self._predictions.keys if key not in records and key not in broken]
        if missing and not keep_missing:
            raise UserError(
                f"{len(missing)} of {len(self._predictions)} images have not been refined: {listed(missing)}; run the "
                "same command again, or keep them as they are (keep_missing)"
            )
        return self._finished(records, keeps=bool(broken))

    def _finished(self, records: Mapping[Key, Place], *, keeps: bool) -> Path:
        try:
            self._replace(self._assembled(records), keeps=keeps)
        except OSError as error:
            raise UserError(
                f"{self.output} can't be made ({error.filename or self._folder}: {error.strerror}): mend that and run "
                "the same command again; what is refined is kept"
            ) from None
        return self.output

    def _assembled(self, records: Mapping[Key, Place]) -> list[Path]:
        """Where the new output waits, one path for each target."""
        new = self._folder / f"new-{uuid.uuid4().hex}"
        places = [new / str(n) / target.name for n, target in enumerate(self._place.targets)]
        for place in places:
            place.parent.mkdir(parents=True)
        self._predictions.assemble(places, lambda key: read_record(records[key]) if key in records else None)
        return places

    def _replace(self, places: Sequence[Path], *, keeps: bool) -> None:
        """Moves what was made to where it belongs, and removes what it was made from unless that is kept. A run that is
        killed in the midst of it does it again."""
        self._place.replacing.touch()
        for place, target in zip(places, self._place.targets):
            if target.is_dir():
                os.replace(target, place.with_name("before"))
            os.replace(place, target)
        if keeps:
            self._place.replacing.unlink()
            shutil.rmtree(places[0].parent.parent, ignore_errors=True)
            return
        finished = self._folder.with_name(f"{self._folder.name}-{uuid.uuid4().hex}")
        os.replace(self._folder, finished)
        self._remove_finished()

    def _remove_finished(self) -> None:
        """Removes folders of this output that are no longer needed, also of a run that was killed while it did that."""
        for folder in self._folder.parent.glob(f"{glob.escape(self._folder.name)}-{'[0-9a-f]' * 32}"):
            shutil.rmtree(folder, ignore_errors=True)
