"""Belief in an object's refinement: its features by hand, its network against torch's, and what fitting learns."""

import numpy as np
import pytest
import torch

from pnm.masks.crops import crop_array
from pnm.object_refinement.belief import (
    FEATURES,
    THRESHOLDS,
    Belief,
    Candidate,
    best_candidate,
    candidate_features,
    change_logits,
)
from pnm.object_refinement.belief_fitting import Outcomes, fitted_belief, outcome, reliability
from pnm.object_refinement.decision import Decision, decision_of
from pnm.object_refinement.refining import refined_mask


def square(first, last, size=40):
    mask = np.zeros((size, size), np.bool_)
    mask[first:last, first:last] = True
    return mask


def made_up_outcomes(number=600, seed=0):
    """Objects whose refinement gains as much as the first feature says, and loses where it is negative."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((number, len(THRESHOLDS), FEATURES)).astype(np.float32)
    gains = 0.02 * features[..., 0]
    return Outcomes(features, gains, np.full(number, 0.9, np.float32))


@pytest.fixture(scope="module")
def belief():
    return fitted_belief(made_up_outcomes())


def test_features_of_a_mask_that_is_grown_by_one_pixel_all_around():
    coarse, truth = square(9, 31), square(10, 30)
    logits = np.where(truth, 4.0, -4.0).astype(np.float32)
    features = candidate_features(logits, coarse, 1.0)
    perimeter = 4 * 21
    row = features[THRESHOLDS.index(0.5)]
    assert np.isclose(row[0], 0) and np.isclose(row[1], np.log1p((22**2 - 20**2) / perimeter))
    assert row[4] > 0.99  # all on one side
    assert np.isclose(row[5], 1 / (1 + np.exp(-4.0)))  # sure
    assert row[6] == 1.0  # all of the contour
    assert np.isfinite(features).all()


def test_features_of_nothing_to_change():
    coarse = square(10, 30)
    features = candidate_features(np.where(coarse, np.float32(np.inf), np.float32(-np.inf)), coarse, 0.5)
    assert np.isfinite(features).all() and (features[:, :5] == 0).all()


def test_change_logits_are_of_the_other_label():
    coarse, logits = square(1, 3, 4), np.arange(16, dtype=np.float32).reshape(4, 4) - 8
    changes = change_logits(logits, coarse) > 0
    assert ((coarse ^ changes) == (logits > 0))[logits != 0].all()


def test_same_as_torchs_layers(belief):
    x = np.random.default_rng(1).standard_normal((5, FEATURES)).astype(np.float32)
    w = {name: torch.from_numpy(value) for name, value in belief.weights.items()}
    said = []
    for fit in range(len(w["layer0.bias"])):
        y = (torch.from_numpy(x) - w["mean"]) / w["deviation"]
        for k in range(3):
            y = torch.nn.functional.linear(y, w[f"layer{k}.weight"][fit], w[f"layer{k}.bias"][fit])
            y = y.relu() if k < 2 else y
        said.append(y)
    mean = torch.stack(said).mean(0)
    gains, risks = belief(x)
    assert np.allclose(gains, mean[:, 0], atol=1e-5) and np.allclose(risks, mean[:, 1].sigmoid(), atol=1e-6)


def test_fitting_learns_which_candidates_gain(belief):
    seen = made_up_outcomes(seed=1)
    gains, risks = belief(seen.features)
    assert np.corrcoef(gains.ravel(), seen.gains.ravel())[0, 1] > 0.95
    assert risks[seen.gains < -0.01].mean() > 0.9 > 0.1 > risks[seen.gains > 0.01].mean()
    curve = reliability(belief, seen)
    assert curve.numbers.sum() == seen.gains.size
    assert np.abs(curve.predicted - curve.measured).max() < 0.15


def test_equal_seeds_equal_beliefs(belief):
    again = fitted_belief(made_up_outcomes())
    assert all((again.weights[name] == value).all() for name, value in belief.weights.items())


def test_the_best_candidate_whose_risk_is_borne():
    candidates = [Candidate(0.25, 3.0, 0.4, 0.3), Candidate(0.5, 2.0, 0.1, 0.2), Candidate(0.8, 1.0, 0.01, 0.1)]
    for risk, change, threshold in ((1, 1, 0.25), (0.2, 1, 0.5), (1, 0.25, 0.5), (0.05, 1, 0.8), (1, 0.1, 0.8)):
        assert best_candidate(candidates, Decision(0.5, risk, change)).threshold == threshold
    assert best_candidate(candidates, Decision(0.5, 0.0, 1)) is None
    assert best_candidate(candidates, Decision(0.5, 1, 0.05)) is None
    assert best_candidate([Candidate(0.5, 0.1, 0.0, 0.0)], Decision(0.5, 1, 1)) is None  # too little to be worth it


def test_strengths_bear_more_and_more_risk():
    decisions = [decision_of(strength) for strength in (0, 0.25, 0.5, 0.75, 1)]
    assert [one.risk for one in decisions] == sorted(one.risk for one in decisions)
    assert [one.change for one in decisions] == sorted(one.change for one in decisions)
    assert decisions[0].risk == decisions[0].change == 0 and decisions[-1][1:] == (1, np.inf)
    assert decisions[2].risk == pytest.approx(0.15, abs=0.002) and decisions[2].change == pytest.approx(0.12)


class Always:
    """A belief that says the same of everything."""

    def __init__(self, gain, risk):
        self.gain, self.risk = gain, risk

    def candidates(self, logits, coarse, scale):
        return [Candidate(0.5, self.gain, self.risk, 0.01)]


def truth_teller(image):
    """Maps of what is white in the image, very sure."""

    def predict(seen):
        half = seen.colors[::2, ::2, 0].astype(np.float32) / 255
        return np.stack([20 * half - 10] * 2)

    return predict


@pytest.mark.parametrize(("gain", "risk", "changes"), [(1.0, 0.01, True), (1.0, 0.9, False), (-1.0, 0.0, False)])
def test_an_object_that_is_not_believed_keeps_its_mask(gain, risk, changes):
    truth, coarse = square(20, 60, 80), square(24, 56, 80)
    image = np.where(truth, np.uint8(255), np.uint8(0))[..., None].repeat(3, 2)
    refined = refined_mask(truth_teller(image), image, crop_array(coarse), decision_of(0.5), Always(gain, risk))
    assert (refined.changed > 0) == changes
    assert refined.confidence == (pytest.approx(1 - risk) if changes else 1.0)


def test_strength_1_asks_for_no_belief():
    truth, coarse = square(20, 60, 80), square(24, 56, 80)
    image = np.where(truth, np.uint8(255), np.uint8(0))[..., None].repeat(3, 2)
    refined = refined_mask(truth_teller(image), image, crop_array(coarse), decision_of(1), Always(-1.0, 1.0))
    assert refined.changed > 0 and refined.confidence == 1.0


def test_outcome_of_a_network_that_is_right():
    truth, coarse = square(20, 60, 80), square(24, 56, 80)
    image = np.where(truth, np.uint8(255), np.uint8(0))[..., None].repeat(3, 2)
    features, gains, iou = outcome(truth_teller(image), image, crop_array(truth), crop_array(coarse))
    assert features.shape == (len(THRESHOLDS), FEATURES)
    assert iou == pytest.approx(32**2 / 40**2)
    assert (gains > 0.3).all()


def test_foreign_weights_are_refused():
    with pytest.raises(ValueError, match="expected"):
        Belief({"mean": np.zeros(3)})
