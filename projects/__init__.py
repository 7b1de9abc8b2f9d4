"""Detectron2 plug-ins: one room for each paper, what rooms share, and the launcher's parts."""

if __name__ != "pnm.projects":  # from a clone's root, everything here would exist under a second name
    raise ImportError(f"import pnm.{__name__} in place of {__name__}")
