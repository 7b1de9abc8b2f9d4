"""The sections of pictures: the worst images and objects, what a second prediction changes, annotations in doubt."""

import numpy as np

from pnm.reporting.blocks import Block, Cards, Section, Text
from pnm.reporting.gallery import (
    Sources,
    doubt_cards,
    image_cards,
    iou_text,
    lowest,
    object_cards,
    object_places,
)
from pnm.scoring.error_survey import Surveys

_OF_IMAGES = 2  # blocks


def picture_sections(sources: Sources, surveys: Surveys, number: int) -> list[Section]:
    """The worst images and objects, or of two predictions what changed most, and the annotations in doubt.

    Args:
        number: most images, and most objects, of each kind.
    """
    if len(sources.files) == 2:
        shown = [*_changed_images(sources, surveys, number), *_changed_objects(sources, surveys, number)]
        title = "Best gains and worst losses"
    else:
        shown = [*_worst_images(sources, surveys, number), *_worst_objects(sources, surveys, number)]
        title = "Worst images and objects" if len(shown) > _OF_IMAGES else "Worst images"
    return [Section("examples", title, shown), _doubt_section(sources, surveys, number)]


def _worst_images(sources: Sources, surveys: Surveys, number: int) -> list[Block]:
    ious = surveys.sides[0].boundary_ious
    chosen = lowest(ious, number)
    texts = [iou_text([ious[n]], [""]) for n in chosen]
    text = (
        "Images by their Boundary IoU: boundary pixels that truth and prediction share, of those of either, over all "
        f"classes and objects. {len(chosen)} of {len(ious)} are shown, the lowest first; the frame is the part that is "
        "enlarged, where most pixels are wrong."
    )
    return [Text(text), Cards("Images", image_cards(sources, chosen, texts, "worst images"))]


def _worst_objects(sources: Sources, surveys: Surveys, number: int) -> list[Block]:
    rows = surveys.sides[0].object_ious
    if not sum(map(len, rows)):
        return []
    found = [np.where(row > 0, row, np.nan) for row in rows]
    places = object_places(found, number)
    texts = [iou_text([found[n][k]], [""]) for n, k in places]
    text = "Objects that were found, by the Boundary IoU with their match. Missed objects are counted above."
    return [Text(text), Cards("Objects", object_cards(sources, places, texts, "worst objects"))]


def _changed_images(sources: Sources, surveys: Surveys, number: int) -> list[Block]:
    a, b = (side.boundary_ious for side in surveys.sides)
    blocks: list[Block] = [
        Text(
            "Images by what B changes in their Boundary IoU, over all classes and objects; the frame is the part that "
            "is enlarged, where A and B differ most in what is wrong."
        )
    ]
    for sign, title, what in ((-1, "Images: best gains of B", "gains"), (1, "Images: worst losses of B", "losses")):
        change = sign * (b - a)
        chosen = lowest(np.where(change < 0, change, np.nan), number)
        texts = [iou_text([a[n], b[n]], ["A", "B"]) for n in chosen]
        blocks.append(Cards(title, image_cards(sources, chosen, texts, what)))
    return blocks


def _changed_objects(sources: Sources, surveys: Surveys, number: int) -> list[Block]:
    a, b = (side.object_ious for side in surveys.sides)
    if not sum(map(len, a)):
        return []
    blocks: list[Block] = [Text("True objects by what B changes in the Boundary IoU with their match, 0 if missed.")]
    for sign, title, what in ((-1, "Objects: best gains of B", "gains"), (1, "Objects: worst losses of B", "losses")):
        change = [sign * (two - one) for one, two in zip(a, b)]
        places = object_places([np.where(row < 0, row, np.nan) for row in change], number)
        texts = [iou_text([a[n][k], b[n][k]], ["A", "B"]) for n, k in places]
        blocks.append(Cards(title, object_cards(sources, places, texts, what)))
    return blocks


def _doubt_section(sources: Sources, surveys: Surveys, number: int) -> Section:
    task, shared = sources.tasks[0], surveys.shared_doubts
    doubts = surveys.sides[0].doubts if shared is None else shared
    chosen = lowest(np.where(doubts > 0, -doubts, np.nan), number)
    texts = [task.doubt_text(doubts[n]) for n in chosen]
    blocks: list[Block] = [
        Text("Images whose annotation may be worth a second look, most doubtful first."),
        Text(task.doubt_remark if shared is None else task.shared_doubt_remark),
        Text(f"{int((doubts > 0).sum())} of {len(doubts)} images have any of it; {len(chosen)} are shown."),
        Cards("Annotations in doubt", doubt_cards(sources, chosen, texts), small=True),
    ]
    return Section("annotations", "Annotation check", blocks)
