"""Stored weight maps of registered data sets: what ``tools/precompute_weights.py`` does once its arguments are read."""

import argparse
import datetime
import difflib
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from pnm.compiling import announce_compilation
from pnm.errors import UserError, print_lines
from pnm.formats.label_png import read_bytes
from pnm.null_model.stored.check import check_weight_maps
from pnm.null_model.stored.manifest import MANIFEST, check_header, read_manifest
from pnm.null_model.stored.maps import WeightMapParameters, default_weight_root, remedy, weight_folder
from pnm.null_model.stored.sharded_maps import merge_map_shards, write_map_shard
from pnm.null_model.stored.surprisal import check_map_locality
from pnm.null_model.stored.writer import WriteSummary, make_map, write_weight_maps
from pnm.shards import Shard, all_shards, shard_of

from ..dataset_mappers.label_files import PANOPTIC, SEMANTIC, LabelFiles
from .config import load_config
from .data.data_errors import as_user_error
from .data.user_data import register_user_data
from .run_setup import register_builtin_data

SAMPLE = 8  # label files that an estimate is measured on


class Job(NamedTuple):
    """A data set's label files, and where and with which parameters their maps are made."""

    folder: Path
    parameters: WeightMapParameters
    label_files: list[str]


def label_files_of(name: str, labels: str | None = None) -> tuple[list[str], str]:
    """Label files of a registered data set in its order, and whether they are "semantic" or "panoptic".

    Args:
        labels: which of them; None for whatever it has, semantic ones first.

    Raises:
        UserError: it is not registered, cannot be read, is empty, or has no such label maps.
    """
    if name not in DatasetCatalog.list():
        near = difflib.get_close_matches(name, DatasetCatalog.list(), n=1)
        advice = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"data set {name!r} is not registered; {advice}for your own data add "
            "--config-file FILE, whose DATASETS.REGISTER has it, or --register LIST"
        )
    with as_user_error((name,)):
        records = DatasetCatalog.get(name)
    if not records:
        raise UserError(f"data set {name} is empty; check its annotation file or folder")
    label_files = LabelFiles([MetadataCatalog.get(name)])
    for kind in (SEMANTIC, PANOPTIC):
        files = [label_files.of(record, kind) for record in records]
        if labels in (None, kind) and None not in files:
            return [file for file in dict.fromkeys(files) if file is not None], kind
    if labels == PANOPTIC and all(label_files.of(record, SEMANTIC) for record in records):
        raise UserError(
            f"data set {name} has no panoptic PNGs: name their folder as segments in DATASETS.REGISTER, or leave "
            "--labels panoptic away"
        )
    kind = f"{labels} label maps" if labels else "label maps"
    raise UserError(f"data set {name} has no {kind}; weight maps exist for semantic and panoptic data sets")


def job_of(name: str, args: argparse.Namespace) -> Job:
    """What the command line asks for, of one data set."""
    label_files, labels = label_files_of(name, args.labels)
    ignore_label = args.ignore_label
    if ignore_label is None:
        ignore_label = 0 if labels == "panoptic" else MetadataCatalog.get(name).get("ignore_label", 255)
    parameters = WeightMapParameters(name, args.locality, args.border, ignore_label, labels)
    return Job(weight_folder(args.output, parameters), parameters, label_files)


def register_data(args: argparse.Namespace) -> None:
    """Registers the data sets of this project, and the user's."""
    register_builtin_data()
    overrides = ["DATASETS.REGISTER", args.register] if args.register else []
    register_user_data(load_config(args.config_file, overrides))


def dry_run(job: Job, workers: int) -> str:
    """One line: how many maps there are and how many there will be, with size and time measured on a few of these."""
    name, known = job.parameters.dataset, set()
    if (job.folder / MANIFEST).exists():
        manifest = read_manifest(job.folder, job.parameters)
        check_header(manifest, job.folder, job.parameters)
        known = {row.label for row in manifest.rows}
    todo = [file for file in job.label_files if Path(file).name not in known]
    line = f"{name}: {len(job.label_files)} label files, {len(job.label_files) - len(todo)} have maps in {job.folder}"
    if not todo:
        return line
    sample = [todo[k] for k in np.unique(np.linspace(0, len(todo) - 1, SAMPLE).astype(int))]
    make_map(read_bytes(sample[0]), sample[0], job.parameters)  # compiled, or loaded, once
    start = time.perf_counter()
    maps = [make_map(read_bytes(file), file, job.parameters)[0] for file in sample]
    seconds = (time.perf_counter() - start) / len(sample) * len(todo) / workers
    size = sum(map(len, maps)) / len(sample) * len(todo)
    duration = datetime.timedelta(seconds=round(seconds))
    return (
        f"{line}; the other {len(todo)} will take about {size / 1e6:.1f} MB and {duration} with {workers} worker(s), "
        f"measured on {len(sample)} of them"
    )


