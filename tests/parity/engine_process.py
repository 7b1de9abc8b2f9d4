"""Runs one function of this folder on one engine and saves what it returns (called by the fixture ``both``)."""

import importlib
import sys
from pathlib import Path

import torch

import pnm  # noqa: F401  (makes detectron2 importable)


def main() -> None:
    engine, function, output, folder, *args = sys.argv[1:]
    import detectron2

    is_embedded = Path(detectron2.__file__).parents[1].name == "embedded"
    assert is_embedded == (engine == "embedded"), f"{engine} was asked for, {detectron2.__file__} is running"
    torch.set_num_threads(1)
    module, name = function.split(":")
    result = getattr(importlib.import_module(module), name)(Path(folder), *args)
    torch.save(result, output)


if __name__ == "__main__":
    main()
