"""What makes a picture usable: its alpha channel, its size, and that it is not there already."""

import numpy as np
from PIL import Image

from tests.datasets.tiny_packages import disc, encoded, scene

import photograph_selection as selection  # isort: skip


def test_alpha_rules():
    assert selection.is_cutout(disc(), 60)
    assert not selection.is_cutout(disc(radius=30), 60)  # 2800 pixels are opaque
    assert not selection.is_cutout(disc(), 101)
    assert not selection.is_cutout(disc(alpha=150), 60)  # glass
    assert not selection.is_cutout(disc(radius=200), 60)  # opaque everywhere
    assert not selection.is_cutout(scene(0), 1)
    glow = np.asarray(disc()).copy()
    glow[..., 3][glow[..., 3] == 0] = 128
    glow[:20, :, 3] = 0
    assert selection.is_cutout(Image.fromarray(glow), 60)  # as many soft pixels as a third of the opaque ones
    glow[30:60, 30:60, 3] = 128
    assert not selection.is_cutout(Image.fromarray(glow), 60)


def test_photographs_are_large_and_opaque():
    assert selection.is_photograph(scene(0), 60) and not selection.is_photograph(scene(0), 61)
    assert selection.is_photograph(scene(0).convert("RGBA"), 60) and not selection.is_photograph(disc(), 60)


def test_opens_what_can_be_used():
    for kind, mode in (("JPEG", "RGB"), ("PNG", "RGB"), ("WEBP", "RGB")):
        assert selection.open_picture(encoded(scene(0), kind)).mode == mode
    assert selection.open_picture(encoded(disc())).mode == "RGBA"
    assert selection.open_picture(b"no picture") is None
    assert selection.open_picture(encoded(scene(0))[:300]) is None
    assert selection.open_picture(encoded(Image.fromarray(np.zeros((4, 4), np.uint16)))) is None


def test_scaled_down():
    assert selection.scaled_down(scene(0)).size == (80, 60)
    assert selection.scaled_down(Image.new("RGB", (3200, 100))).size == (1600, 50)
    assert selection.scaled_down(Image.new("RGB", (1, 4000))).size == (1, 1600)


def test_near_duplicates():
    prints = [selection.fingerprint(scene(seed)) for seed in range(5)]
    assert selection.nearest(prints[0], []) == (-1, float("inf"))
    for other in (scene(3, scale=4), scene(3).transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
        place, difference = selection.nearest(selection.fingerprint(other), prints)
        assert place == 3 and difference < selection.LEAST_DIFFERENCE
    assert selection.nearest(selection.fingerprint(scene(9)), prints)[1] > selection.LEAST_DIFFERENCE
