"""Transforms and augmentations, against PIL, hand-drawn random numbers and geometry."""

# ruff: noqa: NPY002 - the engines draw from NumPy's global generator.

import numpy as np
import pytest
from detectron2.data import transforms as T
from PIL import Image, ImageEnhance

from pnm.projects.dataset_mappers.color_augmentation import ColorAugSSDTransform

BAD_INPUT = (ValueError, AssertionError, TypeError, NotImplementedError)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)


def test_resize_is_pils_for_bytes_and_keeps_dtype_for_floats(image):
    resize = T.ResizeTransform(37, 53, 20, 71)
    expected = np.asarray(Image.fromarray(image).resize((71, 20), Image.BILINEAR))
    np.testing.assert_array_equal(resize.apply_image(image), expected)
    grey = resize.apply_image(image[:, :, :1])
    assert grey.shape == (20, 71, 1)
    labels = image[:, :, 0]
    nearest = np.asarray(Image.fromarray(labels).resize((71, 20), Image.NEAREST))
    np.testing.assert_array_equal(resize.apply_segmentation(labels), nearest)
    floats = resize.apply_image(np.full((37, 53, 2), 0.25, dtype=np.float32))
    assert floats.shape == (20, 71, 2) and floats.dtype == np.float32 and np.allclose(floats, 0.25)
    with pytest.raises(BAD_INPUT):
        resize.apply_image(image[:30])


def test_resize_moves_points_in_proportion():
    resize = T.ResizeTransform(10, 20, 30, 10)
    points = np.array([[20.0, 10.0], [4.0, 5.0]])
    np.testing.assert_allclose(resize.apply_coords(points.copy()), [[10, 30], [2, 15]])
    np.testing.assert_allclose(resize.inverse().apply_coords(np.array([[10.0, 30.0]])), [[20, 10]])
    np.testing.assert_allclose(resize.apply_box(np.array([[0, 0, 20, 10.0]])), [[0, 0, 10, 30]])


@pytest.mark.parametrize(
    "size, short, longest", [((480, 640), 800, 1333), ((427, 1280), 600, 1000), ((99, 33), 64, 100)]
)
def test_shortest_edge_unless_the_longest_is_too_long(size, short, longest):
    height, width = T.ResizeShortestEdge.get_output_shape(*size, short, longest)
    assert max(height, width) <= longest
    assert min(height, width) == short or max(height, width) == longest
    assert abs(height / width - size[0] / size[1]) < 0.02 * size[0] / size[1]


def test_shortest_edge_draws_from_range_or_list(image):
    np.random.seed(0)
    heights = {T.ResizeShortestEdge((20, 24), 999).get_transform(image).new_h for _ in range(80)}
    assert heights == {20, 21, 22, 23, 24}, "both ends are included"
    heights = {T.ResizeShortestEdge([20, 50], 999, "choice").get_transform(image).new_h for _ in range(40)}
    assert heights == {20, 50}
    assert isinstance(T.ResizeShortestEdge(0).get_transform(image), T.NoOpTransform)
    with pytest.raises(BAD_INPUT):
        T.ResizeShortestEdge((1, 2, 3), 99)


def test_flips_consume_one_number_each(image):
    for seed in range(6):
        np.random.seed(seed)
        expected = np.random.uniform(0, 1) < 0.5
        np.random.seed(seed)
        flipped = T.RandomFlip().get_transform(image)
        assert isinstance(flipped, T.HFlipTransform) == expected
    np.testing.assert_array_equal(
        T.RandomFlip(1.0, horizontal=False, vertical=True).get_transform(image).apply_image(image), image[::-1]
    )
    with pytest.raises(ValueError):
        T.RandomFlip(horizontal=True, vertical=True)


GEOMETRIC = {
    "resize": T.Resize((90, 71)),
    "shortest": T.ResizeShortestEdge((60, 90), 200),
    "flip": T.RandomFlip(1.0),
    "crop": T.RandomCrop("relative", (0.8, 0.7)),
    "extent": T.RandomExtent((0.9, 1.2), (0.1, 0.1)),
    "rotation": T.RandomRotation([-25, 25]),
    "rotation without expansion": T.RandomRotation([-25, 25], expand=False, center=[0.4, 0.5]),
    "fixed": T.FixedSizeCrop((100, 60)),
    "scale": T.ResizeScale(0.8, 1.6, 90, 120),
    "list": T.AugmentationList([T.RandomFlip(1.0), T.Resize((120, 160)), T.RandomCrop("absolute", (110, 150))]),
}


