"""Scores of a data set that were made shard by shard, put together to the bit as one run would have made them."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError, listed, print_lines
from pnm.scoring.opening import ScoringSettings, semantic_metric
from pnm.scoring.score_states import StateFile, read_state
from pnm.scoring.scores import ImagesPart, Scores, summed_scores
from pnm.shards import Shard, all_shards, raise_faults

_DATA = "data"


class MergedScores(NamedTuple):
    """Scores of each prediction, and what :class:`pnm.scoring.opening.OpenedResults` says beside."""

    scores: list[Scores]
    problems: list[str]
    remarks: list[str]


def data_digest(paths: Mapping[str, str | Path | None]) -> str:
    """Tells files that are scored from others: the content of files, and of folders the names of what is in them.

    Args:
        paths: of predictions and ground truth by what they are called; what isn't there counts by its text.
    """
    digest = hashlib.sha256()
    for name, path in paths.items():
        digest.update(f"{name} {path}\n".encode("utf-8", "surrogateescape"))
        if path is not None and os.path.isfile(path):
            with open(path, "rb") as file:
                for block in iter(partial(file.read, 2**20), b""):
                    digest.update(block)
        elif path is not None and os.path.isdir(path):
            for folder, folders, files in os.walk(path):
                folders.sort()
                text = "\n".join([os.path.relpath(folder, path), *sorted(files), ""])
                digest.update(text.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def belongings(settings: Mapping[str, Any], paths: Mapping[str, str | Path | None]) -> dict[str, Any]:
    """What a state belongs to: settings by their names, and the data; as JSON has them."""
    return {**json.loads(json.dumps(settings, default=str)), _DATA: data_digest(paths)}


def merge_states(paths: Sequence[str | Path], wanted: Mapping[str, Any], settings: ScoringSettings) -> MergedScores:
    """The scores of all shards of a run, from the files that they wrote; in memory are the arrays of one at a time.

    Instance metrics hold theirs, some bytes for each detection.

    Args:
        wanted: settings that the shards must have had.
        settings: those, for the metric; classes come from the files.

    Raises:
        UserError: files that are damaged, of two runs or of other settings, shards that lack or came twice; the message
            names the shards to run again.
    """
    files = _whole_set(paths, json.loads(json.dumps(wanted, default=str)))
    scores = []
    for side in range(len(files[0].sides)):
        places = np.concatenate([file.sides[side].images.arrays["places"] for file in files])
        ranks = np.empty(len(places), np.int64)
        ranks[np.argsort(places)] = np.arange(len(places))
        ends = np.cumsum([len(file.sides[side].images.keys) for file in files])
        parts = [
            file.part(side, ranks[end - len(file.sides[side].images.keys) : end]) for file, end in zip(files, ends)
        ]
        if not len(places):
            raise UserError(f"{settings.gt} has no image in common with what was scored: nothing to score")
        try:
            scores.append(_scores(settings, files[0].sides[side].images.about, parts))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"the states don't fit together ({error}): make them anew") from None
    problems, remarks = _told(files)
    return MergedScores(scores, problems, remarks)


def _told(files: Sequence[StateFile]) -> tuple[list[str], list[str]]:
    """Problems and remarks, in the order in which one run tells them; printed as it does."""
    problems: list[str] = []
    remarks: list[str] = []
    for n, side in enumerate(files[0].sides):
        faults = sorted((fault for file in files for fault in file.sides[n].faults), key=lambda fault: fault.place)
        problems += [*side.problems, *(fault.line for fault in faults)]
        remarks += side.remarks
    problems, remarks = list(dict.fromkeys(problems)), list(dict.fromkeys(remarks))
    print_lines(problems)
    print_lines(remarks)
    return problems, remarks


def _scores(settings: ScoringSettings, about: Mapping[str, Any], parts: Sequence[ImagesPart]) -> Scores:
    """Scores of parts, by the metric of the task."""
    if settings.task == "semantic":
        metric = semantic_metric(settings, about["class_names"])
        return summed_scores(metric, [_checked(part, metric.statistics.shape) for part in parts])
    if settings.task == "panoptic":
        from pnm.metrics.panoptic_quality import PanopticQuality

        isthing = dict(about["isthing"])
        names = dict(zip(isthing, about["class_names"], strict=True))
        quality = PanopticQuality(isthing, class_names=names, **settings.panoptic_boundary)
        return summed_scores(quality, [_checked(part, quality.statistics.shape) for part in parts])
    from pnm.metrics.instance_ap import InstanceMetrics
    from pnm.scoring.instance_states import instance_scores

    names = about["class_names"]
    return instance_scores(
        InstanceMetrics(about["category_ids"], class_names=names, **settings.instance_options), parts
    )


def _checked(part: ImagesPart, shape: tuple[int, ...]) -> ImagesPart:
    """A part whose arrays are looked at whenever they are loaded: others than a metric makes are a UserError."""

    def load(name: str) -> np.ndarray:
        array = part.load(name)
        wanted = (len(part.keys), *shape) if name == "statistics" else (len(part.keys),)
        if array.shape != wanted or array.dtype != np.int64:
            raise UserError(f"a state has {name} {array.shape} {array.dtype}, expected {wanted} int64: make it anew")
        return array

    return part._replace(load=load)


def _whole_set(paths: Sequence[str | Path], wanted: Mapping[str, Any]) -> list[StateFile]:
    """The files in the order of their shards; see :func:`merge_states` for errors."""
    files, damages = [], []
    for path in dict.fromkeys(map(Path, paths)):
        try:
            files.append(read_state(path))
        except UserError as error:
            damages.append(str(error))
    print_lines(damages)
    if not files:
        raise UserError(
            f"none of {len(damages)} files is a state of a shard, see above: --merge takes those of --shard"
        )
    counts = sorted({file.shard.of for file in files})
    if len(counts) > 1:
        raise UserError(f"--merge got shards of runs in {listed(counts)} parts: give those of one run")
    _check_once(files)
    by_shard = {file.shard: file for file in files}
    common = Counter(_print(file, wanted) for file in files).most_common(1)[0][0]
    faults = {}
    for shard in all_shards(counts[0]):
        fault = _fault(by_shard.get(shard), wanted, common)
        if fault:
            faults[shard] = fault
    raise_faults(faults, counts[0])
    return [by_shard[shard] for shard in all_shards(counts[0])]


def _check_once(files: Iterable[StateFile]) -> None:
    seen: dict[Shard, Path] = {}
    for file in files:
        if file.shard in seen:
            raise UserError(f"{seen[file.shard]} and {file.path} are both of shard {file.shard}: name one of them")
        seen[file.shard] = file.path


def _print(file: StateFile, wanted: Mapping[str, Any]) -> str:
    """Of what states of one run have in common beside the settings."""
    rest = {name: value for name, value in file.belongs.items() if name not in wanted}
    return json.dumps([file.listed, rest, [side.images.about for side in file.sides]])


def _fault(file: StateFile | None, wanted: Mapping[str, Any], common: str) -> str:
    """What keeps a shard from being put together with the others, in words."""
    if file is None:
        return "no file of it was named, or it is damaged"
    other = [name for name, value in wanted.items() if file.belongs.get(name) != value]
    if other:
        return f"{file.path} was made with other {listed(['--' + name.replace('_', '-') for name in other])}"
    return "" if _print(file, wanted) == common else f"{file.path} is of other data than most shards"