def summary_line(job: Job, summary: WriteSummary, workers: int) -> str:
    """One line about what was done."""
    line = (
        f"{job.parameters.dataset}: {summary.written} maps written to {job.folder} "
        f"({summary.bytes_written / 1e6:.1f} MB), {summary.kept} kept, {summary.removed} removed"
    )
    total = sum(summary.seconds)
    if not summary.written or not total:
        return line
    shares = [f"{seconds / total:.0%}" for seconds in summary.seconds]
    rate = (summary.written + summary.kept) / summary.elapsed
    return (
        f"{line}; {rate:.1f} images/s with {workers} worker(s): {shares[0]} of their time reading and decoding, "
        f"{shares[1]} null model, {shares[2]} encoding and writing"
    )


def verify(job: Job, workers: int) -> bool:
    """Tells all that is wrong with the maps of a data set, and what mends it; whether nothing is."""
    findings = check_weight_maps(job.folder, job.parameters, job.label_files, workers=workers, progress=True)
    if not findings:
        print(f"{job.parameters.dataset}: {len(job.label_files)} label files have intact maps in {job.folder}")
        return True
    print_lines([f"{finding.kind}: {finding.text}" for finding in findings])
    kinds = [finding.kind for finding in findings]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    print(f"{job.parameters.dataset}: {counts}; run: {remedy(job.parameters, job.folder)}")
    return False


def make_maps(job: Job, workers: int, overwrite: bool, shard: Shard | None) -> None:
    """Makes the maps of a data set, or of a shard. A UserError if label files could not be read, the others done."""
    running: dict[str, Any] = {"workers": workers, "overwrite": overwrite, "progress": True}
    if shard is None:
        summary = write_weight_maps(job.folder, job.parameters, job.label_files, **running)
    else:
        summary = write_map_shard(job.folder, job.parameters, job.label_files, shard, **running)
    told = "" if shard is None else f"; shard {shard}, when all are through: --merge {shard.of}"
    print(f"{summary_line(job, summary, workers)}{told}")
    if summary.failures:
        print_lines(summary.failures)
        raise UserError(
            f"{len(summary.failures)} of {len(job.label_files)} label files of {job.parameters.dataset} could not be "
            "read, see above; mend them and run the same command again"
        )


def merge_maps(job: Job, of: int, overwrite: bool) -> None:
    """Puts together what shards made of a data set."""
    removed = merge_map_shards(job.folder, job.parameters, job.label_files, of, overwrite=overwrite)
    print(f"{job.parameters.dataset}: maps of {len(job.label_files)} label files in {job.folder}, {removed} removed")


def _checked_shard(args: argparse.Namespace) -> Shard | None:
    """The shard that the arguments name, if any; a UserError if it can't be, or --merge can't."""
    if args.shard is not None and args.merge is not None:
        raise UserError("--shard and --merge both came: give --shard K/N until all are through, then --merge N")
    if (args.shard is not None or args.merge is not None) and (args.dry_run or args.verify):
        raise UserError("--dry-run and --verify look at all of a data set: leave out --shard and --merge")
    if args.merge is not None:
        all_shards(args.merge)
    return None if args.shard is None else shard_of(args.shard)


def run(args: argparse.Namespace) -> bool:
    """Whether all is well; only --verify says no."""
    shard = _checked_shard(args)
    args.output = args.output or default_weight_root()
    if args.workers < 1:
        raise UserError(f"--workers is {args.workers}, expected a positive number")
    check_map_locality(args.locality, args.border)
    register_data(args)
    announce_compilation()
    well = True
    for job in [job_of(name, args) for name in dict.fromkeys(args.dataset)]:
        if args.dry_run:
            print(dry_run(job, args.workers))
        elif args.verify:
            well &= verify(job, args.workers)
        elif args.merge is not None:
            merge_maps(job, args.merge, args.overwrite)
        else:
            make_maps(job, args.workers, args.overwrite, shard)
    return well
