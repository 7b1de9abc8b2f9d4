"""Cityscapes' classes: label ids and names, as its benchmark evaluates them; data that formats and metrics share."""

CITYSCAPES_CLASSES = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}  # by label id; train ids are their places
_FIRST_WITH_INSTANCES = 24
CITYSCAPES_INSTANCE_CLASSES = {k: name for k, name in CITYSCAPES_CLASSES.items() if k >= _FIRST_WITH_INSTANCES}
CITYSCAPES_IDS = 34  # label ids are smaller
CITYSCAPES_VOID_IDS = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)  # label ids that aren't evaluated
FIRST_INSTANCE = 1000  # an instance of class c has id 1000 c + n
