"""The embedded engine: imported as ``detectron2`` once ``import pnm`` has put this folder on the path."""

raise ImportError("import pnm, then detectron2")  # from a clone's root, the engine would exist under a second name
