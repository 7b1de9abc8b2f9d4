"""Configs of untrained models that pictures are predicted with, and what a run leaves."""

import json

CONFIGS = {
    "instance": "configs/quickstart/mask_rcnn_R_18_FPN.yaml",
    "semantic": "configs/quickstart/semantic_fpn_R_18.yaml",
    "panoptic": "configs/quickstart/panoptic_fpn_R_18.yaml",
    "bpr": "configs/quickstart/bpr_instance.yaml",
    "bpr_panoptic": "configs/quickstart/bpr_panoptic.yaml",
    "bpr_semantic": "configs/quickstart/bpr_semantic.yaml",
    "prn": "configs/quickstart/prn.yaml",
}
ALWAYS = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64"]
FEW = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "TEST.DETECTIONS_PER_IMAGE", "6"]  # of untrained models
FEW += ["MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", "0.0", "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT"]
FEW += ["16"]


def contents(folder):
    """Bytes of all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_json(path):
    return json.loads(path.read_text("utf-8"))
