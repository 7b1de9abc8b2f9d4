"""Every config of this project builds its model, on the engine at hand."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY, build_model

from pnm.projects.launcher.config import load_config

CONFIGS = sorted(path for path in Path("configs").rglob("*.yaml") if not path.name.startswith("Base-"))


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_config_builds(path):
    """Without its parameters' memory, but for SegFormers, whose library asks for values."""
    device = "cpu" if "segformer" in path.name else "meta"
    cfg = load_config(str(path), ["MODEL.DEVICE", device, "MODEL.SEMANTIC_NETWORK.ENCODER_WEIGHTS", ""])
    for node in (cfg.MODEL.BPR, cfg.MODEL.SEGFIX, cfg.MODEL.PRN):
        node.PRETRAINED = False
    if path.name == "se_psnet.yaml":  # takes its numbers of classes from the data
        cfg.MODEL.SE_PSNET.NUM_THINGS = cfg.MODEL.SE_PSNET.NUM_STUFF = 4
    with torch.device(device):
        model = build_model(cfg)
    assert type(model) is META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    assert sum(p.numel() for p in model.parameters()) > 10_000