@pytest.mark.parametrize("name", GEOMETRIC)
def test_coordinates_go_where_pixels_go(name):
    """A bright blob's centre of mass lands where apply_coords says."""
    image = np.zeros((80, 100, 3), dtype=np.uint8)
    image[38:43, 48:53] = 255
    for seed in range(5):
        np.random.seed(seed)
        aug_input = T.AugInput(image.copy(), sem_seg=image[:, :, 0].copy())
        transform = GEOMETRIC[name](aug_input)
        assert aug_input.image.shape[:2] == aug_input.sem_seg.shape
        weight = aug_input.image[:, :, 0].astype(float)
        weight[weight == 128] = 0  # padding
        rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
        found = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        expected = transform.apply_coords(np.array([[50.5, 40.5]]))[0]
        np.testing.assert_allclose(found, expected, atol=0.6)


def test_rotation_by_a_quarter_is_numpys(image):
    rotated = T.RotationTransform(37, 53, 90, expand=True)
    np.testing.assert_array_equal(rotated.apply_image(image), np.rot90(image))
    back = rotated.inverse()
    np.testing.assert_allclose(back.apply_coords(rotated.apply_coords(np.array([[3.0, 4.0]]))), [[3, 4]], atol=1e-9)
    with pytest.raises(NotImplementedError):
        T.RotationTransform(37, 53, 30, expand=False).inverse()


def test_extent_of_the_whole_image_changes_nothing(image):
    whole = T.ExtentTransform((0, 0, 53, 37), (37, 53))
    np.testing.assert_array_equal(whole.apply_image(image), image)
    outside = T.ExtentTransform((-10, 0, 43, 37), (37, 53)).apply_image(image)
    assert (outside[:, :9] == 0).all()


def test_crop_sizes_are_as_documented(image):
    sizes = [T.RandomCrop("relative_range", (0.5, 0.25)).get_crop_size((100, 200)) for _ in range(200)]
    assert min(s[0] for s in sizes) >= 50 and max(s[0] for s in sizes) <= 100
    assert min(s[1] for s in sizes) >= 50 and max(s[1] for s in sizes) <= 200
    assert T.RandomCrop("relative", (0.5, 0.25)).get_crop_size((101, 200)) == (51, 50)
    assert T.RandomCrop("absolute", (30, 900)).get_crop_size((100, 200)) == (30, 200)
    sizes = {T.RandomCrop("absolute_range", (10, 12)).get_crop_size((11, 200)) for _ in range(200)}
    assert sizes == {(h, w) for h in (10, 11) for w in (10, 11, 12)}
    with pytest.raises(BAD_INPUT):
        T.RandomCrop("elsewhere", (1, 1)).get_crop_size((3, 3))


def test_area_constraint_avoids_uniform_crops():
    labels = np.zeros((100, 100), dtype=np.uint8)
    labels[:, 50:] = 1
    labels[:30] = 255
    crop = T.RandomCrop_CategoryAreaConstraint("absolute", (40, 40), 0.75, 255)
    good = 0
    for seed in range(30):
        np.random.seed(seed)
        cut = crop.get_transform(np.zeros((100, 100, 3)), labels).apply_segmentation(labels)
        areas = np.bincount(cut[cut != 255].ravel(), minlength=2)
        good += areas.max() < 0.75 * areas.sum()
    assert good >= 28, "ten tries nearly always find one"
    with pytest.raises(AttributeError):
        crop(object())


def test_fixed_crop_pads_right_and_below(image):
    np.random.seed(0)
    transform = T.FixedSizeCrop((30, 60), pad_value=7, seg_pad_value=99).get_transform(image)
    out = transform.apply_image(image)
    assert out.shape == (30, 60, 3) and (out[:, 53:] == 7).all()
    labels = transform.apply_segmentation(image[:, :, 0])
    assert (labels[:, 53:] == 99).all()
    row = transform.transforms[0].y0
    np.testing.assert_array_equal(out[:, :53], image[row : row + 30])
    assert T.FixedSizeCrop((30, 60), pad=False).get_transform(image).apply_image(image).shape == (30, 53, 3)


def test_colour_augmentations_are_pils_blends(image):
    def factor(seed):
        np.random.seed(seed)
        return np.random.uniform(0.5, 1.5)

    for augmentation, enhance in (
        (T.RandomBrightness, ImageEnhance.Brightness),
        (T.RandomSaturation, ImageEnhance.Color),
    ):
        for seed in range(4):
            expected = np.asarray(enhance(Image.fromarray(image)).enhance(factor(seed)), dtype=int)
            np.random.seed(seed)
            found = augmentation(0.5, 1.5).get_transform(image).apply_image(image)
            assert np.abs(found.astype(int) - expected).max() <= 2  # PIL rounds the grey image first
    np.random.seed(3)
    found = T.RandomContrast(0.5, 1.5).get_transform(image).apply_image(image.astype(np.float32))
    assert found.mean() == pytest.approx(image.mean(), abs=0.5), "contrast keeps the mean"
    np.testing.assert_array_equal(T.RandomLighting(0.0).get_transform(image).apply_image(image), image)
    shift = T.ColorTransform(lambda array: array + 1)
    np.testing.assert_array_equal(shift.apply_image(image), image + 1)
    assert shift.apply_coords(image) is image and isinstance(shift.inverse(), T.NoOpTransform)
    with pytest.raises(ValueError):
        T.ColorTransform("no function")


