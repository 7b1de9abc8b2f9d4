"""The network of a trained refiner for other programs."""

from collections.abc import Sequence

from pnm.network_backends.onnx_models import Exportable

from .config import load_config
from .refiner_loading import load_refiner


def exportable_refiner(config_file: str, overrides: Sequence[str]) -> Exportable:
    """Of a config and weights; see :func:`.refiner_loading.load_refiner` for errors."""
    cfg = load_config(config_file, [*overrides, "MODEL.DEVICE", "cpu"])
    exportable = load_refiner(cfg).model.exportable()
    colors = {"RGB": ["red", "green", "blue"], "BGR": ["blue", "green", "red"]}[cfg.INPUT.FORMAT]
    return exportable._replace(description={**exportable.description, "color_order": colors})
