"""A trained refiner from its config and weights."""

import hashlib
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from pnm.errors import UserError

from ..refining import RefiningModel, TrainedRefiner, refiner_class, refiner_names
from ..refining.named_weights import local_weights
from .checkpoint import SafeCheckpointer
from .config import load_config


def load_refiner(config: CfgNode | str, weights: str = "", overrides: Sequence[str] = ()) -> TrainedRefiner:
    """The refiner that a config describes, ready to be called.

    Args:
        config: of :func:`.config.load_config`; or a file, or the name of one of this project's configs, such as
            "quickstart/bpr_instance.yaml".
        weights: file or address; "" for the config's ``MODEL.WEIGHTS``.
        overrides: ``KEY VALUE`` pairs, where ``config`` is a name.

    Raises:
        UserError: the config is of no refiner, or there are no weights.
        CheckpointError: the weights cannot be had or don't fit.
    """
    if isinstance(config, CfgNode):
        cfg = config.clone()
    else:
        cfg = load_config(config, overrides)
        # A package's user has no GPU more often than not, and says so by an override at most.
        cfg.MODEL.DEVICE = cfg.MODEL.DEVICE if torch.cuda.is_available() else "cpu"
    if weights:
        cfg.defrost()
        cfg.MODEL.WEIGHTS = str(weights)
    task = checked_refiner_class(cfg).task_of(cfg)
    if not cfg.MODEL.WEIGHTS:
        raise UserError("a refiner needs weights; add: MODEL.WEIGHTS path/to/model_final.pth")
    model = build_model(cfg)
    SafeCheckpointer(model, strict=not cfg.TEST.ALLOW_PARTIAL_WEIGHTS).load(cfg.MODEL.WEIGHTS)
    model.eval().prepare_inference()
    return TrainedRefiner(model, task, cfg.INPUT.FORMAT)


def checked_refiner_class(cfg: CfgNode) -> type[RefiningModel]:
    """The class of ``MODEL.META_ARCHITECTURE``; a UserError if that is no refiner."""
    kind = refiner_class(cfg)
    if kind is None:
        raise UserError(
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} refines nothing, expected one of "
            f"{', '.join(refiner_names())}: give the config that the refiner was trained with"
        )
    return kind


def refiner_fingerprint(cfg: CfgNode) -> str:
    """Tells what a refiner's output depends on: its weights' bytes and ``MODEL`` and ``INPUT`` of its config."""
    return hashlib.sha256((cfg.MODEL.dump() + cfg.INPUT.dump() + weights_digest(cfg)).encode()).hexdigest()


def weights_digest(cfg: CfgNode) -> str:
    """SHA-256 of the bytes of ``MODEL.WEIGHTS``, and of what else a refiner loads."""
    refiner = refiner_class(cfg)
    digest = hashlib.sha256()
    for weights in (cfg.MODEL.WEIGHTS, *(refiner.further_weights(cfg) if refiner else ())):
        with open(local_weights(weights.partition("?")[0]), "rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
