"""Config keys of the launcher, beside Detectron2's own and the rooms'."""

import ast
import difflib
import re
from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import yaml
from detectron2.config import CfgNode, get_cfg

from pnm.errors import UserError

from .config_files import find_config_file
from .config_text import check_config_text
from .rooms import KEY, hooks

_MOST_DEPTH, _MOST_CHARACTERS = 30, 1 << 20  # of a value on the command line


def add_launcher_config(cfg: CfgNode) -> None:
    """Adds the launcher's keys to ``cfg``."""
    # Packages of your own to import before a model is built, whose models, mappers and config keys then are there:
    # ("my_package.my_head",). See CONTRIBUTING.md.
    cfg.MODEL.IMPORTS = ()
    # The user's own data sets, without Python: a list of mappings, see datasets/README.md.
    cfg.DATASETS.REGISTER = []
    # Whether all label PNGs of semantic data sets are read before a run starts; else a wrong one ends it when met.
    cfg.DATASETS.CHECK_LABELS = True
    # Of the images, for SAMPLER_TRAIN RandomSubsetTrainingSampler; Detectron2 reads the key and does not declare it.
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 1.0
    # Of each data set in DATASETS.TRAIN, its share of every batch: (8, 8) or (1, 1) for halves. Empty: images come as
    # often as they are there.
    cfg.DATALOADER.DATASET_SHARES = ()
    # "SGD", "ADAM" or "ADAMW".
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Factor on BASE_LR for all that isn't in the model's `backbone`; SegFormer is trained with 10. Biases follow
    # BIAS_LR_FACTOR alone where that isn't 1.
    cfg.SOLVER.HEAD_LR_FACTOR = 1.0
    # LR_SCHEDULER_NAME "WarmupPolyLR": lr = BASE_LR * (1 - iter / MAX_ITER) ** POWER, never below BASE_LR * ENDING.
    cfg.SOLVER.POLY_LR_POWER = 0.9
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = 0.0
    # Images of the first data set in DATASETS.TEST that are drawn after each evaluation in training, truth beside
    # prediction, for TensorBoard; 0 for none.
    cfg.TEST.VIS_IMAGES = 0
    # --eval-only refuses a checkpoint that does not fit the model, unless this is True.
    cfg.TEST.ALLOW_PARTIAL_WEIGHTS = False
    # After each evaluation, a page of metrics, errors and the worst images as tools/report.py makes it, in
    # OUTPUT_DIR/inference/<data set>/report.html. A refiner's has what it was given as A and what it made of it as B.
    cfg.TEST.REPORT = False


def all_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    """Full names of all keys, nodes included."""
    names = []
    for name, value in cfg.items():
        names.append(prefix + name)
        if isinstance(value, CfgNode):
            names += all_keys(value, f"{prefix}{name}.")
    return names


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
        advice = ": write it with a point, like 1.0" if (wanted, came) == ("float", "int") else ""
        return UserError(f"{where}: {mismatch[3]} takes {wanted}, got {came}{advice}")
    return UserError(f"{where}: {' '.join(text.split())[:300] or 'not understood; overrides are KEY VALUE pairs'}")


def _merge(cfg: CfgNode, merge, argument, where: str) -> Any:
    try:
        return merge(argument)
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None
    except (
        KeyError,
        ImportError,
        ValueError,
        AssertionError,
        SyntaxError,
        TypeError,
        RecursionError,
        MemoryError,
    ) as error:
        raise _explain(cfg, error, where) from None


def _check_value(key: str, value: Any) -> None:
    """Raises a UserError for text that is no value, and that Python's reader would stumble over."""
    depth = deepest = 0
    for sign in str(value):
        depth += (sign in "[({") - (sign in "])}")
        deepest = max(deepest, depth)
    if deepest > _MOST_DEPTH or len(str(value)) > _MOST_CHARACTERS or "\0" in str(value):
        raise UserError(f"command line: {key} {str(value)[:40]}... is no value: too long, or too many brackets")


def _with_floats(cfg: CfgNode, overrides: list[str]) -> list[str]:
    """Overrides in which keys that take a number with a point have one, where a whole number was given."""
    out = list(overrides)
    for n in range(0, len(overrides), 2):
        value = attrgetter(overrides[n])(cfg) if overrides[n] in all_keys(cfg) else None
        if isinstance(value, float) and re.fullmatch(r"[+-]?[0-9]{1,15}", str(overrides[n + 1]).strip()):
            out[n + 1] = f"{str(overrides[n + 1]).strip()}.0"
    return out


def _wanted_imports(cfg: CfgNode, config_file: str, overrides: Sequence[str]) -> tuple[str, ...]:
    """``MODEL.IMPORTS`` of a file and of overrides, which is known before the keys that those packages add."""
    content: dict = {}
    if config_file:
        load = partial(CfgNode.load_yaml_with_base, allow_unsafe=False)
        content = _merge(cfg, load, config_file, config_file)
    model = content.get("MODEL") if isinstance(content, dict) else None
    names = model.get("IMPORTS", ()) if isinstance(model, dict) else ()
    for key, value in zip(overrides[::2], overrides[1::2]):
        names = value if key == KEY else names
    if isinstance(names, str):  # as YAML and the command line give a tuple
        try:
            names = ast.literal_eval(names)
        except (ValueError, SyntaxError):
            names = None
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise UserError(f'{KEY} takes names of packages, like ("my_package.my_head",)')
    return tuple(names)


def load_config(config_file: str, overrides: Sequence[str] = ()) -> CfgNode:
    """The run's config: defaults, then the YAML file (with its ``_BASE_``), then ``KEY VALUE`` overrides.

    Args:
        config_file: a path, or the name of one of this project's configs, like "quickstart/bpr_instance.yaml", or "".

    Raises:
        UserError: file missing or malformed, unknown key (the nearest known one is named), wrong type of value, what a
            room refuses, test-time augmentation of a model that it isn't for.
    """
    overrides = list(overrides)
    if len(overrides) % 2:
        raise UserError(f"overrides are KEY VALUE pairs, got an odd number: {' '.join(overrides)}")
    config_file = find_config_file(config_file) if config_file else ""
    if config_file:
        check_config_text(config_file)
    for key, value in zip(overrides[::2], overrides[1::2]):
        _check_value(key, value)
    cfg = get_cfg()
    add_launcher_config(cfg)
    imports = _wanted_imports(cfg, config_file, overrides)
    for add_config in hooks("add_config", imports):
        add_config(cfg)
    if config_file:
        # YAML can name Python functions to call; a config is data.
        _merge(cfg, partial(cfg.merge_from_file, allow_unsafe=False), config_file, config_file)
    _merge(cfg, cfg.merge_from_list, _with_floats(cfg, overrides), "command line")
    for finish_config in hooks("finish_config", imports):
        finish_config(cfg)
    from ..semantic_networks.multi_scale_testing import check_augmented_testing  # as the rooms, which bring torch

    check_augmented_testing(cfg)
    return cfg
