"""Registries, processes, logging, events, files and pictures: what the other rooms of the engine stand on."""

from detectron2._scope import outside

__getattr__ = outside(__name__)
