"""Scores predictions, looks at their errors, and makes the page of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from pnm.errors import UserError, listed
from pnm.formats.image_files import ImageFiles
from pnm.metrics.metric_values import MetricValues
from pnm.reporting.blocks import Bullets, Section
from pnm.reporting.error_sections import class_table, confusion_section, errors_section
from pnm.reporting.example_sections import picture_sections
from pnm.reporting.gallery import Sources
from pnm.reporting.metric_sections import class_section, whole_section
from pnm.reporting.rendering import render
from pnm.reporting.score_section import score_section
from pnm.scoring.compare import compare, intervals
from pnm.scoring.error_survey import Surveys, TaskErrors, survey
from pnm.scoring.opening import OpenedResults, ScoringSettings
from pnm.scoring.scores import Scores
from pnm.scoring.task_errors import task_errors

_MOST_NOTES, _FEW_IMAGES = 20, 30
_NEAR_REMARK = (
    "Within the boundary's width is what lies at most d px from the true boundary, on either side, d being the width "
    "that the boundary metrics take in that image; the rest is interior."
)


class ReportSettings(NamedTuple):
    """What a page is to hold.

    Attributes:
        paths: of the predictions, as the page calls them.
        images: folder, or None for pages without photographs.
        number: most images, and most objects, of each kind that are shown.
        least_score: of detections whose errors are counted; None: as many as there are true objects.
        resamples, seed: of the bootstrap.
        workers: threads.
        allow_missing: show grey for images that aren't there.
        progress: show bars.
    """

    paths: Sequence[str]
    images: str | Path | None = None
    number: int = 12
    least_score: float | None = None
    resamples: int = 1000
    seed: int = 0
    workers: int = 1
    allow_missing: bool = False
    progress: bool = True


def find_photographs(opened: OpenedResults, settings: ReportSettings) -> list[Path | None]:
    """The image file of each of the images, None where there is none.

    Raises:
        FileNotFoundError: no such folder.
        UserError: some aren't there, and ``allow_missing`` is False; two fit one.
    """
    if settings.images is None:
        return [None] * len(opened.images)
    folder = ImageFiles(settings.images)
    files = opened.files[0]
    found = [folder.find(files.image_key(image)) for image in opened.images]
    missing = [str(files.image_key(image)) for image, path in zip(opened.images, found) if path is None]
    if missing and not settings.allow_missing:
        raise UserError(
            f"{len(missing)} of {len(found)} images are not in {settings.images}: {listed(missing)}; name the folder "
            "that has them, leave --images out, or show grey for them with --allow-missing"
        )
    return found


def make_report(opened: OpenedResults, scoring: ScoringSettings, settings: ReportSettings) -> str:
    """The page's HTML.

    Raises:
        FileNotFoundError, UserError: see :func:`find_photographs`; files that are damaged.
    """
    files, images = opened.files, opened.images
    photographs = find_photographs(opened, settings)
    tasks = [task_errors(one, scoring, images, settings.least_score) for one in files]
    scores = [one.score(images, settings.workers, settings.progress) for one in files]
    values = with_intervals(scores, settings)
    surveys = survey(files, tasks, images, settings.workers, settings.progress)
    names = [str(files[0].image_key(image)) for image in images]
    sources = Sources(files, tasks, images, names, photographs)
    sections = [
        *_number_sections(values, surveys, tasks, scores, opened.remarks),
        *picture_sections(sources, surveys, settings.number),
    ]
    sections.append(_about(opened, scoring, settings, tasks))
    numbers = page_numbers(opened, scoring, settings, values, surveys)
    return render(_title(scoring.task, len(files)), _facts(opened, scoring, settings), sections, numbers)


def with_intervals(scores: Sequence[Scores], settings: ReportSettings) -> MetricValues:
    """Each metric as an Interval, or of two predictions a Comparison."""
    number = len(scores[0].images)
    options: dict[str, Any] = {"resamples": settings.resamples, "seed": settings.seed}
    total = len(scores) * settings.resamples
    with tqdm(total=total, desc="bootstrap", unit="resample", disable=not settings.progress) as bar:
        if len(scores) == 1:
            return intervals(scores[0].on_samples, number, **options, done=bar.update)
        return compare(scores[0].on_samples, scores[1].on_samples, number, **options, done=bar.update)


def page_numbers(
    opened: OpenedResults,
    scoring: ScoringSettings,
    settings: ReportSettings,
    values: MetricValues,
    surveys: Surveys,
) -> dict[str, Any]:
    """What the page tells, for programs: metrics in 0..1, counts in pixels and objects."""

    def plain(entry: Any) -> Any:
        parts = entry._asdict()
        return {k: v._asdict() if hasattr(v, "_asdict") else v for k, v in parts.items()}

    errors = [{name: array.tolist() for name, array in side.counts._asdict().items()} for side in surveys.sides]
    return {
        "task": scoring.task,
        "images": len(opened.images),
        "mismatches": opened.problems,
        "remarks": opened.remarks,
        "predictions": list(settings.paths),
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in scoring._asdict().items()},
        "bootstrap": {"resamples": settings.resamples, "seed": settings.seed},
        "metrics": {name: plain(entry) for name, entry in values.items()},
        "errors": errors,
    }


def _title(task: str, number: int) -> str:
    return f"{task.capitalize()} segmentation: {'two predictions compared' if number == 2 else 'report'}"


def _facts(opened: OpenedResults, scoring: ScoringSettings, settings: ReportSettings) -> list[tuple[str, str]]:
    letters = ["A", "B"] if len(settings.paths) > 1 else ["Prediction"]
    facts = list(zip(letters, settings.paths))
    facts += [("Ground truth", str(scoring.gt)), ("Images", f"{len(opened.images):,}".replace(",", "\u202f"))]
    width = (
        f"{scoring.boundary_px} px" if scoring.boundary_px else f"{scoring.boundary_ratio:g} of the image's diagonal"
    )
    return [*facts, ("Width of boundaries", width)]


def _number_sections(
    values: MetricValues,
    surveys: Surveys,
    tasks: Sequence[TaskErrors],
    scores: Sequence[Scores],
    notes: Sequence[str],
) -> list[Section]:
    compared, task = len(tasks) == 2, tasks[0]
    counts = [side.counts for side in surveys.sides]
    boundary = [name for name in values.by_class if "Boundary" in name and "-F-" not in name]
    by_class = class_section(values, compared, boundary[0] if boundary else "")
    by_class = by_class._replace(blocks=[*by_class.blocks, class_table(counts, task.class_names)])
    ignored = scores[0].share_ignored
    remarks = [f"The ground truth ignores {100 * ignored:.1f} % of the pixels."] if ignored else []
    remarks += notes[:_MOST_NOTES]
    if len(scores[0].images) < _FEW_IMAGES:
        remarks.append(
            f"Intervals of {len(scores[0].images)} images tell little; of a class that one image alone has, they are a "
            "point."
        )
    return [
        whole_section(values, compared, remarks),
        by_class,
        errors_section(counts, task.ways, _remarks(tasks), task.pixels),
        confusion_section(counts, task.class_names, task.unit, task.confusion_remark),
        score_section([side.scores for side in surveys.sides], task.class_names),
    ]


def _remarks(tasks: Sequence[TaskErrors]) -> list[str]:
    """How errors are counted; what differs between A and B is told of both."""
    lines = []
    for a, b in zip(tasks[0].remarks, tasks[-1].remarks):
        lines += [a] if a == b else [f"A: {a}", f"B: {b}"]
    return [*lines, _NEAR_REMARK]


def _about(
    opened: OpenedResults, scoring: ScoringSettings, settings: ReportSettings, tasks: Sequence[TaskErrors]
) -> Section:
    lines = [
        f"Intervals are the 2.5th and 97.5th percentile of {settings.resamples} bootstrap resamples of the images, "
        f"seed {settings.seed}. The numbers are those of tools/evaluate.py with the same arguments.",
        f"At most {settings.number} images or objects of each kind are shown; nothing is left out of the numbers. All "
        "numbers are in this file as JSON, in the element with the id “numbers”.",
    ]
    if settings.images is None:
        lines.append("Without --images, maps are drawn on grey.")
    if opened.problems:
        lines.append(f"{len(opened.problems)} mismatch(es) were left out: {listed(opened.problems, 10)}")
    return Section("about", "About this page", [Bullets(lines)])
