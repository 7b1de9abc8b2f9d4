"""Every setting at its default value. Sizes are pixels, thresholds of overlap are IoU in [0, 1]."""

MODEL = {
    "META_ARCHITECTURE": "GeneralizedRCNN",
    "DEVICE": "cuda",
    "WEIGHTS": "",  # path, https://, detectron2:// or catalog:// address of a checkpoint; "" starts from scratch
    # per channel, in the order of INPUT.FORMAT. Networks converted from Caffe hold the deviation in their
    # first convolution, hence the ones
    "PIXEL_MEAN": [103.53, 116.28, 123.675],
    "PIXEL_STD": [1.0, 1.0, 1.0],
    "MASK_ON": False,
    "KEYPOINT_ON": False,
    "LOAD_PROPOSALS": False,
}

BACKBONES = {
    "BACKBONE": {
        "NAME": "build_resnet_backbone",
        "FREEZE_AT": 2,  # stages that are not trained, counted from the stem; 0 trains everything
    },
    "RESNETS": {
        "DEPTH": 50,
        "OUT_FEATURES": ["res4"],
        "NORM": "FrozenBN",  # FrozenBN, BN, SyncBN or GN
        "NUM_GROUPS": 1,  # above 1: ResNeXt
        "WIDTH_PER_GROUP": 64,
        "STEM_OUT_CHANNELS": 64,
        "RES2_OUT_CHANNELS": 256,  # 64 for depths 18 and 34
        "STRIDE_IN_1X1": True,  # where bottlenecks stride: True for MSRA's networks, False for FAIR's and torch's
        "RES5_DILATION": 1,
        "DEFORM_ON_PER_STAGE": [False, False, False, False],
        "DEFORM_MODULATED": False,
        "DEFORM_NUM_GROUPS": 1,
    },
    "FPN": {
        "IN_FEATURES": [],
        "OUT_CHANNELS": 256,
        "NORM": "",
        "FUSE_TYPE": "sum",  # or avg
    },
}

PROPOSALS = {
    "PROPOSAL_GENERATOR": {"NAME": "RPN", "MIN_SIZE": 0},  # sides must exceed MIN_SIZE
    "ANCHOR_GENERATOR": {
        "NAME": "DefaultAnchorGenerator",
        "SIZES": [[32, 64, 128, 256, 512]],  # one list per feature map, or one for all; square root of the area
        "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],  # height / width
        "OFFSET": 0.0,  # of the first anchor's centre, in strides
    },
    "RPN": {
        "HEAD_NAME": "StandardRPNHead",
        "IN_FEATURES": ["res4"],
        "CONV_DIMS": [-1],  # -1 keeps the number of input channels
        "BOUNDARY_THRESH": -1,  # how far anchors may leave the image; -1 is no limit
        "IOU_THRESHOLDS": [0.3, 0.7],
        "IOU_LABELS": [0, -1, 1],  # background, ignored, object: between and beyond the thresholds
        "BATCH_SIZE_PER_IMAGE": 256,  # anchors drawn for the losses
        "POSITIVE_FRACTION": 0.5,
        "BBOX_REG_LOSS_TYPE": "smooth_l1",  # or giou, diou, ciou
        "BBOX_REG_LOSS_WEIGHT": 1.0,
        "BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0),  # scale of dx, dy, dw, dh
        "SMOOTH_L1_BETA": 0.0,  # 0 is plain L1
        "LOSS_WEIGHT": 1.0,
        # the PRE counts hold per feature map, the POST counts per image
        "PRE_NMS_TOPK_TRAIN": 12000,
        "PRE_NMS_TOPK_TEST": 6000,
        "POST_NMS_TOPK_TRAIN": 2000,
        "POST_NMS_TOPK_TEST": 1000,
        "NMS_THRESH": 0.7,
    },
}

