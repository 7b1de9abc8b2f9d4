"""Kernels of each room where their kept code is whole, damaged, or can't be written: the same results, no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, resource, signal, sys, traceback
import numpy as np

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if "full" in sys.argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # each byte written to a file is refused, as on a full disk

labels = np.repeat([[1, 1, 1, 2, 2, 2]], 4, 0)

def grouping():
    from pnm.panoptic_grouping.panoptic_map import numbered
    return numbered(labels, [2, 1])

def patches():
    from pnm.boundary_patches.extraction import cut_patches
    from pnm.masks.crops import crop_array
    return cut_patches(crop_array(labels == 2), np.array([[0, 2]], np.int32), 2)

def fusion():
    from pnm.panoptic_fusion.fusion import FusionSettings, fuse
    return fuse([], [], [], labels.astype(np.uint8), FusionSettings(min_stuff_area_px=1)).ids

def offsets():
    from pnm.interior_offsets.shifting import Shift, shifted_labels
    return shifted_labels(labels, Shift((4, 6), np.array([2], np.int32), np.array([3], np.int32), 1), [1, 2])

def topology():
    from pnm.object_refinement.topology import with_kept_topology
    return with_kept_topology(labels == 2, np.roll(labels, 1, 1) == 2)

def surprisal():
    from pnm.null_model.stored.surprisal import encode_surprisal
    return encode_surprisal(np.full((1, 2), 0.5, np.float32), np.array([[False, True]]))

told = {}
for room in (grouping, patches, fusion, offsets, topology, surprisal):
    try:
        told[room.__name__] = room().astype(int).tolist()
    except Exception:
        told[room.__name__] = traceback.format_exc()
print(json.dumps(told | {"numba": "numba" in sys.modules}))
"""
WANTED = {
    "grouping": [[2, 2, 2, 1, 1, 1]] * 4,
    "patches": [[[0, 1], [0, 1]]],
    "fusion": [[1, 1, 1, 2, 2, 2]] * 4,
    "offsets": [[1, 1, 2, 2, 2, 2], *[[1, 1, 1, 2, 2, 2]] * 3],
    "topology": [[0, 0, 0, 0, 1, 1]] * 4,
    "surprisal": [[3604, 65535]],
}
SITUATIONS = ("new", "kept", "damaged, disk full", "no folder")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each run of the program said, by situation."""
    folder = tmp_path_factory.mktemp("kernels")
    cache = folder / "cache"
    (folder / "file").write_text("")

    def run(place, *words):
        env = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([sys.executable, "-c", PROGRAM, *words], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    told = {"new": run(cache), "kept": run(cache)}
    files = [file for file in cache.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".kernel", ".nbi", ".nbc"}
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return told | {"damaged, disk full": run(cache, "full"), "no folder": run(folder / "file" / "below")}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("room", WANTED)
def test_same_results_whatever_became_of_kept_code(told, room, situation):
    assert told[situation][room] == WANTED[room]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
def test_numba_is_not_imported_where_code_is_kept(told):
    assert told["new"]["numba"] and not told["kept"]["numba"]
