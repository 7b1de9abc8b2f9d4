"""A light network decides the patches that it is sure of, the heavy one the others, and nothing else changes."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from pnm.errors import UserError
from pnm.formats.safe_checkpoint import CheckpointError
from pnm.masks.crops import crop_array, paste
from pnm.object_refinement.trained_weights import DEFAULT_WEIGHTS
from pnm.projects.bpr import BoundaryPatchRefiner, InferenceSettings, PatchSettings, build_network
from pnm.projects.bpr.config import LightSettings
from pnm.projects.bpr.light_network import Colours, load_light_network
from pnm.projects.bpr.networks import build_auxiliary_heads
from pnm.projects.bpr.patch_probabilities import are_sure
from pnm.projects.bpr.patches import patches_of
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.refiner_loading import load_refiner, refiner_fingerprint

CONFIG = "quickstart/bpr_instance.yaml"
COLOURS = Colours((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "RGB")
SIZES = ["MODEL.BPR.PATCH_SIZE", "16", "MODEL.BPR.INPUT_SIZE", "32", "MODEL.BPR.PRECISION_TEST", "float32"]


def drawn(seed, shift):
    """A network of random weights, whose logits are of mean ``shift`` and standard deviation 2."""
    torch.manual_seed(seed)
    network = build_network("patch_unet", False).eval()
    last = network.predictor
    with torch.no_grad():
        last.weight.mul_(2 / network(torch.randn(16, 4, 32, 32)).std())
        last.bias.add_(shift - network(torch.randn(16, 4, 32, 32)).mean())
    return network


def refiner(sure=None, task="instance", **options):
    """With the light network before the heavy one, or the heavy one alone."""
    light = {} if sure is None else {"light_network": drawn(1, 3), "light_sure": sure}
    model = BoundaryPatchRefiner(
        options.pop("network", None) or drawn(2, -1),
        settings=PatchSettings(task, 16, 0, 32, 0.55),
        inference=InferenceSettings(**options),
        pixel_mean=[127.5] * 3,
        pixel_std=[60.0] * 3,
        num_classes=4,
        **light,
    )
    return model.eval()


def light_alone(**options):
    return refiner(network=drawn(1, 3), **options)


@pytest.fixture(scope="module")
def scene():
    """An image (3, H, W) and a label map."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, (3, 4)).repeat(24, 0).repeat(24, 1)[:70, :90].astype(np.int32)
    return torch.from_numpy(rng.integers(0, 256, (3, 70, 90), dtype=np.uint8)), labels


def foreground(model, scene):
    image, labels = scene
    corners, masks = zip(*(patches_of(crop_array(labels == k), 70, 90, model.settings) for k in range(4)))
    return model._foreground(image, np.concatenate(corners), np.concatenate(masks))


def refined(model, scene):
    """(N, H, W) of objects, or (H, W) of a partition."""
    image, labels = scene
    if model.task != "instance":
        return model.refine_partition(image, labels, [0, 1, 2, 3])
    return np.stack(
        [paste(c, 70, 90) for c in model.refine_objects(image, [crop_array(labels == k) for k in range(4)])]
    )


@pytest.fixture(scope="module")
def some(scene):
    """A probability at which the light network is sure of half of the patches."""
    light = foreground(light_alone(), scene)
    return float(np.median(np.quantile(np.maximum(light, 1 - light), 0.05, axis=(1, 2))))


def test_sure_is_told_of_all_but_one_pixel_in_twenty():
    probs = np.full((3, 10, 10), 0.9, np.float32)
    probs[0, 0, :5], probs[1, 0, :6], probs[2, 5:] = 0.5, 0.5, 0.05
    assert are_sure(probs, 0.8).tolist() == [True, False, True]
    assert are_sure(np.float32([[[0.0, 1.0]], [[0.5, 0.5]]]), 0.0).all()
    assert not are_sure(np.float32([[[0.0, 1.0]]]), 1.0).any()
    assert are_sure(probs[:0], 0.8).shape == (0,)


