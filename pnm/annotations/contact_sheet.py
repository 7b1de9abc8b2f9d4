"""A page of a data set: some of its images with what is annotated, and close-ups of what is doubtful."""

import textwrap
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pnm.annotations.annotation_set import NO_CLASS, AnnotatedImage, AnnotationSet, Segments, object_masks
from pnm.annotations.doubts import KINDS, Doubt
from pnm.masks.colours import colour_labels
from pnm.masks.crops import MaskCrop, crop_segments
from pnm.pictures.pictures import Toning, toned
from pnm.pictures.samples import read_samples

TILE, GAP, COLUMNS = 300, 10, 4  # px, px, tiles in a row at most
_LEAST_COLUMNS, _MOST_CLASSES = 2, 60  # of a page, and in its legend
_HEADING, _TEXT, _LINES = 26, 13, 2  # px, px, lines of a caption
_MARGIN = 0.4  # of an object's larger side, around it
_LEAST = 48  # px of the image that a close-up shows at least
_MARK = 230, 60, 0  # of what is doubtful: seen by people who don't tell red from green
_RING, _RINGS = (0, 90, 255), 20
_OPACITY = 0.45


class Sheet:
    """A page that grows downwards: headings, legends, and rows of tiles with captions.

    Args:
        columns: tiles in a row.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._width = columns * (TILE + GAP) + GAP
        self._parts: list[Image.Image] = []
        self._font, self._bold = (ImageFont.load_default(size) for size in (_TEXT, _TEXT + 4))

    def add_heading(self, text: str) -> None:
        """A line of text across the page."""
        part = Image.new("RGB", (self._width, _HEADING), "white")
        ImageDraw.Draw(part).text((GAP, _HEADING // 2), text, fill="black", font=self._bold, anchor="lm")
        self._parts.append(part)

    def add_legend(self, colours: Mapping[str, tuple[int, int, int]]) -> None:
        """Names beside their colours, in as many lines as it takes."""
        lines: list[list[tuple[int, str]]] = [[]]
        left = GAP
        for name in colours:
            width = _TEXT + 6 + round(self._font.getlength(name)) + 2 * GAP
            if left + width > self._width and lines[-1]:
                lines.append([])
                left = GAP
            lines[-1].append((left, name))
            left += width
        part = Image.new("RGB", (self._width, len(lines) * (_TEXT + 8)), "white")
        pen = ImageDraw.Draw(part)
        for n, line in enumerate(lines):
            top = n * (_TEXT + 8) + 2
            for left, name in line:
                pen.rectangle((left, top, left + _TEXT, top + _TEXT), fill=colours[name])
                pen.text((left + _TEXT + 6, top), name, fill=(60, 60, 60), font=self._font)
        self._parts.append(part)

    def add_tiles(self, tiles: Sequence[tuple[np.ndarray, str]]) -> None:
        """Pictures (h, w, 3) uint8, each made to fit its tile, and their captions."""
        for first in range(0, len(tiles), self._columns):
            some = [(_fitted(picture), caption) for picture, caption in tiles[first : first + self._columns]]
            high = max(picture.height for picture, _ in some)
            row = Image.new("RGB", (self._width, high + _LINES * (_TEXT + 3) + GAP), "white")
            for column, (picture, caption) in enumerate(some):
                left = GAP + column * (TILE + GAP)
                row.paste(picture, (left + (TILE - picture.width) // 2, high - picture.height))
                self._caption(ImageDraw.Draw(row), caption, left, high)
            self._parts.append(row)

    def _caption(self, pen: ImageDraw.ImageDraw, text: str, left: int, top: int) -> None:
        signs = int(TILE / self._font.getlength("n"))
        lines = textwrap.wrap(text, signs, max_lines=_LINES, placeholder=" ...", break_on_hyphens=False)
        for n, line in enumerate(lines):
            pen.text((left, top + 3 + n * (_TEXT + 3)), line, fill=(60, 60, 60), font=self._font)

    def page(self) -> Image.Image:
        """The whole page."""
        page = Image.new("RGB", (self._width, sum(part.height for part in self._parts) + GAP), "white")
        top = 0
        for part in self._parts:
            page.paste(part, (0, top))
            top += part.height
        return page


def _fitted(picture: np.ndarray) -> Image.Image:
    scale = TILE / max(picture.shape[:2])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    way = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.BICUBIC
    return Image.fromarray(picture).resize(size, way)


def draw_sheet(
    annotations: AnnotationSet, doubts: Sequence[Doubt], samples: int, each: int, seed: int = 0
) -> Image.Image:
    """The page.

    Args:
        samples: images that are shown whole, drawn by ``seed``.
        each: doubts of each kind that are shown, the gravest first, no two of one image while there are others.
    """
    number = min(samples, len(annotations.images))
    shown = {kind: _gravest([doubt for doubt in doubts if doubt.kind == kind], each) for kind in KINDS}
    widest = max(number, *map(len, shown.values()))
    sheet = Sheet(min(max(widest, _LEAST_COLUMNS), COLUMNS))
    chosen = sorted(np.random.default_rng(seed).choice(len(annotations.images), number, replace=False).tolist())
    if chosen:
        images = [annotations.images[n] for n in chosen]
        sheet.add_heading(f"{number} of {len(annotations.images)} images, drawn at random")
        classes = sorted(set().union(*(_classes_on(annotations, image) for image in images)))
        sheet.add_legend({annotations.categories[k].name: _colour(k) for k in classes[:_MOST_CLASSES]})
        sheet.add_tiles([(draw_image(annotations, image), image.name) for image in images])
    for kind, words in KINDS.items():
        count = sum(doubt.kind == kind for doubt in doubts)
        if count:
            sheet.add_heading(f"{words}: {count}{f', {len(shown[kind])} shown' if len(shown[kind]) < count else ''}")
            tiles = [(draw_doubt(annotations, doubt), f"{doubt.image.name}: {doubt.what}") for doubt in shown[kind]]
            sheet.add_tiles(tiles)
    return sheet.page()


def _classes_on(annotations: AnnotationSet, image: AnnotatedImage) -> set[int]:
    content = annotations.read(image)
    if isinstance(content, np.ndarray):
        return set(np.unique(content).tolist()) - {NO_CLASS}
    return {thing.category for thing in (content.segments if isinstance(content, Segments) else content)}


def _gravest(doubts: Sequence[Doubt], most: int) -> list[Doubt]:
    seen: dict[str, int] = {}
    ranked = []
    for doubt in sorted(doubts, key=lambda one: -one.weight):
        seen[doubt.image.name] = seen.get(doubt.image.name, 0) + 1
        ranked.append((seen[doubt.image.name], doubt))
    return [doubt for _, doubt in sorted(ranked, key=lambda pair: pair[0])[:most]]


def _background(annotations: AnnotationSet, image: AnnotatedImage) -> np.ndarray:
    """The image, or grey where its file isn't known or is of another size."""
    path = annotations.folder / image.name if annotations.folder else None
    there = path is not None and path.is_file()
    picture = toned(read_samples(path), Toning(), str(path)) if there and path else None
    if picture is None or picture.shape[:2] != image.size:
        return np.full((*image.size, 3), 128, np.uint8)
    return picture


