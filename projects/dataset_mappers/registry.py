"""Dataset mappers by name."""

from detectron2.utils.registry import Registry

DATASET_MAPPER_REGISTRY = Registry("DATASET_MAPPER")
DATASET_MAPPER_REGISTRY.__doc__ = """
Callables from a Detectron2 dataset dict to a model's input, built as ``mapper(cfg, is_train)``.

A meta-architecture that needs a mapper of its own names it in its class attribute ``dataset_mapper``.
"""