@pytest.mark.parametrize("task", ["instance", "semantic", "panoptic"])
def test_always_sure_is_light_alone_and_never_sure_is_heavy_alone(task, scene):
    light, heavy = light_alone(task=task), refiner(task=task)
    results = [refined(model, scene) for model in (light, heavy)]
    assert not np.array_equal(*results)
    for sure, alone in ((0.0, light), (1.0, heavy)):
        model = refiner(sure, task)
        assert np.array_equal(foreground(model, scene), foreground(alone, scene))
        assert np.array_equal(refined(model, scene), refined(alone, scene))


def test_each_patch_is_of_the_network_that_decides_it(scene, some):
    light, heavy = foreground(light_alone(), scene), foreground(refiner(), scene)
    certain = [[max(p, 1 - p) > some for p in patch.ravel().tolist()] for patch in light]
    is_sure = [sum(pixels) >= 0.95 * len(pixels) for pixels in certain]
    assert len(is_sure) > 40 and 10 < sum(is_sure) < len(is_sure) - 10
    wanted = np.stack([a if sure else b for a, b, sure in zip(light, heavy, is_sure, strict=True)])
    assert np.array_equal(foreground(refiner(some), scene), wanted)


def test_same_result_for_any_batch_size_and_calls_are_filled(scene, some):
    results, seen = [], []
    for most in (16, 17, 40, 1000):
        model = refiner(some, max_patches_per_batch=most)
        model.network.register_forward_pre_hook(lambda _, x: seen.append(len(x[0])))
        results.append((foreground(model, scene), refined(model, scene)))
    for probs, masks in results[1:]:
        assert np.array_equal(probs, results[0][0]) and np.array_equal(masks, results[0][1])
    assert seen and not any(number % 16 for number in seen)


def test_prepared_inference_gives_the_same_until_it_is_trained(scene, some):
    model = refiner(some)
    before = foreground(model, scene)
    model.prepare_inference()
    for network in model.cascade.networks:
        torch.nn.init.zeros_(network.network.predictor.weight)
    close = np.isclose(foreground(model, scene), before, atol=1e-4).all(axis=(1, 2))
    assert close.mean() > 0.95  # a patch at the threshold may go to the other network
    assert np.ptp(foreground(model.train().eval(), scene)) < 1e-6


def test_a_prepared_network_of_the_universal_refiner(scene):
    torch.manual_seed(0)
    model = refiner(network=build_network("universal_small", False).eval())
    before = foreground(model, scene)
    model.prepare_inference()
    assert np.abs(foreground(model, scene) - before).max() < 1e-3


def test_the_light_network_is_no_part_of_the_model_and_stays_as_it_is():
    plain, model = refiner(), refiner(0.7)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert len(list(model.parameters())) == len(list(plain.parameters()))
    light = model.cascade.light.network
    assert not model.train().cascade.light.network.training and light is model.cascade.light.network


@pytest.fixture
def weights(tmp_path):
    """Files of a patch_unet and of a network with auxiliary heads, as training writes them."""
    files = {}
    for name in ("patch_unet", "fast_scnn"):
        torch.manual_seed(5)
        network = build_network(name, False)
        parts = {"network": network, "aux_heads": build_auxiliary_heads(network)}
        model = {f"{part}.{k}": v for part, one in parts.items() for k, v in one.state_dict().items()}
        files[name] = tmp_path / f"{name}.pth"
        torch.save({"model": model, "iteration": 3}, files[name])
    return files


def cascade_of(network, file):
    return [*SIZES, "MODEL.BPR.LIGHT_NETWORK", network, "MODEL.BPR.LIGHT_WEIGHTS", str(file)]


