"""Detectron2 plug-ins: one room for each paper, and the launcher's parts."""

import pnm  # noqa: F401  (makes detectron2 importable)
