"""Equal weights give equal predictions, losses, gradients and steps."""

import pytest
import torch

NAMES = ("mask_rcnn", "panoptic_fpn", "semantic_fpn", "se_psnet")


@pytest.mark.parametrize("name", NAMES)
def test_inference_is_equal(both, real_data, name):
    real, ours = both("model_cases:inference", name, real_data)
    assert len(real) == len(ours) == 4
    for expected, found in zip(real, ours, strict=True):
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            if key == "segments":
                assert [s | {"score": 0} for s in found[key]] == [s | {"score": 0} for s in value]
            elif value.is_floating_point():
                torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-4)
            else:
                assert torch.equal(found[key], value), key
    if name in ("mask_rcnn", "se_psnet"):
        assert all(len(row["scores"]) > 0 for row in real[:3]), "nothing was detected, so nothing was compared"
    if name in ("panoptic_fpn", "se_psnet"):
        assert all(row["segments"] for row in real[:3]), "no segments, so nothing was compared"


@pytest.mark.parametrize("name", NAMES)
def test_training_is_equal(both, real_data, name):
    real, ours = both("model_cases:training", name, real_data)
    assert real["losses"].keys() == ours["losses"].keys() and real["losses"]
    for key, value in real["losses"].items():
        assert ours["losses"][key] == pytest.approx(value, rel=1e-5, abs=1e-6), key
    assert ours["scalars"] == pytest.approx(real["scalars"], rel=1e-5)
    assert ours["gradients"] == pytest.approx(real["gradients"], rel=1e-3, abs=1e-6)
    assert real["weights"].keys() == ours["weights"].keys()
    for key, value in real["weights"].items():
        torch.testing.assert_close(ours["weights"][key], value, rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_are_equal(both, name):
    real, ours = both("model_cases:initial_weights", name)
    assert real.keys() == ours.keys()
    assert all(torch.equal(ours[key], value) for key, value in real.items())
