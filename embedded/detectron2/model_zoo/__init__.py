"""Addresses of the checkpoints that Detectron2's authors publish for the models of this engine's scope."""

from detectron2._scope import outside

from .model_zoo import get, get_checkpoint_url, get_config, get_config_file

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file"]

__getattr__ = outside(__name__)
