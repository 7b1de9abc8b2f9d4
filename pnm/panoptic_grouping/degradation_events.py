"""What goes wrong with single segments of a panoptic prediction, done to a true map: one function an event.

Each changes a draft in place and leaves no pixel freed; ``rate`` is the event's probability for each segment that it
can happen to.
"""

import cv2
import numpy as np

from pnm.masks.crops import MaskCrop
from pnm.masks.degraded_masks import degrade
from pnm.panoptic_grouping.map_draft import FREED, VOID, Draft

MERGE_PX = 10  # instances that are merged are at most that far apart
VOID_INSTEAD = 0.3  # of freed pixels, an event at a time: they become void and not a neighbour's
WRONG_THING = 0.7  # of wrong classes: they are another thing's, the rest are stuff's
HOLE_SHARE = 0.05, 0.25  # of an instance's area, all its holes together
MOST_HOLES = 3
ELLIPSE_SHARE = 0.1, 0.3  # of the image's height and width: invented instances that have no model
STUFF_STRIDE = 8  # of the map that stuff outlines are drawn from
MOST_BORDER_PX = 3  # width of void along borders


def _freed_or_void(rng: np.random.Generator) -> int:
    return VOID if rng.random() < VOID_INSTEAD else FREED


def _near_labels(draft: Draft, label: int, crop: MaskCrop) -> set[int]:
    """Labels that occur within MERGE_PX of a segment."""
    (h, w), (height, width) = crop.pixels.shape, draft.labels.shape
    rows = slice(max(0, crop.top - MERGE_PX), min(height, crop.top + h + MERGE_PX))
    columns = slice(max(0, crop.left - MERGE_PX), min(width, crop.left + w + MERGE_PX))
    around = draft.labels[rows, columns]
    distances = cv2.distanceTransform((around != label).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return set(np.unique(around[distances <= MERGE_PX]).tolist()) - {label, VOID}


def merge_instances(draft: Draft, rng: np.random.Generator, rate: float) -> None:
    """Joins an instance with one of its class at most MERGE_PX away, if there is one."""
    owners = {label: label for label in draft.classes}
    for label, crop in draft.instances().items():
        if rng.random() >= rate:
            continue
        near = [
            other for other in sorted(_near_labels(draft, label, crop)) if draft.classes[other] == draft.classes[label]
        ]
        if near:
            old, new = owners[label], owners[near[rng.integers(len(near))]]
            owners = {key: new if owner == old else owner for key, owner in owners.items()}
    draft.relabel({label: owner for label, owner in owners.items() if label != owner})


def split_instances(draft: Draft, rng: np.random.Generator, rate: float) -> None:
    """Splits an instance by a line of random direction through its centre of mass; both parts keep the class."""
    for label, crop in draft.instances().items():
        if rng.random() >= rate:
            continue
        yy, xx = np.nonzero(crop.pixels)
        angle = rng.uniform(0, 2 * np.pi)
        beyond = (yy - yy.mean()) * np.sin(angle) + (xx - xx.mean()) * np.cos(angle) > 0
        if beyond.any():
            draft.window(crop)[yy[beyond], xx[beyond]] = draft.add(draft.classes[label])


def drop_instances(draft: Draft, rng: np.random.Generator, rate: float) -> None:
    """Drops an instance: its pixels become a neighbour's or void."""
    for crop in draft.instances().values():
        if rng.random() < rate:
            draft.paint(crop, _freed_or_void(rng))
    draft.fill_freed()


def change_classes(draft: Draft, rng: np.random.Generator, rate: float) -> None:
    """Gives an instance another thing class or a stuff class, whose segment it joins; nothing if there is no other."""
    for label in draft.instances():
        if rng.random() >= rate:
            continue
        if draft.things > 1 and (rng.random() < WRONG_THING or not draft.stuff):
            draft.classes[label] = int((draft.classes[label] + rng.integers(1, draft.things)) % draft.things)
        elif draft.stuff:
            draft.classes[label] = int(draft.things + rng.integers(draft.stuff))
    draft.join_stuff()


def _holes(crop: MaskCrop, rng: np.random.Generator) -> MaskCrop:
    """One to three ellipses about inner pixels of a mask, as large as makes them the share of it that is drawn.

    Each pixel's distance to the nearest ellipse's centre is measured in that ellipse's radii, and the nearest pixels
    are holes: of ellipses that leave the mask or overlap, the rest is larger.
    """
    yy, xx = np.nonzero(crop.pixels)
    least, most = int(np.ceil(HOLE_SHARE[0] * len(yy))), int(HOLE_SHARE[1] * len(yy))
    holes = np.zeros_like(crop.pixels)
    if most < least:
        return MaskCrop(holes, crop.top, crop.left)  # fewer than four pixels
    depth = cv2.distanceTransform(np.pad(crop.pixels, 1).view(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1][yy, xx]
    centres = rng.choice(np.flatnonzero(depth >= depth.max() / 2), rng.integers(1, MOST_HOLES + 1))
    distances = np.full(len(yy), np.inf)
    for centre in centres:
        angle, elongation, radius = rng.uniform(0, np.pi), rng.uniform(1, 2), rng.uniform(0.5, 1)
        y, x = yy - yy[centre], xx - xx[centre]
        along, across = y * np.sin(angle) + x * np.cos(angle), y * np.cos(angle) - x * np.sin(angle)
        distances = np.minimum(distances, np.hypot(along / elongation, across) / radius)
    area = int(np.clip(round(rng.uniform(*HOLE_SHARE) * len(yy)), least, most))
    inside = np.argpartition(distances, area - 1)[:area]
    holes[yy[inside], xx[inside]] = True
    return MaskCrop(holes, crop.top, crop.left)


def make_holes(draft: Draft, rng: np.random.Generator, rate: float) -> None:
    """Takes 5 to 25 % of an instance's pixels from its inside: they become a neighbour's or void."""
    changed = []
    for label, crop in draft.instances().items():
        if rng.random() < rate:
            draft.paint(_holes(crop, rng), _freed_or_void(rng))
            changed.append(label)
    draft.fill_freed(changed)


def redraw_instances(draft: Draft, rng: np.random.Generator, rate: float) -> None:
    """Gives an instance a coarse outline; what it leaves becomes a neighbour's, as those lie under it, or void.

    The redrawn are laid over the others in random order. A mask of which nothing would be left stays as it is.
    """
    height, width = draft.labels.shape
    redrawn = {}
    for label, crop in draft.instances().items():
        if rng.random() < rate:
            coarse = degrade(crop, height, width, rng)
            redrawn[label] = coarse if coarse.pixels.any() else crop
            draft.paint(crop, _freed_or_void(rng))
    draft.fill_freed(redrawn)
    for label in rng.permutation(list(redrawn)).tolist():
        draft.paint(redrawn[label], label)


def _ellipse(height: int, width: int, rng: np.random.Generator) -> MaskCrop:
    """For an image of height x width."""
    h, w = (max(1, round(side * rng.uniform(*ELLIPSE_SHARE))) for side in (height, width))
    yy, xx = np.ogrid[:h, :w]
    return MaskCrop(((2 * yy + 1 - h) / h) ** 2 + ((2 * xx + 1 - w) / w) ** 2 <= 1, 0, 0)


def invent_instances(draft: Draft, rng: np.random.Generator, mean: float) -> None:
    """Adds a Poisson-distributed number of instances, ``mean`` on average, that have the masks of others, elsewhere.

    Half of them lie beneath all instances, over stuff and void only, half above.
    """
    if not draft.things:
        return
    (height, width), models = draft.labels.shape, list(draft.instances().values())
    for _ in range(rng.poisson(mean)):
        pixels = (models[rng.integers(len(models))] if models else _ellipse(height, width, rng)).pixels
        top, left = (int(rng.integers(whole - part + 1)) for whole, part in zip((height, width), pixels.shape))
        crop = MaskCrop(pixels.copy(), top, left)
        if rng.random() < 0.5:
            taken = [label for label in draft.classes if draft.is_thing(label)]
            crop.pixels[np.isin(draft.window(crop), taken)] = False
        draft.paint(crop, draft.add(int(rng.integers(draft.things))))


def change_stuff(draft: Draft, rng: np.random.Generator, join_rate: float, void_rate: float) -> None:
    """Gives a stuff segment the class of another one in the image, which it joins, or makes it void."""
    stuff = list(draft.stuff_masks())
    for label in stuff:
        others = [other for other in stuff if other != label and other in draft.classes]
        if rng.random() < join_rate and others:
            draft.relabel({label: others[rng.integers(len(others))]})
        elif rng.random() < void_rate:
            draft.relabel({label: VOID})


def redraw_stuff(draft: Draft, rng: np.random.Generator, rate: float) -> None:
    """Draws a stuff segment's outline against other stuff from shares of squares of STUFF_STRIDE; void stays, too."""
    stuff = list(draft.stuff_masks())
    chosen = [label for label in stuff if rng.random() < rate]
    if len(stuff) < 2 or not chosen:
        return
    height, width = draft.labels.shape
    coarse_size = -(-width // STUFF_STRIDE), -(-height // STUFF_STRIDE)
    largest, winner = np.zeros((height, width), np.float32), np.zeros_like(draft.labels)
    for label in stuff:
        mask = (draft.labels == label).view(np.uint8) * np.uint8(255)
        shares = cv2.resize(mask, coarse_size, interpolation=cv2.INTER_AREA).astype(np.float32)
        drawn = cv2.resize(shares, (width, height), interpolation=cv2.INTER_LINEAR)
        np.copyto(winner, label, where=drawn > largest)
        np.maximum(largest, drawn, out=largest)
    # A border between two segments is one outline: it moves if either of them is chosen.
    moves = np.isin(draft.labels, chosen) | np.isin(winner, chosen)
    moves &= draft.is_any_of(stuff) & (winner != VOID)
    draft.labels[moves] = winner[moves]


def void_borders(draft: Draft, rng: np.random.Generator, rate: float) -> None:
    """Makes 1 to 3 px along all borders of segments void; ``rate`` is an image's."""
    if rng.random() >= rate:
        return
    labels = draft.labels
    border = np.zeros(labels.shape, np.uint8)
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    border[:-1] |= labels[:-1] != labels[1:]
    side = int(rng.integers(1, MOST_BORDER_PX + 1))
    draft.labels[cv2.dilate(border, np.ones((side, side), np.uint8)).view(np.bool_)] = VOID
