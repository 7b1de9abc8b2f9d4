"""Both engines, each in its own process, on equal input. Collected only where ``PNM_DETECTRON2`` names a clone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

CLONE = os.environ.get("PNM_DETECTRON2", "")
ROOT = Path(__file__).resolve().parents[2]
collect_ignore_glob = [] if CLONE else ["test_*.py"]


@pytest.fixture(scope="session")
def clone() -> Path:
    return Path(CLONE).resolve()


@pytest.fixture
def both(tmp_path):
    """``both("module:function", *args)``: what a function of this folder returns on (Detectron2, embedded engine).

    It is called as ``function(folder, *args)``; first on Detectron2, so files left in ``folder`` can serve as
    common input. Tensors, arrays and containers can be returned.
    """

    def run(function: str, *args: object):
        results = []
        for engine, path in (("detectron2", [CLONE, str(ROOT)]), ("embedded", [str(ROOT)])):
            output = tmp_path / f"{engine}.pth"
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, str(Path(__file__).with_name("engine_process.py"))]
            command += [engine, function, str(output), str(tmp_path), *map(str, args)]
            done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, f"{engine} failed:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
            results.append(torch.load(output, weights_only=False))
        return results

    return run
