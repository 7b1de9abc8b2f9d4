"""A data set parted in images to train on and images to test on."""

from pathlib import Path

import numpy as np

from pnm.annotations.annotation_set import AnnotatedImage, AnnotationSet
from pnm.errors import UserError, listed
from pnm.formats.folders import stem

TRAIN, VAL = "train", "val"


def parted(annotations: AnnotationSet, val: str, seed: int = 0) -> dict[str, AnnotationSet]:
    """``{"train": ..., "val": ...}``.

    Args:
        val: a share of the images, such as "0.1", drawn by ``seed`` whatever their order; or a text file that names
            those to test on, one in a line, with or without ending.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: one part would be empty, or a name isn't there.
    """
    try:
        share = float(val)
    except ValueError:
        chosen = _listed_in(Path(val), annotations)
    else:
        chosen = _drawn(share, annotations, seed)
    parts: dict[str, list[AnnotatedImage]] = {TRAIN: [], VAL: []}
    for image in annotations.images:
        parts[VAL if image.name in chosen else TRAIN].append(image)
    for name, images in parts.items():
        if not images:
            raise UserError(f"--val {val} of {len(annotations.images)} image(s) leaves none for {name}: choose another")
    return {name: annotations.only(images) for name, images in parts.items()}


def _drawn(share: float, annotations: AnnotationSet, seed: int) -> set[str]:
    if not 0 < share < 1 or seed < 0:
        raise UserError(f"--val is {share} and --seed {seed}: expected a share between 0 and 1, and a seed from 0")
    names = sorted(image.name for image in annotations.images)
    number = max(1, round(share * len(names)))
    return {names[k] for k in np.random.default_rng(seed).permutation(len(names))[:number]}


def _listed_in(path: Path, annotations: AnnotationSet) -> set[str]:
    try:
        wanted = [line.strip().replace("\\", "/") for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError:
        raise FileNotFoundError(f"--val {path}: expected a share such as 0.1, or a file that lists images") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--val {path} cannot be read ({error}): expected a text file that lists images") from None
    of_name = {image.name: image.name for image in annotations.images}
    of_name = {stem(name): name for name in of_name} | of_name
    absent = [name for name in wanted if name not in of_name]
    if absent:
        raise UserError(f"{path} lists {len(absent)} image(s) that aren't annotated: {listed(absent)}")
    return {of_name[name] for name in wanted}