ROI_HEADS = {
    "ROI_HEADS": {
        "NAME": "Res5ROIHeads",
        "NUM_CLASSES": 80,  # without background
        "IN_FEATURES": ["res4"],
        "IOU_THRESHOLDS": [0.5],
        "IOU_LABELS": [0, 1],
        "BATCH_SIZE_PER_IMAGE": 512,  # regions drawn for the losses
        "POSITIVE_FRACTION": 0.25,
        "PROPOSAL_APPEND_GT": True,
        "SCORE_THRESH_TEST": 0.05,
        "NMS_THRESH_TEST": 0.5,
    },
    "ROI_BOX_HEAD": {
        "NAME": "",
        "POOLER_TYPE": "ROIAlignV2",
        "POOLER_RESOLUTION": 14,
        "POOLER_SAMPLING_RATIO": 0,  # samples per bin side; 0 chooses by the region's size
        "NUM_CONV": 0,
        "CONV_DIM": 256,
        "NUM_FC": 0,
        "FC_DIM": 1024,
        "NORM": "",
        "BBOX_REG_LOSS_TYPE": "smooth_l1",
        "BBOX_REG_LOSS_WEIGHT": 1.0,
        "BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
        "SMOOTH_L1_BETA": 0.0,
        "CLS_AGNOSTIC_BBOX_REG": False,
        "TRAIN_ON_PRED_BOXES": False,  # pool masks in predicted boxes instead of proposals
        "USE_SIGMOID_CE": False,
        "USE_FED_LOSS": False,
    },
    "ROI_MASK_HEAD": {
        "NAME": "MaskRCNNConvUpsampleHead",
        "POOLER_TYPE": "ROIAlignV2",
        "POOLER_RESOLUTION": 14,
        "POOLER_SAMPLING_RATIO": 0,
        "NUM_CONV": 0,
        "CONV_DIM": 256,
        "NORM": "",
        "CLS_AGNOSTIC_MASK": False,
    },
}

SEGMENTATION = {
    "SEM_SEG_HEAD": {
        "NAME": "SemSegFPNHead",
        "IN_FEATURES": ["p2", "p3", "p4", "p5"],
        "NUM_CLASSES": 54,
        "IGNORE_VALUE": 255,
        "CONVS_DIM": 128,
        "COMMON_STRIDE": 4,  # of the logits, in input pixels
        "NORM": "GN",
        "LOSS_WEIGHT": 1.0,
    },
    "PANOPTIC_FPN": {
        "INSTANCE_LOSS_WEIGHT": 1.0,
        "COMBINE": {
            "ENABLED": True,
            "OVERLAP_THRESH": 0.5,  # part of an instance that must be unclaimed
            "STUFF_AREA_LIMIT": 4096,  # smallest stuff segment, in pixels of the output
            "INSTANCES_CONFIDENCE_THRESH": 0.5,
        },
    },
}

INPUT = {
    "FORMAT": "BGR",  # or a mode of Pillow
    "MIN_SIZE_TRAIN": (800,),  # shorter side; 0 in MIN_SIZE_TEST keeps the image's size
    "MIN_SIZE_TRAIN_SAMPLING": "choice",  # or range, then MIN_SIZE_TRAIN is (low, high)
    "MAX_SIZE_TRAIN": 1333,  # limit of the longer side
    "MIN_SIZE_TEST": 800,
    "MAX_SIZE_TEST": 1333,
    "RANDOM_FLIP": "horizontal",  # or vertical, none
    "CROP": {"ENABLED": False, "TYPE": "relative_range", "SIZE": [0.9, 0.9]},  # TYPE absolute: SIZE in pixels
    "MASK_FORMAT": "polygon",  # or bitmask
}

DATASETS = {"TRAIN": (), "TEST": ()}  # registered names

DATALOADER = {
    "NUM_WORKERS": 4,  # per process
    "ASPECT_RATIO_GROUPING": True,  # batches of only wide or only tall images
    "SAMPLER_TRAIN": "TrainingSampler",
    "REPEAT_THRESHOLD": 0.0,  # RepeatFactorTrainingSampler: classes in a smaller share of images are repeated
    "REPEAT_SQRT": True,
    "FILTER_EMPTY_ANNOTATIONS": True,
}

SOLVER = {
    "MAX_ITER": 40000,
    "IMS_PER_BATCH": 16,  # over all processes
    "REFERENCE_WORLD_SIZE": 0,  # processes the settings are meant for; another number rescales them, 0 never
    "BASE_LR": 0.001,
    "BASE_LR_END": 0.0,  # WarmupCosineLR only
    "LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "STEPS": (30000,),  # iterations at which the rate is multiplied by GAMMA
    "GAMMA": 0.1,
    "NUM_DECAYS": 3,  # WarmupStepWithFixedGammaLR only
    "WARMUP_ITERS": 1000,
    "WARMUP_FACTOR": 1.0 / 1000,  # first rate / BASE_LR
    "WARMUP_METHOD": "linear",  # or constant
    "RESCALE_INTERVAL": False,  # True: the schedule starts after the warm-up instead of under it
    "MOMENTUM": 0.9,
    "NESTEROV": False,
    "WEIGHT_DECAY": 0.0001,
    "WEIGHT_DECAY_NORM": 0.0,  # of normalization layers
    "WEIGHT_DECAY_BIAS": None,  # None: WEIGHT_DECAY
    "BIAS_LR_FACTOR": 1.0,
    "CLIP_GRADIENTS": {"ENABLED": False, "CLIP_TYPE": "value", "CLIP_VALUE": 1.0, "NORM_TYPE": 2.0},
    "AMP": {"ENABLED": False},
    "CHECKPOINT_PERIOD": 5000,
}

