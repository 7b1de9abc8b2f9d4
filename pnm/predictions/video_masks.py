"""Masks of a video's frames, a picture each, refined."""

import re
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from pnm.errors import UserError, listed
from pnm.formats.atomic_files import atomic_file, check_folder_writable
from pnm.formats.folders import IMAGE_ENDINGS, check_apart, files_below
from pnm.masks.crops import crop_array, paste
from pnm.pictures.rgb_files import picture_size
from pnm.pictures.video import Video
from pnm.predictions.image_predictions import Objects
from pnm.predictions.mask_reading import MaskReading, ReadMask, read_mask
from pnm.predictions.refinement import Step
from pnm.predictions.universal_refiner import UniversalStep

_NUMBER = re.compile(r"(\d+)\D*$")  # the last one in a name


class FrameMasks:
    """The masks of a video.

    Args:
        video: of which all frames can be decoded.
        folder: pictures whose names end in the numbers of their frames, from 0 or from 1; as many as there are frames
            belong to them in the order of their numbers.
        is_inverted: whether the objects are what is darker.

    Attributes:
        masks: paths below the folder by number of the frame, from 0, rising.

    Raises:
        UserError: no such pictures, numbers that the video doesn't have, masks of another size than the frames.
    """

    def __init__(self, video: Video, folder: Path, *, is_inverted: bool = False):
        self.video, self.folder = video, folder
        self._reading = MaskReading("object", is_inverted)
        names = files_below(folder, *IMAGE_ENDINGS)
        numbered = [(_number_of(folder / name), name) for name in names]
        if not numbered:
            raise UserError(f"{folder} has no mask in it: expected a picture for each frame")
        numbers = [number for number, _ in numbered]
        if len(set(numbers)) < len(numbers):
            twice = next(number for number in numbers if numbers.count(number) > 1)
            raise UserError(f"{folder} has two masks of number {twice}: keep one of them")
        self.masks = self._of_frames(dict(sorted(numbered)))
        self._check_sizes()

    def _of_frames(self, numbered: dict[int, str]) -> dict[int, str]:
        if len(numbered) == self.video.frames:
            return dict(enumerate(numbered.values()))
        last, frames = max(numbered), self.video.frames
        if last > frames:
            raise UserError(
                f"{self.folder} has a mask of number {last}, {self.video.path} only {frames} frames: they are numbered "
                "alike, from 0 or 1"
            )
        first = 1 if last == frames else 0
        return {number - first: name for number, name in numbered.items() if number >= first}

    def _check_sizes(self) -> None:
        _, frame = next(self.video.read(range(1)))
        size = frame.shape[:2]
        others = []
        for name in self.masks.values():
            if picture_size(self.folder / name) != size:
                others.append(name)
        if others:
            raise UserError(
                f"frames of {self.video.path} are {size[0]} x {size[1]} (height x width), {len(others)} masks in "
                f"{self.folder} are not: {listed(others, 3)}"
            )

    def read(self, number: int) -> ReadMask:
        """The mask of a frame, one object."""
        return read_mask(self.folder / self.masks[number], self._reading)


def _number_of(path: Path) -> int:
    found = _NUMBER.search(path.stem)
    if found is None:
        raise UserError(f"{path} has no number in its name: expected that of its frame")
    return int(found[1])


def frame_masks(video: Path, masks: Path, output: Path, *, is_inverted: bool = False) -> FrameMasks:
    """What is to be refined, checked; the output folder is made."""
    check_apart(masks, output, "refined masks", of="the masks", taken_for="masks")
    check_folder_writable(output, "--output")
    return FrameMasks(Video(video), masks, is_inverted=is_inverted)


def target(output: Path, name: str) -> Path:
    """Where a refined mask goes: a PNG of the mask's name."""
    return (output / name).with_suffix(".png")


def refine_video(masks: FrameMasks, output: Path, step: Step, numbers: list[int], *, temporal: bool) -> int:
    """Refines the masks of some frames, and writes each as a PNG of 0 and 255, the object being what it was of the two;
    how many of them changed.

    Args:
        step: takes images as they are.
        temporal: steady them where nothing moves, see :mod:`pnm.object_refinement.steadying`; of the universal refiner.
    """
    changed = 0
    refine = _steady(step) if temporal else _single(step)
    frames = masks.video.read(set(numbers))
    for number, frame in tqdm(frames, total=len(numbers), unit="frame", dynamic_ncols=True):
        mask = masks.read(number)
        refined = refine(frame, mask.pixels)
        changed += bool((refined != mask.pixels).any())
        with atomic_file(target(output, masks.masks[number])) as file:
            Image.fromarray((refined != mask.is_inverted).astype(np.uint8) * 255).save(file, format="PNG")
    return changed


def _steady(step: Step):  # type: ignore[no-untyped-def]
    from pnm.object_refinement.steadying import SteadyRefiner

    assert isinstance(step, UniversalStep)
    return SteadyRefiner(step.refiner).refine


def _single(step: Step):  # type: ignore[no-untyped-def]
    def refine(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
        (crop,) = step.refine(frame, Objects(mask.shape, (crop_array(mask),), (1.0,), (0,)))  # type: ignore[arg-type,misc]
        return paste(crop, *mask.shape)

    return refine