def draw_image(annotations: AnnotationSet, image: AnnotatedImage) -> np.ndarray:
    """(H, W, 3) uint8: the image under what is annotated, each class in its colour, objects and segments outlined."""
    picture, content = _background(annotations, image), annotations.read(image)
    if isinstance(content, np.ndarray):
        layer = picture.copy()
        for k in np.unique(content).tolist():
            if k != NO_CLASS:
                layer[content == k] = _colour(k)
        return cv2.addWeighted(picture, 1 - _OPACITY, layer, _OPACITY, 0)
    if isinstance(content, Segments):
        masks = crop_segments(content.ids, [thing.id for thing in content.segments])  # type: ignore[misc]
        content = content.segments
    else:
        masks = object_masks(image, content)
    for thing, mask in zip(content, masks):
        _lay(picture, mask, _colour(thing.category))
    return picture


def draw_doubt(annotations: AnnotationSet, doubt: Doubt) -> np.ndarray:
    """(h, w, 3) uint8: a close-up, with what is doubtful outlined."""
    picture, mask = _background(annotations, doubt.image), doubt.mask
    height, width = mask.pixels.shape
    thickness = max(1, round(max(height, width, _LEAST) / TILE * 2))
    _outline(picture, mask, _MARK, thickness)
    if doubt.kind == "specks":
        _ring_specks(picture, mask, thickness)
    margin = max(round(_MARGIN * max(height, width)), (_LEAST - max(height, width)) // 2, 4)
    top, left = max(0, mask.top - margin), max(0, mask.left - margin)
    return picture[top : mask.top + height + margin, left : mask.left + width + margin]


def _ring_specks(picture: np.ndarray, mask: MaskCrop, thickness: int) -> None:
    """Rings around the smallest parts of a mask, which would be overlooked."""
    _, _, stats, centres = cv2.connectedComponentsWithStats(mask.pixels.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    for n in np.argsort(areas)[: max(1, min(_RINGS, len(areas) - 1))].tolist():
        x, y = np.rint(centres[n + 1]).astype(int).tolist()
        radius = 4 * thickness + round(float(areas[n]) ** 0.5)
        cv2.circle(picture, (x + mask.left, y + mask.top), radius, _RING, thickness, cv2.LINE_AA)


def _colour(number: int) -> tuple[int, int, int]:
    red, green, blue = colour_labels(np.array([[number + 1]]))[0, 0].tolist()
    return red, green, blue


def _lay(picture: np.ndarray, mask: MaskCrop, colour: tuple[int, int, int]) -> None:
    height, width = mask.pixels.shape
    window = picture[mask.top : mask.top + height, mask.left : mask.left + width]
    mixed = (1 - _OPACITY) * window[mask.pixels] + _OPACITY * np.array(colour)
    window[mask.pixels] = np.rint(mixed).astype(np.uint8)
    _outline(picture, mask, colour, max(1, max(picture.shape) // 400))


def _outline(picture: np.ndarray, mask: MaskCrop, colour: tuple[int, int, int], thickness: int) -> None:
    shapes, _ = cv2.findContours(
        mask.pixels.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(mask.left, mask.top)
    )
    cv2.drawContours(picture, shapes, -1, colour, thickness, cv2.LINE_AA)
