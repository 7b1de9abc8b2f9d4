"""Multi-scale and flip testing against an average written out here, and what it needs and leaves alone."""

import copy
import weakref

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from torch import nn
from torch.nn import functional as F

from pnm.errors import UserError
from pnm.projects.launcher.config import load_config
from pnm.projects.semantic_networks.multi_scale_testing import SemanticSegmentorWithTTA, check_augmented_testing

SEMANTIC_FPN = "configs/quickstart/semantic_fpn_R_18.yaml"
SEGFORMER = "configs/quickstart/segformer_B0.yaml"
MASK_RCNN = "configs/quickstart/mask_rcnn_R_18_FPN.yaml"
AUG = "TEST.AUG."


def small_model(seed=0):
    """Semantic FPN whose random logits differ from class to class and from pixel to pixel."""
    torch.manual_seed(seed)
    model = build_model(load_config(SEMANTIC_FPN, ["MODEL.DEVICE", "cpu"])).eval()
    nn.init.normal_(model.sem_seg_head.predictor.weight, std=1.0)
    return model


def sample(rows, columns, seed=0, **more):
    image = torch.randint(0, 256, (3, rows, columns), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return {"image": image, **more}


def brute_force(model, inputs, sizes):
    """The mean over (rows, columns) and mirrored or not, of an input with a height and a width."""
    pixels, everything = inputs["image"].permute(1, 2, 0).numpy(), []
    for rows, columns in sizes:
        scaled = np.array(Image.fromarray(pixels).resize((columns, rows), Image.BILINEAR))
        for step in (1, -1):
            image = torch.from_numpy(scaled[:, ::step].transpose(2, 0, 1).copy())
            with torch.no_grad():
                (output,) = model([{"image": image, "height": inputs["height"], "width": inputs["width"]}])
            logits = output["sem_seg"].double().numpy()[:, :, ::step]
            shares = np.exp(logits)
            everything.append(shares / shares.sum(axis=0))
    return np.mean(everything, axis=0)


def test_it_is_the_mean_over_scales_and_mirror_images():
    model = small_model()
    batch = [
        sample(61, 83, 1, height=122, width=167, file_name="a.png", sem_seg=torch.zeros(61, 83, dtype=torch.int64)),
        sample(97, 45, 2, height=97, width=45),
        sample(50, 200, 3, height=torch.tensor(33), width=140),
    ]
    sizes = [[(37, 50), (66, 90)], [(80, 37), (142, 66)], [(25, 100), (25, 100)]]
    # The long side of the second and the third at most 142 and 100: each is its own wrapper's limit.
    for inputs, of_image, limit in zip(batch, sizes, (142, 142, 100)):
        augmented = SemanticSegmentorWithTTA(model, (37, 66), limit)
        assert augmented.num_passes == 4
        (result,) = augmented([inputs])
        assert result["sem_seg"].shape == (8, inputs["height"], inputs["width"])
        assert result["sem_seg"].dtype == torch.float32
        expected = brute_force(model, inputs, of_image)
        np.testing.assert_allclose(result["sem_seg"].numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(result["sem_seg"].sum(0).numpy(), 1.0, atol=1e-5)
        # What is averaged differs enough to tell a pass left out or one that isn't mirrored back.
        (plain,) = SemanticSegmentorWithTTA(model, (37, 66), limit, flip=False)([inputs])
        assert np.abs(plain["sem_seg"].numpy() - expected).max() > 0.02
    together = SemanticSegmentorWithTTA(model, (37, 66), 142)(batch[:2])
    for inputs, of_image, result in zip(batch, sizes, together):
        np.testing.assert_allclose(result["sem_seg"].numpy(), brute_force(model, inputs, of_image), atol=1e-5)
    assert SemanticSegmentorWithTTA(model, (37,), 142)([]) == []


@pytest.mark.parametrize("size", [{}, {"height": 40, "width": 111}])
def test_one_scale_of_the_images_own_size_is_the_plain_prediction(size):
    model, inputs = small_model(), sample(57, 75, **size)
    with torch.no_grad():
        plain = model([inputs])[0]["sem_seg"].softmax(dim=0)
    (result,) = SemanticSegmentorWithTTA(model, (57,), 1000, flip=False)([inputs])
    torch.testing.assert_close(result["sem_seg"], plain, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["SemanticSegmentor", "PNMSemanticSegmentor", "SemanticNetwork", "PNMSemanticNetwork"])
def test_every_semantic_model(name):
    config = SEMANTIC_FPN
    if name.endswith("Network"):
        pytest.importorskip("segmentation_models_pytorch")
        config = SEGFORMER
    cfg = load_config(config, ["MODEL.META_ARCHITECTURE", name, "MODEL.DEVICE", "cpu", f"{AUG}ENABLED", "True"])
    torch.manual_seed(0)
    model = build_model(cfg)
    inputs = sample(50, 71, height=50, width=71)
    (result,) = SemanticSegmentorWithTTA(model, (33, 64), 1000)([inputs])
    expected = brute_force(model.eval(), inputs, [(33, 47), (64, 91)])
    np.testing.assert_allclose(result["sem_seg"].numpy(), expected, atol=1e-5)


class PixelModel(nn.Module):
    """Scales each pixel's colours to logits of K = 3 and resizes them, so that it commutes with mirroring."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, batched_inputs):
        (inputs,) = batched_inputs
        self.seen.append(inputs["image"])
        logits = inputs["image"][:3].float()[None] / 100
        return [{"sem_seg": F.interpolate(logits, size=(inputs["height"], inputs["width"]), mode="bilinear")[0]}]


def test_mirroring_changes_nothing_for_a_model_that_commutes_with_it():
    inputs = sample(40, 60)
    both, one = (SemanticSegmentorWithTTA(PixelModel(), (20, 40), 1000, flip)([inputs])[0] for flip in (True, False))
    torch.testing.assert_close(both["sem_seg"], one["sem_seg"], atol=1e-6, rtol=0)


def test_a_constant_image_is_the_same_at_every_scale():
    image = torch.tensor([10, 120, 250], dtype=torch.uint8)[:, None, None].expand(3, 31, 47)
    (result,) = SemanticSegmentorWithTTA(PixelModel(), (11, 31, 70), 1000)([{"image": image}])
    expected = torch.tensor([0.1, 1.2, 2.5]).softmax(0)[:, None, None].expand(3, 31, 47)
    torch.testing.assert_close(result["sem_seg"], expected, atol=1e-6, rtol=0)


def test_large_logits_stay_finite():
    inputs = {"image": torch.full((3, 8, 8), 60000.0)}
    inputs["image"][1] = 70000.0
    (result,) = SemanticSegmentorWithTTA(PixelModel(), (8,), 8)([inputs])
    torch.testing.assert_close(result["sem_seg"][:, 0, 0], torch.tensor([0.0, 1.0, 0.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int16, torch.int32, torch.uint16])
@pytest.mark.parametrize("size", [(15, 25), (30, 50), (60, 100)])
def test_images_of_other_types(dtype, size):
    image = (sample(30, 50)["image"].float() * 7).to(dtype)  # beyond what uint8 holds
    model = PixelModel()
    (result,) = SemanticSegmentorWithTTA(model, (size[0],), 1000, flip=False)([{"image": image}])
    expected = F.interpolate(image.double()[None], size=size, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(model.seen[0].double(), expected, atol=1e-2, rtol=1e-5)
    assert model.seen[0].is_floating_point() and result["sem_seg"].dtype == torch.float32


def test_images_of_other_channels():
    """PIL would take the fourth of four for transparency."""
    image, model = torch.randint(0, 256, (4, 12, 18), dtype=torch.uint8), PixelModel()
    SemanticSegmentorWithTTA(model, (24,), 1000, flip=False)([{"image": image}])
    expected = F.interpolate(image.float()[None], size=(24, 36), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(model.seen[0], expected)


def test_a_very_long_image_keeps_a_row():
    model = PixelModel()
    (result,) = SemanticSegmentorWithTTA(model, (4,), 40)([sample(1, 300)])
    assert model.seen[0].shape == (3, 1, 40) and result["sem_seg"].shape == (3, 1, 300)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_nothing_of_the_callers_changes(dtype):
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the generator that Detectron2's augmentations draw from
    inputs = sample(40, 60, height=80, width=120, file_name="a.png", sem_seg=torch.zeros(40, 60))
    inputs["image"] = inputs["image"].to(dtype)
    before = copy.deepcopy(inputs)
    SemanticSegmentorWithTTA(small_model(), (40, 50), 1000)([inputs])
    assert inputs.keys() == before.keys()
    for key, value in before.items():
        assert torch.equal(inputs[key], value) if torch.is_tensor(value) else inputs[key] == value
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_the_model_is_in_eval_mode_and_then_as_it_was():
    model, inputs = small_model(), sample(40, 60)
    (expected,) = SemanticSegmentorWithTTA(model, (32,), 1000)([inputs])
    model.train()
    model.backbone.bottom_up.eval()
    augmented = SemanticSegmentorWithTTA(model, (32,), 1000)
    assert augmented.model is model
    modes = [module.training for module in model.modules()]
    (result,) = augmented([inputs])
    assert torch.equal(result["sem_seg"], expected["sem_seg"]) and not result["sem_seg"].requires_grad
    assert modes == [module.training for module in model.modules()] and len(set(modes)) == 2


class CountsItsOutputs(nn.Module):
    """Gives zeros, and keeps how many of its earlier outputs are alive whenever it is called."""

    def __init__(self):
        super().__init__()
        self.outputs, self.alive = [], []

    def forward(self, batched_inputs):
        self.alive.append(sum(output() is not None for output in self.outputs))
        logits = torch.zeros(3, batched_inputs[0]["height"], batched_inputs[0]["width"])
        self.outputs.append(weakref.ref(logits))
        return [{"sem_seg": logits}]


@pytest.mark.parametrize("flip", [False, True])
def test_only_the_sum_is_there_while_the_next_pass_is_made(flip):
    model = CountsItsOutputs()
    inputs = sample(20, 30)
    SemanticSegmentorWithTTA(model, (10, 20, 30, 40, 50, 60), 1000, flip)([inputs])
    # At most the first output, in which the others are summed up.
    assert len(model.alive) == (12 if flip else 6) and model.alive[0] == 0 and max(model.alive) == 1


def allocated_at_most(function) -> int:
    """Bytes of all tensors that lived at once while the function ran, as torch's profiler has them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    # One entry for each allocation (positive) and release (negative), in the order of time.
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def test_memory_does_not_grow_with_the_passes():
    inputs = sample(64, 64, height=256, width=256)
    one_output, sizes = 3 * 256 * 256 * 4, (16, 24, 32, 40, 48, 64)

    def peak(min_sizes, flip):
        return allocated_at_most(lambda: SemanticSegmentorWithTTA(CountsItsOutputs(), min_sizes, 1000, flip)([inputs]))

    two = peak(sizes[-2:], False)
    assert 2 * one_output < two < 2.5 * one_output  # the sum and a prediction; a class's worth to normalise it
    assert peak(sizes, False) < two + 0.1 * one_output and peak(sizes, True) < two + 0.1 * one_output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["MIN_SIZES", "()"], r"TEST.AUG.MIN_SIZES is \(\), expected one or more whole numbers"),
        (["MIN_SIZES", "(64, 0)"], r"TEST.AUG.MIN_SIZES is \(64, 0\)"),
        (["MIN_SIZES", "(64, -3)"], "TEST.AUG.MIN_SIZES"),
        (["MIN_SIZES", "(64, 1.5)"], "TEST.AUG.MIN_SIZES"),
        (["MIN_SIZES", "(64, True)"], "TEST.AUG.MIN_SIZES"),
        (["MIN_SIZES", "('64',)"], "TEST.AUG.MIN_SIZES"),
        (["MIN_SIZES", "64"], "TEST.AUG.MIN_SIZES"),
        (["MIN_SIZES", "(64, 96)", f"{AUG}MAX_SIZE", "63"], "TEST.AUG.MAX_SIZE is 63, .* at least .* 64$"),
        (["MAX_SIZE", "-1"], "TEST.AUG.MAX_SIZE"),
        (["FLIP", "sometimes"], "TEST.AUG.FLIP"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    first, *rest = settings
    with pytest.raises(UserError, match=message):
        load_config(SEMANTIC_FPN, [f"{AUG}ENABLED", "True", AUG + first, *rest])


def test_sizes_are_checked_by_the_wrapper_too():
    for sizes, limit in (((), 100), ([32, 0], 100), ("32", 100), ((32,), 31), ((32,), 40.0)):
        with pytest.raises(UserError, match="TEST.AUG"):
            SemanticSegmentorWithTTA(PixelModel(), sizes, limit)


@pytest.mark.parametrize("name", ["mask_rcnn_R_18_FPN", "panoptic_fpn_R_18", "segfix", "bpr_instance"])
def test_other_models_are_refused(name):
    config = f"configs/quickstart/{name}.yaml"
    architecture = load_config(config).MODEL.META_ARCHITECTURE
    message = f"is for semantic models, {architecture} is none; set TEST.AUG.ENABLED False"
    with pytest.raises(UserError, match=message):
        load_config(config, [f"{AUG}ENABLED", "True"])


def test_settings_of_what_is_not_enabled_are_not_read():
    load_config(MASK_RCNN, [f"{AUG}MIN_SIZES", "()"])


def test_defaults_are_detectron2s():
    options = load_config("").TEST.AUG
    assert options == {
        "ENABLED": False,
        "MIN_SIZES": (400, 500, 600, 700, 800, 900, 1000, 1100, 1200),
        "MAX_SIZE": 4000,
        "FLIP": True,
    }


def test_an_unknown_architecture_is_left_to_the_builder():
    cfg = load_config(SEMANTIC_FPN, ["MODEL.META_ARCHITECTURE", "Nowhere", f"{AUG}ENABLED", "True"])
    check_augmented_testing(cfg)
