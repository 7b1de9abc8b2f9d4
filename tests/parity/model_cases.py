"""Inference and training of the three base models and of SE-PSNet on equal weights and real photographs."""

from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data.datasets import load_coco_json
from detectron2.modeling import build_model
from detectron2.structures import BitMasks

from pnm.projects.launcher.config import load_config

CONFIGS = {
    "mask_rcnn": "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "panoptic_fpn": "configs/COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
    "semantic_fpn": "configs/COCO-SemanticSegmentation/semantic_fpn_R_50_1x.yaml",
    "se_psnet": "configs/COCO-PanopticSegmentation/se_psnet_R_50_1x.yaml",
}
# SE-PSNet's switches, all on, in a narrow network; no cell of the batch is left out at random.
SE_PSNET = {
    **dict.fromkeys(("MASK_LOSS", "MASK_SCORE", "BASIS_SILHOUETTE", "MASK_AUX", "STUFF_SILHOUETTE"), True),
    **dict.fromkeys(("BLEND_SILHOUETTE", "FCOS.SCALES", "BASES.SEMANTIC_AUX"), True),
    **{"BASES.WIDTH": 64, "CONFIDENCE.WIDTH": 32, "CONFIDENCE.FC_DIM": 64, "FCOS.NUM_CONVS": 2},
    **{"MAX_POSITIVES": 100000, "CONFIDENCE.MAX_REGIONS": 100000},
    **{"FCOS.BOX_BIAS": 2.0, "FCOS.SCORE_THRESH": 0.0, "FCOS.DETECTIONS": 30},
    **{"FUSION.SCORE_THRESH": 0.02, "FUSION.STUFF_AREA_LIMIT": 64},
}
PREDICTORS = ("objectness", "cls_score", "cls_logits", "ctrness", "predictor.weight")


def small_config(name: str) -> CfgNode:
    """A published config on the CPU with small images, so that a case takes seconds; low scores are kept."""
    overrides = [
        "MODEL.DEVICE",
        "cpu",
        "MODEL.WEIGHTS",
        "",
        "INPUT.MIN_SIZE_TRAIN",
        "(256,)",
        "INPUT.MIN_SIZE_TEST",
        "256",
    ]
    overrides += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.02", "INPUT.MAX_SIZE_TEST", "401"]
    overrides += ["MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", "0.02"]
    overrides += ["MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", "64"]
    if name == "se_psnet":
        overrides += ["MODEL.FPN.OUT_CHANNELS", "64", "MODEL.SEM_SEG_HEAD.CONVS_DIM", "64"]
        overrides += [str(part) for key, value in SE_PSNET.items() for part in (f"MODEL.SE_PSNET.{key}", value)]
    return load_config(CONFIGS[name], overrides)


def common_model(folder: Path, cfg: CfgNode) -> torch.nn.Module:
    """A model with random weights that predict something; the first engine to come writes them for both."""
    torch.manual_seed(1)
    model = build_model(cfg)
    path = folder / "weights.pth"
    if not path.exists():
        state = model.state_dict()
        generator = torch.Generator().manual_seed(2)
        for key, value in state.items():
            # Untrained predictors answer the same everywhere; ties would leave the order of results to chance.
            if key.endswith("weight") and any(part in key for part in PREDICTORS):
                value += torch.randn(value.shape, generator=generator) * value.std()
            elif key.endswith("conv3.norm.weight"):
                value.fill_(0.1)  # frozen batch norms that normalise nothing would let the features explode
            elif key.endswith("norm.bias"):
                value += torch.randn(value.shape, generator=generator) * 0.1
        torch.save({"model": state}, path)
    DetectionCheckpointer(model).load(str(path))
    return model


def photographs(data: str) -> list[dict]:
    """Inputs: three photographs of unlike sizes, an odd-sized one and an empty image."""
    images = []
    for k, path in enumerate(sorted(Path(data, "coco/val2017").glob("*.jpg"))[:3]):
        image = cv2.imread(str(path))
        scale = 256 / min(image.shape[:2])
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale)) if k else (301, 227)
        images.append((cv2.resize(image, size), image.shape[:2]))
    images.append((np.zeros((97, 131, 3), np.uint8), (97, 131)))
    return [
        {"image": torch.from_numpy(image.transpose(2, 0, 1).copy()), "height": height, "width": width}
        for image, (height, width) in images
    ]


def inference(folder: Path, name: str, data: str) -> list[dict]:
    """Every output of every image, as tensors."""
    model = common_model(folder, small_config(name)).eval()
    found = []
    with torch.no_grad():
        for given in photographs(data):
            output = model([given])[0]
            row = {}
            if "instances" in output:
                instances = output["instances"]
                row |= {"boxes": instances.pred_boxes.tensor, "scores": instances.scores}
                row |= {"classes": instances.pred_classes, "masks": instances.pred_masks}
                row |= {key: value for key, value in instances.get_fields().items() if key.endswith("_scores")}
            if "sem_seg" in output:
                row["sem_seg"] = output["sem_seg"]
            if "panoptic_seg" in output:
                row["panoptic"], row["segments"] = output["panoptic_seg"]
            found.append(row)
    return found


def training_batch(cfg: CfgNode, name: str, data: str) -> list[dict]:
    """Two mapped photographs with their annotations; stuff labels are made of blocks."""
    root = Path(data, "coco")
    records = load_coco_json(str(root / "annotations/instances_train2017.json"), str(root / "train2017"))
    records = [r for r in records if 1 < len(r["annotations"]) < 8][:2]
    cfg.INPUT.RANDOM_FLIP = "none"
    mapper, batch = DatasetMapper(cfg, True), []
    for record in records:
        record["annotations"] = [a | {"category_id": a["category_id"] % 80} for a in record["annotations"]]
        given = mapper(record)
        height, width = given["image"].shape[1:]
        blocks = np.random.default_rng(0).integers(0, 54, (height // 32 + 1, width // 32 + 1))
        labels = blocks.repeat(32, 0).repeat(32, 1)[:height, :width]
        labels[:20] = 255
        given["sem_seg"] = torch.from_numpy(labels).long()
        batch.append(given)
    is_bitmask = cfg.INPUT.MASK_FORMAT == "bitmask"
    assert all(isinstance(g["instances"].gt_masks, BitMasks) == is_bitmask for g in batch if "instances" in g)
    return batch


def training(folder: Path, name: str, data: str) -> dict:
    """Losses of a fixed batch and the weights after a step of SGD; samplers take the first, not random ones."""
    torch.randperm = lambda n, **kwargs: torch.arange(n, device=kwargs.get("device"))
    cfg = small_config(name)
    model = common_model(folder, cfg).train()
    from detectron2.solver import build_optimizer
    from detectron2.utils.events import EventStorage

    optimizer = build_optimizer(cfg, model)
    with EventStorage() as storage:
        losses = model(training_batch(cfg, name, data))
        scalars = {key: value for key, (value, _) in storage.latest().items()}
    sum(losses.values()).backward()
    norms = {key: p.grad.norm().item() for key, p in model.named_parameters() if p.grad is not None}
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return {
        "losses": {key: value.item() for key, value in losses.items()},
        "scalars": scalars,
        "gradients": norms,
        "weights": model.state_dict(),
    }


def initial_weights(folder: Path, name: str) -> dict:
    """Weights as a seeded generator initialises them."""
    torch.manual_seed(7)
    return build_model(small_config(name)).state_dict()