def test_a_config_names_it_and_training_draws_the_same_numbers(weights, scene):
    models, after = [], []
    for words in (SIZES, cascade_of("patch_unet", weights["patch_unet"])):
        torch.manual_seed(0)
        models.append(build_model(load_config(CONFIG, [*words, "MODEL.BPR.LIGHT_SURE", "0.0"])).eval())
        after.append(torch.get_rng_state())
    assert torch.equal(*after)
    states = [model.state_dict() for model in models]
    assert list(states[0]) == list(states[1]) and all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    loaded = load_refiner(CONFIG, str(weights["patch_unet"]), SIZES).model
    assert np.abs(foreground(models[1], scene) - foreground(loaded, scene)).max() < 1e-5


@pytest.mark.parametrize("name", ["fast_scnn", "universal_small"])
def test_weights_of_auxiliary_heads_are_left_out_and_named_weights_found(name, weights):
    given = str(weights.get(name, DEFAULT_WEIGHTS))
    network = load_light_network(LightSettings(name, given), COLOURS)
    assert not network.training and all(p.dtype == torch.float32 for p in network.parameters())


def test_other_light_weights_of_the_same_name_are_another_refiner(weights):
    words = [*cascade_of("patch_unet", weights["patch_unet"]), "MODEL.WEIGHTS", str(weights["fast_scnn"])]
    prints = [refiner_fingerprint(load_config(CONFIG, words))]
    weights["patch_unet"].write_bytes(weights["patch_unet"].read_bytes() + b"\0")
    prints.append(refiner_fingerprint(load_config(CONFIG, words)))
    assert prints[0] != prints[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["LIGHT_NETWORK", "patch_unet"], "LIGHT_WEIGHTS is empty: add MODEL.BPR.LIGHT_WEIGHTS file.pth"),
        (["LIGHT_WEIGHTS", "a.pth"], "LIGHT_NETWORK is empty: add MODEL.BPR.LIGHT_NETWORK NAME"),
        (["LIGHT_SURE", "1.5"], "LIGHT_SURE is 1.5, expected a probability"),
        (["LIGHT_SURE", "-0.1"], "LIGHT_SURE is -0.1, expected a probability"),
        (["LIGHT_SURE", ".nan"], "LIGHT_SURE"),
    ],
)
def test_half_a_cascade_is_told_with_the_config(words, message):
    with pytest.raises(UserError, match=message):
        load_config(CONFIG, [word if n % 2 else f"MODEL.BPR.{word}" for n, word in enumerate(words)])


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("nothing", "patch_unet", "LIGHT_NETWORK is 'nothing', expected one of fcn_hrnet_w18s"),
        ("patch_unet", "missing.pth", "missing.pth does not exist; check MODEL.BPR.LIGHT_WEIGHTS"),
        ("patch_unet", "pnm://nothing", "there are no weights pnm://nothing"),
        ("patch_unet", "fast_scnn", "doesn't fit MODEL.BPR.LIGHT_NETWORK patch_unet"),
        ("fcn_resnet18", "patch_unet", "doesn't fit MODEL.BPR.LIGHT_NETWORK fcn_resnet18"),
    ],
)
def test_weights_that_do_not_fit_are_told_when_the_model_is_built(name, file, message, weights):
    with pytest.raises(UserError, match=message):
        build_model(load_config(CONFIG, cascade_of(name, weights.get(file, file))))


@pytest.mark.parametrize(
    "words", [("INPUT.FORMAT", "BGR"), ("MODEL.PIXEL_MEAN", "[0, 0, 0]"), ("MODEL.PIXEL_STD", "[1, 1, 1]")]
)
def test_packed_weights_know_their_colours(words, random_weights):
    """Those of others don't."""
    cascade = cascade_of("universal_small", random_weights)
    assert build_model(load_config(CONFIG, cascade)).cascade
    with pytest.raises(UserError, match="random.pth take RGB of mean .* name a light network trained with the same"):
        build_model(load_config(CONFIG, [*cascade, *words]))


@pytest.mark.parametrize("content", [b"no checkpoint", None, [1, 2], {"model": {"network.stem": float("nan")}}])
def test_what_is_no_checkpoint_is_told(content, tmp_path):
    file = tmp_path / "light.pth"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(CheckpointError, match="light.pth"):
        load_light_network(LightSettings("patch_unet", str(file)), COLOURS)
