"""Config keys of the launcher, beside Detectron2's own."""

import difflib
import re
from functools import partial
from pathlib import Path

import yaml
from detectron2.config import CfgNode, get_cfg

from pnm.errors import UserError
from pnm.projects.bpr import add_bpr_config
from pnm.projects.pnm_heads import add_pnm_config, add_semantic_network_config, use_pnm_classes

from ..refining.coarse_predictions import add_prediction_config


def add_launcher_config(cfg: CfgNode) -> None:
    """Adds the launcher's keys to ``cfg``."""
    # The user's own data sets, without Python: a list of mappings, see datasets/README.md.
    cfg.DATASETS.REGISTER = []
    # Name in DATASET_MAPPER_REGISTRY: default_mapper (Detectron2's own augmentations) or semantic_mapper.
    cfg.INPUT.MAPPER = "default_mapper"
    # SSD's photometric augmentation; read by semantic_mapper.
    cfg.INPUT.COLOR_AUG_SSD = False
    # Crops in which one class covers more than this share are drawn again, 1.0 = never; read by semantic_mapper.
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0
    # "SGD", "ADAM" or "ADAMW".
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Factor on BASE_LR for all that isn't in the model's `backbone`; SegFormer is trained with 10. Biases follow
    # BIAS_LR_FACTOR alone where that isn't 1.
    cfg.SOLVER.HEAD_LR_FACTOR = 1.0
    # LR_SCHEDULER_NAME "WarmupPolyLR": lr = BASE_LR * (1 - iter / MAX_ITER) ** POWER, never below BASE_LR * ENDING.
    cfg.SOLVER.POLY_LR_POWER = 0.9
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = 0.0
    # --eval-only refuses a checkpoint that does not fit the model, unless this is True.
    cfg.TEST.ALLOW_PARTIAL_WEIGHTS = False


def all_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    """Full names of all keys, nodes included."""
    found = []
    for name, value in cfg.items():
        found.append(prefix + name)
        if isinstance(value, CfgNode):
            found += all_keys(value, f"{prefix}{name}.")
    return found


def _unknown_key(cfg: CfgNode, key: str, where: str) -> UserError:
    known = all_keys(cfg)
    # A key in the wrong node is as likely as a misspelt one: compare the last part alone, too.
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    near = near or [k for k in known if k.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]][:1]
    advice = f"did you mean {near[0]}?" if near else "see the comments in the Base configs for what there is"
    return UserError(f"{where}: unknown config key {key}; {advice}")


def _explain(cfg: CfgNode, error: Exception, where: str) -> UserError:
    """The config system's error as one line that names the remedy."""
    text = str(error.args[0] if error.args else error)
    key = re.search(r"(?:Non-existent (?:config )?key:|unknown config key) ([\w.]+)", text)
    if key:
        return _unknown_key(cfg, key[1], where)
    mismatch = re.search(r"Type mismatch \(<class '([\w.]+)'> vs. <class '([\w.]+)'>\).*key: ([\w.]+)", text, re.DOTALL)
    if mismatch:
        wanted, came = (name.rsplit(".", 1)[-1] for name in mismatch.group(1, 2))
        return UserError(f"{where}: {mismatch[3]} takes {wanted}, got {came}")
    return UserError(f"{where}: {' '.join(text.split())[:300] or 'not understood; overrides are KEY VALUE pairs'}")


def _merge(cfg: CfgNode, merge, argument, where: str) -> None:
    try:
        merge(argument)
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None
    except (KeyError, ImportError, ValueError, AssertionError, SyntaxError, TypeError) as error:
        raise _explain(cfg, error, where) from None


def load_config(config_file: str, overrides: list[str]) -> CfgNode:
    """The run's config: defaults, then the YAML file (with its ``_BASE_``), then ``KEY VALUE`` overrides.

    Raises:
        UserError: file missing or malformed, unknown key (the nearest known one is named), wrong type of value.
    """
    cfg = get_cfg()
    add_launcher_config(cfg)
    add_pnm_config(cfg)
    add_semantic_network_config(cfg)
    add_prediction_config(cfg)
    add_bpr_config(cfg)
    if config_file:
        if not Path(config_file).is_file():
            near = difflib.get_close_matches(config_file, map(str, Path("configs").rglob("*.yaml")), n=1, cutoff=0.3)
            advice = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"config file {config_file} does not exist{advice}")
        # YAML can name Python functions to call; a config is data.
        _merge(cfg, partial(cfg.merge_from_file, allow_unsafe=False), config_file, config_file)
    if len(overrides) % 2:
        raise UserError(f"overrides are KEY VALUE pairs, got an odd number: {' '.join(overrides)}")
    _merge(cfg, cfg.merge_from_list, overrides, "command line")
    use_pnm_classes(cfg)
    return cfg
