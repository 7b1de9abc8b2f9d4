"""Metrics that can be chosen, by task."""

SEMANTIC = ("IoU", "PNM-IoU", "Boundary-IoU", "Boundary-F")
INSTANCE = ("bbox", "segm", "boundary", "af")
PANOPTIC = ("PQ", "Boundary-PQ")
