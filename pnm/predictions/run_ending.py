"""How a run over result files ends: its output is made, and images that could not be refined are told.

Their predictions stay as they were.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pnm.errors import UserError, print_lines
from pnm.formats.image_files import Key
from pnm.predictions.change_counts import ChangeCount
from pnm.predictions.detail_report import DetailReport
from pnm.predictions.prediction_set import PredictionSet
from pnm.predictions.prediction_writer import PredictionWriter
from pnm.shards import Shard


class Refined(NamedTuple):
    """What a run, or a process of it, has done.

    Attributes:
        changes: in those that could be refined.
        broken: of each image that could not be refined, in the order of the run, why.
    """

    changes: ChangeCount
    broken: Mapping[Key, str]

    def plus(self, other: "Refined") -> "Refined":
        """Of two processes."""
        return Refined(self.changes.plus(other.changes), {**self.broken, **other.broken})


def end_run(args: argparse.Namespace, writer: PredictionWriter, keys: Sequence[Key], refined: Refined) -> None:
    """Makes the output, or ends a shard, when all processes are through, and says what became of the images.

    Raises:
        UserError: images are missing, or could not be refined, with the output made unless it is all of them.
    """
    changes, broken = refined
    told = f"{len(keys) - len(broken)} images refined"
    if args.shard is not None:
        writer.tell_broken(broken)
        through = f"in shard {args.shard}; when all are through: --merge {args.shard.of}"
        print(f"{args.output}: {told} {through}, {changes.told(len(keys) - len(broken))}")
        _raise_broken_of_shard(broken, len(keys), args.shard)
        return
    _check_not_all(broken, keys)
    output = writer.finish(keep_missing=args.keep_missing, broken=broken)
    print(f"{output}: {told}, {changes.told(len(keys) - len(broken))}")
    _raise_broken(broken, len(keys), output, "the same command with --overwrite")


def merge_shards(
    args: argparse.Namespace, predictions: PredictionSet, present: set[Key], report: DetailReport, fingerprint: str
) -> None:
    """Makes the output that one run would have made from what the shards wrote.

    Raises:
        UserError: a shard lacks images or details, or belongs to another run; images could not be refined, with the
            output made unless it is all of them.
    """
    writer = predictions.writer(args.output, fingerprint, overwrite=args.overwrite, merges=True)
    records, broken = writer.written_by_shards(args.merge, present)
    report.check_done(records.keys())
    _check_not_all(broken, [*present])
    output = writer.merge(records, broken)
    print(f"{output}: {len(present) - len(broken)} images that {args.merge} shards refined")
    _raise_broken(broken, len(present), output, "this command with --overwrite in the place of --merge")


def _check_not_all(broken: Mapping[Key, str], keys: Sequence[Key]) -> None:
    """A UserError, after a line on each, if there are images and none of them could be refined."""
    if broken and len(broken) == len(keys):
        _tell(broken)
        raise UserError(f"none of {len(keys)} images could be refined, see above: nothing was written")


def _raise_broken(broken: Mapping[Key, str], images: int, output: Path, again: str) -> None:
    """A UserError, after a line on each, if some images of an output that is made could not be refined; ``again`` says
    what refines them alone."""
    if broken:
        _tell(broken)
        raise UserError(
            f"{len(broken)} of {images} images could not be refined, see above: their predictions are in {output} as "
            f"they were, and the others are refined. Mend the images and run {again}, which refines these alone by "
            f"what {output}.partial keeps. Delete that to leave it so, or if files of the predictions have changed, too"
        )


def _raise_broken_of_shard(broken: Mapping[Key, str], images: int, shard: Shard) -> None:
    """As :func:`_raise_broken`, of a shard."""
    if broken:
        _tell(broken)
        raise UserError(
            f"{len(broken)} of the {images} images of shard {shard} could not be refined, see above; the others are. "
            f"Mend the images and run the same command again, or go on: --merge {shard.of} leaves their predictions as "
            "they were"
        )


def _tell(broken: Mapping[Key, str]) -> None:
    print_lines([f"image {key}: {fault}" for key, fault in broken.items()])
