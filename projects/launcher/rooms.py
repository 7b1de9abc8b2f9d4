"""The rooms that the launcher knows, and how a user's own package joins them.

A room is a package that registers its models in Detectron2's registries when it is imported, and may have

- ``add_config(cfg)``: adds its keys to the defaults;
- ``finish_config(cfg)``: checks and completes a config when all is merged;
- ``take_from_data(cfg, metadata)``: completes a config with what the data sets say, ``{name: metadata}``;
- ``wrap_mapper(cfg, mapper)``: a mapper for training in place of ``mapper``, which does what that does and more;
- ``semantic_metric_options(cfg)``: arguments of :class:`pnm.metrics.semantic_metrics.SemanticMetrics`;
- ``build_evaluators(cfg, dataset_name, folder)``: a list of evaluators beside those that every data set has.

A meta-architecture says by its class attribute ``dataset_mapper`` which mapper feeds it, a name in
``DATASET_MAPPER_REGISTRY``. A refiner is derived from :class:`pnm.projects.refining.RefiningModel`.
"""

import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

from pnm.errors import UserError

logger = logging.getLogger(__name__)

ROOMS = (
    "dataset_mappers",
    "semantic_networks",
    "refining",
    "pnm_heads",
    "bpr",
    "segfix",
    "prn",
    "se_psnet",
    "universal",
)
KEY = "MODEL.IMPORTS"


def import_rooms(imports: Sequence[str] = ()) -> list[ModuleType]:
    """This project's rooms, then the packages that ``MODEL.IMPORTS`` names, in that order.

    Raises:
        UserError: a package that cannot be imported.
    """
    rooms = [importlib.import_module(f"pnm.projects.{name}") for name in ROOMS]
    return rooms + [_import_user_package(name) for name in dict.fromkeys(imports)]


def _import_user_package(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:  # python puts the program's folder there, not the user's
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever the user's own code raises
        logger.debug("%s could not be imported", name, exc_info=True)
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{KEY}: {name} cannot be imported ({cause}); it must be installed, or lie in the working directory or on "
            "PYTHONPATH"
        ) from error


def hooks(name: str, imports: Sequence[str] = ()) -> Iterable[Callable[..., Any]]:
    """The functions of that name, of all rooms that have one."""
    return [getattr(room, name) for room in import_rooms(imports) if hasattr(room, name)]
