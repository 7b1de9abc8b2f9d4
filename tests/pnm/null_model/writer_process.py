"""What processes that tests start do to a folder of weight maps.

They import this file by its own name, as a Detectron2 clone on the path brings a ``tests`` package that hides this
folder's.
"""

import os
import time

import pytest

from pnm.errors import UserError
from pnm.formats.atomic_files import ENDING
from pnm.null_model.stored import writer
from pnm.null_model.stored.maps import WeightMapParameters
from pnm.null_model.stored.sharded_maps import write_map_shard
from pnm.null_model.stored.writer import write_weight_maps

TOY = WeightMapParameters("toy", 7)


def write_where_another_does(folder, labels):
    with pytest.raises(UserError, match=f"another process is writing to {folder}; wait until it has finished"):
        write_weight_maps(folder, TOY, labels)


def write_slowly(folder, labels):
    """Many small writes make it likely that a kill comes between them."""
    _slow_down()
    write_weight_maps(folder, TOY, labels, workers=2)


def write_shard_slowly(folder, labels, shard):
    _slow_down()
    write_map_shard(folder, TOY, labels, shard)


def _slow_down():
    writer.write_bytes = in_small_pieces
    writer.write_text = lambda path, text: in_small_pieces(path, text.encode())


def in_small_pieces(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}{ENDING}")
    with unfinished.open("wb", buffering=0) as file:
        for at in range(0, len(data), 200):
            file.write(data[at : at + 200])
            time.sleep(0.0005)
    os.replace(unfinished, path)
