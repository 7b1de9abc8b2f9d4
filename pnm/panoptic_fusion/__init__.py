"""Instance masks and stuff logits to a panoptic map, in time linear in the pixels of the boxes and one pass for stuff.

The rules are those of Detectron2's Panoptic FPN (Kirillov et al., CVPR 2019); silhouette scores choose among duplicate
masks (SE-PSNet).
"""
