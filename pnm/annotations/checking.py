"""A data set looked through: its table as text, its page as a picture."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pnm.annotations.annotation_set import AnnotationSet
from pnm.annotations.contact_sheet import draw_sheet
from pnm.annotations.doubts import KINDS, Doubt
from pnm.annotations.survey import survey, tables
from pnm.errors import UserError
from pnm.formats.atomic_files import atomic_file

_LONGEST = 65000  # px of a JPEG's side


def check_annotations(
    annotations: AnnotationSet, picture: Path, *, samples: int = 10, each: int = 10, seed: int = 0
) -> str:
    """Writes the page of a data set, see :func:`pnm.annotations.contact_sheet.draw_sheet`, and returns its table.

    Raises:
        UserError: no image is annotated, an annotation can't be read, or the output is no picture's name.
    """
    _picture_format(picture)
    if min(samples, each) < 0 or seed < 0:
        raise UserError("--samples, --each and --seed are numbers from 0")
    if not annotations.images:
        raise UserError(f"no image is annotated ({annotations.format}): check the path, and --split")
    counts = survey(annotations)
    return f"{tables(annotations, counts)}\n{_drawn(annotations, counts.doubts, picture, samples, each, seed)}"


def check_doubts(annotations: AnnotationSet, picture: Path) -> str:
    """Writes the page, and returns what is on it, without the table."""
    return _drawn(annotations, survey(annotations).doubts, picture, 10, 10, 0)


def _picture_format(picture: Path) -> str:
    kind = Image.registered_extensions().get(picture.suffix.lower())
    if kind not in Image.SAVE:
        raise UserError(f"--output is {picture}, expected the name of a picture, such as *.jpg or *.png")
    return kind


def _drawn(
    annotations: AnnotationSet, doubts: Sequence[Doubt], picture: Path, samples: int, each: int, seed: int
) -> str:
    page, kind = draw_sheet(annotations, doubts, samples, each, seed), _picture_format(picture)
    if page.height > _LONGEST:
        raise UserError("the page would be longer than a picture can be: ask for less with --samples and --each")
    with atomic_file(picture) as file:
        page.save(file, format=kind, **({"quality": 88} if kind == "JPEG" else {}))
    by_kind = Counter(doubt.kind for doubt in doubts)
    found = ", ".join(f"{words} {by_kind[name]}" for name, words in KINDS.items() if by_kind[name])
    return f"{f'to look at: {found}' if found else 'nothing doubtful was found'}; page: {picture}"
