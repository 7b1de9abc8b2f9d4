"""The configuration tree: defaults, YAML files with bases, overrides, and construction from it."""

from detectron2._scope import outside

from .config import CfgNode, configurable, get_cfg

__all__ = ["CfgNode", "configurable", "get_cfg"]

__getattr__ = outside(__name__)
