"""Images to train on and images to test on."""

import pytest

from pnm.annotations.annotation_set import AnnotatedImage, AnnotationSet
from pnm.annotations.splits import parted
from pnm.errors import UserError


def set_of(names):
    images = tuple(AnnotatedImage(name, 4, 4) for name in names)
    return AnnotationSet("coco", "instance", (), images, lambda image: ())


NAMES = [f"{n:03}.jpg" for n in range(50)]


def names_of(parts):
    return {split: [image.name for image in part.images] for split, part in parts.items()}


def test_a_share_is_drawn_whatever_the_order():
    parts = names_of(parted(set_of(NAMES), "0.1", 3))
    assert len(parts["val"]) == 5 and sorted(parts["train"] + parts["val"]) == NAMES
    other = names_of(parted(set_of(NAMES[::-1]), "0.1", 3))
    assert set(other["val"]) == set(parts["val"])
    assert set(names_of(parted(set_of(NAMES), "0.1", 4))["val"]) != set(parts["val"])


def test_a_list_decides(tmp_path):
    (tmp_path / "val.txt").write_text("003\n\n017.jpg\r\n", encoding="utf-8")
    parts = names_of(parted(set_of(NAMES), str(tmp_path / "val.txt")))
    assert parts["val"] == ["003.jpg", "017.jpg"] and len(parts["train"]) == 48


@pytest.mark.parametrize(
    ("val", "message"),
    [("1.5", "expected a share between 0 and 1"), ("nan", "expected a share"), ("0.999", "leaves none for train")],
)
def test_shares_that_cannot_be(val, message):
    with pytest.raises(UserError, match=message):
        parted(set_of(NAMES), val)
    with pytest.raises(FileNotFoundError, match="expected a share such as 0.1, or a file"):
        parted(set_of(NAMES), "none.txt")


def test_a_list_of_other_images(tmp_path):
    (tmp_path / "val.txt").write_text("003.png\nx/y.jpg\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"val.txt lists 2 image\(s\) that aren't annotated: 003.png, x/y.jpg"):
        parted(set_of(NAMES), str(tmp_path / "val.txt"))
