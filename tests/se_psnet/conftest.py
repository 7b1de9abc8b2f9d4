"""A small SE-PSNet, and batches of drawn scenes for it."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from drawn_batch import batch_of, small_config


@pytest.fixture
def cfg():
    """``cfg("KEY", value, ...)`` is the quick start's config for small networks."""
    return small_config


@pytest.fixture
def model():
    """``model("KEY", value, ...)`` builds the network of that config with seed 0, in training mode."""
    from detectron2.modeling import build_model

    def build(*overrides):
        torch.manual_seed(0)
        return build_model(small_config(*overrides))

    return build


@pytest.fixture
def batch():
    """Two scenes of 64 x 96 with three objects each, a crowd and void."""
    return batch_of(2)
