"""Masks as people have them: every kind of picture gives the object that was drawn, or says why not."""

import argparse

import numpy as np
import pytest
from PIL import Image

from pnm.errors import UserError
from pnm.pictures.mask_pictures import foreground, read_mask_picture
from pnm.predictions.one_mask import refine_one

OBJECT = np.zeros((20, 30), bool)
OBJECT[4:15, 6:21] = True
OBJECT[8:10, 9:12] = False


class SameMask:
    """A refiner that changes nothing and keeps what it was given."""

    fingerprint = "same"

    def read(self, image_file):
        return np.asarray(Image.open(image_file))

    def refine(self, content, prediction):
        self.prediction = prediction
        return list(prediction.masks) if hasattr(prediction, "masks") else prediction.labels


def two_colours(background, colour):
    values = np.empty((*OBJECT.shape, len(colour)), np.uint8)
    values[:], values[OBJECT] = background, colour
    return Image.fromarray(values)


def palette():
    image = Image.fromarray(OBJECT.astype(np.uint8), "P")
    image.putpalette([10, 20, 30, 128, 0, 0] + [0] * 762)
    return image


PICTURES = {
    "one_bit.png": lambda: Image.fromarray(OBJECT),
    "grey.png": lambda: Image.fromarray(OBJECT.astype(np.uint8) * 255),
    "dark.png": lambda: Image.fromarray(OBJECT.astype(np.uint8)),
    "deep.png": lambda: Image.fromarray(OBJECT.astype(np.uint16) * 60000),
    "palette.png": palette,
    "cut_out.png": lambda: two_colours((90, 90, 90, 0), (200, 30, 60, 255)),
    "opaque.png": lambda: two_colours((0, 0, 0, 255), (255, 255, 255, 255)),
    "colours.png": lambda: two_colours((0, 0, 64), (220, 20, 60)),
    "grey_alpha.png": lambda: two_colours((7, 0), (7, 255)),
    "photo.jpg": lambda: Image.fromarray(OBJECT.astype(np.uint8) * 255),
    "colour_photo.jpg": lambda: two_colours((0, 0, 0), (255, 255, 255)),
    "page.tif": lambda: Image.fromarray(OBJECT.astype(np.uint8) * 255),
    "deep.tif": lambda: Image.fromarray(OBJECT.astype(np.uint16) * 4000),
    "bits.tiff": lambda: Image.fromarray(OBJECT),
    "float.tif": lambda: Image.fromarray(OBJECT.astype(np.float32)),
    "mask.bmp": lambda: Image.fromarray(OBJECT.astype(np.uint8) * 255),
    "mask.webp": lambda: Image.fromarray(OBJECT.astype(np.uint8) * 255).convert("RGB"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_of_picture_gives_its_object(name, tmp_path):
    options = {"lossless": True} if name.endswith("webp") else {"quality": 95} if name.endswith("jpg") else {}
    PICTURES[name]().save(tmp_path / name, **options)
    assert np.array_equal(foreground(read_mask_picture(tmp_path / name), tmp_path / name), OBJECT)


@pytest.mark.parametrize("name", ["one_bit.png", "cut_out.png", "photo.jpg", "deep.tif", "palette.png"])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_the_refined_mask_is_written(name, ending, tmp_path, capsys):
    PICTURES[name]().save(tmp_path / name, **({"quality": 95} if name.endswith("jpg") else {}))
    Image.fromarray(np.zeros((*OBJECT.shape, 3), np.uint8)).save(tmp_path / "i.png")
    output = tmp_path / f"refined{ending}"
    args = argparse.Namespace(
        image=tmp_path / "i.png",
        mask=tmp_path / name,
        output=output,
        resize_mask=False,
        details=None,
        mask_kind="auto",
        invert=False,
    )
    refine_one(args, SameMask(), "instance")
    written = np.asarray(Image.open(output))
    assert np.array_equal(written > 0, OBJECT) and len(np.unique(written)) == 2
    assert "0 of 600 pixels changed" in capsys.readouterr().out


def test_a_grey_masks_threshold_is_told(tmp_path, capsys):
    Image.fromarray(np.where(OBJECT, 200, np.arange(30)).astype(np.uint8)).save(tmp_path / "soft.png")
    assert np.array_equal(foreground(read_mask_picture(tmp_path / "soft.png"), tmp_path / "soft.png"), OBJECT)
    assert "those from 128 on are taken for the object" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["instance", "semantic"])
def test_another_size_asks_first(task, tmp_path):
    Image.fromarray(OBJECT.astype(np.uint8)).save(tmp_path / "mask.png")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "i.png")
    args = argparse.Namespace(
        image=tmp_path / "i.png",
        mask=tmp_path / "mask.png",
        output=tmp_path / "out.png",
        resize_mask=False,
        details=None,
        mask_kind="auto",
        invert=False,
    )
    with pytest.raises(UserError, match=r"mask.png is 20 x 30, .*i.png 40 x 60 .*same proportions: --resize-mask"):
        refine_one(args, SameMask(), task)
    Image.fromarray(np.zeros((40, 90, 3), np.uint8)).save(tmp_path / "i.png")
    with pytest.raises(UserError, match="not even their proportions agree"):
        refine_one(args, SameMask(), task)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "i.png")
    args.resize_mask = True
    refine_one(args, SameMask(), task)
    written = np.asarray(Image.open(args.output))
    doubled = OBJECT.repeat(2, axis=0).repeat(2, axis=1)
    assert written.shape == (40, 60) and np.array_equal(written > 0, doubled)


