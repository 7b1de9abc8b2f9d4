"""What a person should look at is found, and only that; the table counts what is there; the page can be seen."""

import numpy as np
import pytest
from PIL import Image

from pnm.annotations.annotation_set import NO_CLASS, AnnotatedImage, AnnotatedObject, AnnotationSet, Category, Segments
from pnm.annotations.checking import check_annotations
from pnm.annotations.contact_sheet import draw_doubt, draw_image
from pnm.annotations.doubts import doubts_of
from pnm.annotations.survey import survey
from pnm.errors import UserError
from pnm.masks.crops import EMPTY, crop_array

SIZE = 100, 120
CLASSES = (Category("cat", 1), Category("dog", 2))


def disk(y, x, radius):
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def box(top, left, bottom, right):
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def drawn(mask, category=0, **more):
    return AnnotatedObject(category, crop=crop_array(mask), **more)


def outlined(*corners):
    return AnnotatedObject(0, (np.array(corners, np.float64),))


def set_of(task, contents, folder=None):
    images = tuple(AnnotatedImage(f"{n}.png", *SIZE) for n in range(len(contents)))
    return AnnotationSet("x", task, CLASSES, images, lambda image: contents[int(image.name[:-4])], folder)


TURN = np.arange(12) * np.pi / 6
SPECKLED = disk(50, 50, 20) | box(2, 2, 3, 3) | box(90, 110, 92, 111)
FOUND = {
    "nothing": ((drawn(disk(50, 50, 20)), drawn(disk(50, 50, 20) & ~disk(50, 40, 15), 1)), []),
    "empty": ((AnnotatedObject(0, crop=EMPTY),), ["empty"]),
    "twice": ((drawn(disk(50, 50, 20)), drawn(disk(50, 51, 20))), ["twice"]),
    "two classes": ((drawn(disk(50, 50, 20)), drawn(disk(50, 50, 20), 1)), ["two classes"]),
    "crowds": ((drawn(disk(50, 50, 20)), drawn(disk(50, 50, 20), iscrowd=True)), []),
    "box": ((drawn(box(10, 10, 40, 50)),), ["box"]),
    "coarse": ((outlined((10, 10), (90, 20), (60, 80)),), ["coarse"]),
    "whole": ((drawn(np.ones(SIZE, bool)),), ["whole"]),
    "outside": (
        (outlined(*[(125 + 30 * np.cos(a), 50 + 30 * np.sin(a)) for a in np.arange(12) * np.pi / 6]),),
        ["outside"],
    ),
    "tiny": ((drawn(box(10, 10, 12, 14)),), ["tiny"]),
    "specks": ((drawn(SPECKLED),), ["specks"]),
    "two parts": ((drawn(disk(30, 30, 12) | disk(70, 90, 12)),), []),
}


@pytest.mark.parametrize("name", FOUND)
def test_objects(name):
    content, kinds = FOUND[name]
    annotations = set_of("instance", [content])
    assert [doubt.kind for doubt in doubts_of(annotations, annotations.images[0])] == kinds


def test_maps():
    labels = np.where(disk(50, 50, 30), 0, 1).astype(np.int32)
    speckled = labels.copy()
    speckled[2:90:20, 2] = 0
    void = np.full(SIZE, NO_CLASS, np.int32)
    annotations = set_of("semantic", [labels, speckled, void, np.zeros(SIZE, np.int32)])
    kinds = [[doubt.kind for doubt in doubts_of(annotations, image)] for image in annotations.images]
    assert kinds == [[], ["specks"], ["unlabelled"], ["whole"]]


def test_segments():
    ids = np.where(disk(50, 50, 30), 7, 0).astype(np.int32)
    ids[2:90:20, 2] = 7
    annotations = set_of("panoptic", [Segments(ids, (AnnotatedObject(1, id=7),))])
    (doubt,) = doubts_of(annotations, annotations.images[0])
    assert (doubt.kind, doubt.what, doubt.weight) == ("specks", "dog 7", 5)


def test_counts():
    contents = [(drawn(box(0, 0, 4, 5)), drawn(disk(50, 50, 40), 1), drawn(disk(50, 50, 40), 1, iscrowd=True)), ()]
    counts = survey(set_of("instance", contents))
    area = int(disk(50, 50, 40).sum())
    assert counts.sizes == {SIZE: 2} and counts.without == 1
    assert counts.objects == {0: {"small": 1}, 1: {"medium": 1, "crowds": 1}}
    assert counts.pixels == {0: 20, 1: 2 * area} and counts.images == {0: 1, 1: 1}
    labels = np.where(disk(50, 50, 40), 1, NO_CLASS).astype(np.int32)
    counts = survey(set_of("semantic", [labels]))
    assert counts.pixels == {1: area} and counts.unlabelled == labels.size - area


def test_the_page(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for n in range(2):
        Image.fromarray(rng.integers(0, 255, (*SIZE, 3)).astype(np.uint8)).save(tmp_path / f"{n}.png")
    contents = [FOUND["twice"][0], FOUND["specks"][0], FOUND["empty"][0]]
    annotations = set_of("instance", contents, tmp_path)
    told = check_annotations(annotations, tmp_path / "check.jpg")
    assert "3 images (height x width): 100 x 120 (3)" in told
    assert "to look at: no pixel 1, drawn twice 1, scattered specks 1" in told
    page = Image.open(tmp_path / "check.jpg")
    assert page.width > 900 and page.height > 600
    assert "classes that never occur: dog" in told


def test_pictures_show_what_is_annotated(tmp_path):
    Image.fromarray(np.full((*SIZE, 3), 100, np.uint8)).save(tmp_path / "0.png")
    annotations = set_of("instance", [FOUND["twice"][0]], tmp_path)
    image = annotations.images[0]
    changed = (draw_image(annotations, image) != 100).any(axis=2)
    assert changed[50, 50] and not changed[2, 2]
    close = draw_doubt(annotations, doubts_of(annotations, image)[0])
    assert 41 < close.shape[0] < 100 and (close[..., 0].astype(int) - close[..., 2] > 60).any()


def test_sixteen_bits_and_turned_photographs(tmp_path):
    Image.fromarray(np.full(SIZE, 257 * 7, np.uint16)).save(tmp_path / "0.png")
    annotations = set_of("instance", [()], tmp_path)
    assert (draw_image(annotations, annotations.images[0]) == 7).all()
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(np.zeros(SIZE[::-1], np.uint8)).save(tmp_path / "0.png", exif=exif)
    assert (draw_image(annotations, annotations.images[0]) == 0).all()


def test_what_cannot_be(tmp_path):
    annotations = set_of("instance", [()])
    with pytest.raises(UserError, match=r"--output is .*page.txt, expected the name of a picture"):
        check_annotations(annotations, tmp_path / "page.txt")
    with pytest.raises(UserError, match="no image is annotated"):
        check_annotations(set_of("instance", []), tmp_path / "page.png")

    def damaged(image):
        raise UserError(f"{image.name} is damaged")

    broken = AnnotationSet("x", "instance", CLASSES, annotations.images * 1, damaged)
    with pytest.raises(UserError, match="0.png is damaged"):
        check_annotations(broken, tmp_path / "page.png")
