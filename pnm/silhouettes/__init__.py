"""Silhouettes of labels and masks, losses of them, masks blended of bases, and scores of masks.

Chang et al., "SE-PSNet: Silhouette-based Enhancement Feature for Panoptic Segmentation Network", 2022; and Chen et al.,
"BlendMask: Top-Down Meets Bottom-Up for Instance Segmentation", CVPR 2020.
"""
