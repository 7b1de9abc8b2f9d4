"""Machine code of kernels: kept, run without numba, and made anew where anything has changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = """
from typing import NamedTuple
import numpy as np
from pnm.kernels import entry_kernel, kernel

FACTOR = 3

class Pair(NamedTuple):
    numbers: np.ndarray
    start: int

@kernel
def scaled(number, by):
    return np.full(1, number)[0] * by * FACTOR

@entry_kernel
def add_up(pair: Pair, by: float, out: np.ndarray, twice: bool) -> tuple[int, int]:
    for k in range(pair.numbers.size):
        out[k] = scaled(pair.numbers[k], by) * (2 if twice else 1)
    return pair.numbers.size, pair.start

@entry_kernel
def fail(size: int) -> int:
    return np.empty(size).size
"""
PROGRAM = """
import sys
import numpy as np
import own

out = np.zeros(3)
sizes = own.add_up(own.Pair(np.arange(3, dtype=np.uint8), 7), 0.5, out, True)
print(sizes, out.tolist(), "numba" in sys.modules)
"""
FAIL = """
import own
try:
    own.fail(-1)
except MemoryError as error:
    print(error)
import numba
print(numba.njit(lambda: own.scaled(2, 1.0))())
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "own.py").write_text(MODULE)

    def run(program=PROGRAM, **more):
        env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"} | more
        env.pop("NUMBA_CACHE_DIR", None) if "NUMBA_CACHE_DIR" not in more else None
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


SUMS = "(3, 7) [0.0, 3.0, 6.0]"


def test_kept_code_runs_without_numba(run, tmp_path):
    assert run() == f"{SUMS} True"
    assert run() == f"{SUMS} False"
    assert run(NUMBA_CACHE_DIR=str(tmp_path / "cache")) == f"{SUMS} True"
    assert run(NUMBA_CACHE_DIR=str(tmp_path / "cache")) == f"{SUMS} False"


def test_another_constant_kernel_or_interpreter_makes_it_anew(run, tmp_path):
    run()
    (tmp_path / "own.py").write_text(MODULE.replace("FACTOR = 3", "FACTOR = 5"))
    assert run() == "(3, 7) [0.0, 5.0, 10.0] True" and run().endswith("False")
    (tmp_path / "own.py").write_text(MODULE.replace("* by * FACTOR", "* by + FACTOR"))
    assert run() == "(3, 7) [6.0, 7.0, 8.0] True"


@pytest.mark.parametrize("damage", [b"", b"x", b"x" * 100])
def test_damaged_code_is_made_anew(run, tmp_path, damage):
    run()
    (file,) = (tmp_path / "__pycache__").glob("*.kernel")
    whole = file.read_bytes()
    file.write_bytes(damage or whole[: len(whole) // 2])
    assert run() == f"{SUMS} True" and file.read_bytes()[:64] == whole[:64]
    assert run() == f"{SUMS} False"


def test_nothing_can_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    for _ in range(2):
        assert run(NUMBA_CACHE_DIR=str(tmp_path / "file/below"), PYTHONDONTWRITEBYTECODE="1") == f"{SUMS} True"


def test_without_compilation(run):
    assert run(NUMBA_DISABLE_JIT="1") == f"{SUMS} True"


def test_failing_kernels_are_told_and_numba_works_beside(run):
    for _ in range(2):
        assert run(FAIL).splitlines() == [
            "a kernel was ended before its time, most likely for want of memory: see above",
            "6.0",
        ]
