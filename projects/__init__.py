"""Detectron2 plug-ins: one room for each paper, and the launcher's parts."""