def test_a_turned_photograph_has_the_size_that_people_see(tmp_path):
    Image.fromarray(OBJECT.astype(np.uint8)).save(tmp_path / "mask.png")
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(np.zeros((30, 20, 3), np.uint8)).save(tmp_path / "i.jpg", exif=exif)
    args = argparse.Namespace(
        image=tmp_path / "i.jpg",
        mask=tmp_path / "mask.png",
        output=tmp_path / "out.png",
        resize_mask=False,
        details=None,
        mask_kind="auto",
        invert=False,
    )
    refine_one(args, SameMask(), "instance")
    assert np.array_equal(np.asarray(Image.open(args.output)) > 0, OBJECT)


def test_what_is_no_mask_says_so(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3)).astype(np.uint8)).save(tmp_path / "photo.png")
    with pytest.raises(UserError, match="photo.png is a picture of .* colours, expected a mask: two colours, greys"):
        read_mask_picture(tmp_path / "photo.png")
    pages = [Image.fromarray(OBJECT)] * 2
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(UserError, match="pages.tif has 2 pages"):
        read_mask_picture(tmp_path / "pages.tif")
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(UserError, match="text.png is no picture"):
        read_mask_picture(tmp_path / "text.png")
    with pytest.raises(FileNotFoundError, match=r"mask .*none.png is missing"):
        read_mask_picture(tmp_path / "none.png")
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(UserError, match="nan.tif has numbers beyond 0 to 1, or that aren't finite"):
        foreground(read_mask_picture(tmp_path / "nan.tif"), tmp_path / "nan.tif")


def test_labels_must_be_exact(tmp_path):
    Image.fromarray(OBJECT.astype(np.uint8)).save(tmp_path / "labels.jpg")
    Image.fromarray(np.zeros((*OBJECT.shape, 3), np.uint8)).save(tmp_path / "i.png")
    args = argparse.Namespace(
        image=tmp_path / "i.png",
        mask=tmp_path / "labels.jpg",
        output=tmp_path / "out.png",
        resize_mask=False,
        details=None,
        mask_kind="auto",
        invert=False,
    )
    with pytest.raises(UserError, match="labels.jpg cannot hold labels, which must be exact"):
        refine_one(args, SameMask(), "semantic")