def test_random_apply_applies_with_its_probability(image):
    np.random.seed(0)
    augmentation = T.RandomApply(T.VFlipTransform(37), 0.3)
    count = sum(isinstance(augmentation(T.AugInput(image)), T.VFlipTransform) for _ in range(500))
    assert 110 < count < 190
    with pytest.raises(BAD_INPUT):
        T.RandomApply(T.VFlipTransform(37), 1.3)


def test_min_iou_crop_keeps_overlap(image):
    boxes = np.array([[10.0, 8.0, 40.0, 30.0]])
    np.random.seed(0)
    cropped = 0
    for _ in range(40):
        crop = T.MinIoURandomCrop((0.3,)).get_transform(image, boxes)
        if isinstance(crop, T.CropTransform):
            cropped += 1
            assert crop.x0 < 25 < crop.x0 + crop.w + 1 and crop.y0 < 19 < crop.y0 + crop.h + 1, "the box's centre"
    assert cropped > 5


def test_inputs_are_checked_and_lists_run_in_order(image):
    with pytest.raises((TypeError, AssertionError)):
        T.AugInput([[1]])
    applied = T.AugmentationList([T.HFlipTransform(53), T.RandomCrop("absolute", (10, 10))])(T.AugInput(image))
    assert [type(t) for t in applied.transforms] == [T.HFlipTransform, T.CropTransform]
    out, transforms = T.apply_augmentations([T.Resize((10, 12))], image)
    assert out.shape == (10, 12, 3) and len(transforms.transforms) == 1
    assert repr(T.RandomFlip(0.2)).startswith("RandomFlip(") and "prob=0.2" in repr(T.RandomFlip(0.2))

    class WithBoxes(T.Augmentation):
        def get_transform(self, image, boxes):
            return T.NoOpTransform() if boxes is None else T.HFlipTransform(image.shape[1])

    given = T.AugInput(image, boxes=np.array([[0, 0, 10, 10.0]]))
    WithBoxes()(given)
    np.testing.assert_allclose(given.boxes, [[43, 0, 53, 10]])


class TestColourJitter:
    def draw(self, seed, image, img_format="RGB", **options):
        np.random.seed(seed)
        return ColorAugSSDTransform(img_format, **options).get_transform(image)

    def test_zero_strength_changes_nothing_but_rounding(self, image):
        still = dict(
            brightness_delta=0, contrast_low=1, contrast_high=1, saturation_low=1, saturation_high=1, hue_delta=0
        )
        for seed in range(8):
            found = self.draw(seed, image, **still).apply_image(image)
            assert np.abs(found.astype(int) - image).max() <= 6  # 8-bit HSV and back

    def test_channel_order_is_respected(self, image):
        for seed in range(8):
            rgb = self.draw(seed, image, "RGB").apply_image(image)
            bgr = self.draw(seed, image, "BGR").apply_image(image[:, :, ::-1])
            np.testing.assert_array_equal(rgb, bgr[:, :, ::-1])

    def test_a_drawn_jitter_is_fixed_and_geometry_stays(self, image):
        jitter = self.draw(1, image)
        np.testing.assert_array_equal(jitter.apply_image(image), jitter.apply_image(image))
        assert jitter.apply_segmentation(image) is image and jitter.apply_coords(image) is image

    def test_brightness_alone_is_an_offset(self):
        grey = np.full((4, 4, 3), 100, dtype=np.uint8)
        seen = set()
        for seed in range(40):
            still = dict(contrast_low=1, contrast_high=1, saturation_low=1, saturation_high=1, hue_delta=0)
            seen.add(int(self.draw(seed, grey, **still).apply_image(grey)[0, 0, 0]) - 100)
        assert min(seen) >= -33 and max(seen) <= 32 and len(seen) > 10 and 0 in seen

    def test_wrong_input_is_refused(self, image):
        with pytest.raises(ValueError, match="RGB"):
            ColorAugSSDTransform("HSV")
        with pytest.raises(ValueError, match="uint8"):
            self.draw(0, image).apply_image(image.astype(np.float32))
