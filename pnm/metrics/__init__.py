"""Metrics over plain arrays and result files; no Detectron2."""
