"""FCOS: which cell of a feature pyramid learns which object, what it learns, and boxes from what it says.

Tian et al., "FCOS: A Simple and Strong Anchor-Free Object Detector", TPAMI 2020.
"""