TEST = {
    "EVAL_PERIOD": 0,  # iterations between evaluations; 0 evaluates at the end
    "EXPECTED_RESULTS": [],  # of [task, metric, value, tolerance]
    "DETECTIONS_PER_IMAGE": 100,
    "AUG": {  # multi-scale and flip testing, by whoever wraps the model for it: the engine's trainer does not
        "ENABLED": False,
        "MIN_SIZES": (400, 500, 600, 700, 800, 900, 1000, 1100, 1200),  # shortest edges, px; one pass each
        "MAX_SIZE": 4000,  # of the longest edge, px
        "FLIP": True,  # each size mirrored, too
    },
    "PRECISE_BN": {"ENABLED": False, "NUM_ITER": 200},
}

DEFAULTS = {
    "VERSION": 2,
    "MODEL": {**MODEL, **BACKBONES, **PROPOSALS, **ROI_HEADS, **SEGMENTATION},
    "INPUT": INPUT,
    "DATASETS": DATASETS,
    "DATALOADER": DATALOADER,
    "SOLVER": SOLVER,
    "TEST": TEST,
    "OUTPUT_DIR": "./output",
    "SEED": -1,  # negative: another one each run
    "CUDNN_BENCHMARK": False,  # helps when all inputs have the same size
    "FLOAT32_PRECISION": "",  # highest, high or medium; "" leaves torch's own
    "VIS_PERIOD": 0,  # iterations between pictures of training data; 0 is never
    "GLOBAL": {"HACK": 1.0},
}


def _below(node: str, settings: dict) -> dict:
    return {f"{node}.{key}": value for key, value in settings.items()}


# Settings of Detectron2 whose other values would need a part that is not here. Files that state them at
# these values, as every config saved by Detectron2 does, are read; any other value is an error.
FIXED = {
    **_below("MODEL", {"KEYPOINT_ON": False, "LOAD_PROPOSALS": False}),
    "MODEL.ANCHOR_GENERATOR.ANGLES": [[-90, 0, 90]],
    "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": 50,
    "MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER": 0.5,
    "MODEL.ROI_BOX_CASCADE_HEAD.IOUS": [0.5, 0.6, 0.7],
    "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS": [[10.0 * k, 10.0 * k, 5.0 * k, 5.0 * k] for k in (1, 2, 3)],
    "TEST.KEYPOINT_OKS_SIGMAS": [],
    **_below("DATASETS", {"PROPOSAL_FILES_TRAIN": [], "PRECOMPUTED_PROPOSAL_TOPK_TRAIN": 2000}),
    **_below("DATASETS", {"PROPOSAL_FILES_TEST": [], "PRECOMPUTED_PROPOSAL_TOPK_TEST": 1000}),
    **_below(
        "MODEL.RETINANET",
        {
            "NUM_CLASSES": 80,
            "IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"],
            "NUM_CONVS": 4,
            "IOU_THRESHOLDS": [0.4, 0.5],
            "IOU_LABELS": [0, -1, 1],
            "PRIOR_PROB": 0.01,
            "SCORE_THRESH_TEST": 0.05,
            "TOPK_CANDIDATES_TEST": 1000,
            "NMS_THRESH_TEST": 0.5,
            "BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
            "FOCAL_LOSS_GAMMA": 2.0,
            "FOCAL_LOSS_ALPHA": 0.25,
            "SMOOTH_L1_LOSS_BETA": 0.1,
            "BBOX_REG_LOSS_TYPE": "smooth_l1",
            "NORM": "",
        },
    ),
    **_below(
        "MODEL.ROI_KEYPOINT_HEAD",
        {
            "NAME": "KRCNNConvDeconvUpsampleHead",
            "POOLER_RESOLUTION": 14,
            "POOLER_SAMPLING_RATIO": 0,
            "POOLER_TYPE": "ROIAlignV2",
            "CONV_DIMS": [512] * 8,
            "NUM_KEYPOINTS": 17,
            "MIN_KEYPOINTS_PER_IMAGE": 1,
            "NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": True,
            "LOSS_WEIGHT": 1.0,
        },
    ),
}
