"""Training and evaluation with weights, through train_net.py."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from pnm.projects.launcher.config import load_config

CONFIGS = ("mask_rcnn_R_18_FPN_PNM", "panoptic_fpn_R_18_PNM", "semantic_fpn_R_18_PNM")
SHORT = "SOLVER.MAX_ITER 3 SOLVER.IMS_PER_BATCH 2 SOLVER.CHECKPOINT_PERIOD 100 SOLVER.AMP.ENABLED False"


@pytest.mark.parametrize("config", CONFIGS)
def test_quickstart_trains_and_evaluates(train_net, tmp_path, config):
    done = train_net(SHORT, config=config)
    assert done.returncode == 0, done.stdout[-3000:]
    names = (tmp_path / "run/metrics.json").read_text()
    assert ("pnm/mask_mean_weight" in names) == (config != "semantic_fpn_R_18_PNM")
    assert ("pnm/sem_seg_mean_weight" in names) == (config != "mask_rcnn_R_18_FPN_PNM")
    assert ("semantic_metrics/PNM_IoU" in names) == (config != "mask_rcnn_R_18_FPN_PNM")
    again = train_net(
        "--eval-only", f"MODEL.WEIGHTS {tmp_path / 'run/model_final.pth'} OUTPUT_DIR {tmp_path / 'e'}", config=config
    )
    assert again.returncode == 0, again.stdout[-3000:]


def test_two_processes_equal_one(train_net, tmp_path):
    """Each process has one image a step: the mean over processes equals the mean over images only with equal numbers
    of valid pixels, which shapes' labels (nothing ignored) have; GN keeps statistics of one image apart."""
    settings = f"{SHORT} MODEL.RESNETS.NORM GN MODEL.SEM_SEG_HEAD.NORM GN MODEL.FPN.NORM GN INPUT.COLOR_AUG_SSD False"
    settings += " INPUT.RANDOM_FLIP none DATASETS.TEST () SOLVER.OPTIMIZER SGD SOLVER.BASE_LR 0.01"
    weights = []
    for processes in ("1", "2"):
        done = train_net("--num-gpus", processes, f"{settings} OUTPUT_DIR {tmp_path / processes}", config=CONFIGS[2])
        assert done.returncode == 0, done.stdout[-3000:]
        weights.append(torch.load(tmp_path / processes / "model_final.pth", weights_only=True)["model"])
    for name, value in weights[0].items():
        torch.testing.assert_close(
            weights[1][name], value, rtol=1e-3, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )


def one_step_losses(overrides):
    cfg = load_config("configs/quickstart/panoptic_fpn_R_18.yaml", overrides)
    torch.manual_seed(0)
    model = build_model(cfg).train()
    torch.manual_seed(1)
    batch = [
        {
            "image": torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8),
            "sem_seg": torch.randint(0, 5, (64, 96)),
            "instances": _instances(),
        }
        for _ in range(2)
    ]
    with EventStorage():
        return model(batch)


def _instances():
    from detectron2.structures import BitMasks, Boxes, Instances

    masks = torch.zeros(2, 64, 96, dtype=torch.bool)
    masks[0, 10:40, 10:50], masks[1, 20:60, 55:90] = True, True
    boxes = Boxes(torch.tensor([[10.0, 10, 50, 40], [55, 20, 90, 60]]))
    return Instances((64, 96), gt_masks=BitMasks(masks), gt_boxes=boxes, gt_classes=torch.tensor([0, 2]))


def test_off_is_bit_identical_and_on_is_not():
    plain = one_step_losses([])
    classes = "MODEL.META_ARCHITECTURE PNMPanopticFPN MODEL.SEM_SEG_HEAD.NAME PNMSemSegFPNHead"
    off = one_step_losses([*classes.split(), "MODEL.ROI_HEADS.NAME", "PNMROIHeads"])
    assert plain.keys() == off.keys() and all(torch.equal(plain[name], off[name]) for name in plain)
    on = one_step_losses(["MODEL.PNM.ENABLED", "True"])
    for name in plain:
        assert torch.equal(plain[name], on[name]) == (name not in ("loss_mask", "loss_sem_seg")), name
