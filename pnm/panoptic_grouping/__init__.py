"""PRN's panoptic maps as fields (centres, offsets, boxes, foreground), and fields grouped into panoptic maps again.

Sun et al., "PRN: Panoptic Refinement Network", WACV 2023.
"""
