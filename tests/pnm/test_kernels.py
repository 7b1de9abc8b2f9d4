"""Machine code of kernels: kept, run without numba, and made anew where anything has changed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pnm.kernel_arguments import describe
from pnm.masks.runs import rle_text

ROOT = Path(__file__).resolve().parents[2]
MODULE = """
from typing import NamedTuple
import numpy as np
from pnm.kernels import entry_kernel
from other import scaled

class Pair(NamedTuple):
    numbers: np.ndarray
    start: int

@entry_kernel
def add_up(pair: Pair, by: float, out: np.ndarray, twice: bool) -> tuple[int, int]:
    for k in range(pair.numbers.size):
        out[k] = scaled(pair.numbers[k], by) * (2 if twice else 1)
    return pair.numbers.size, pair.start

@entry_kernel
def fail(size: int) -> int:
    return np.empty(size).size
"""
OTHER = """
import numpy as np
from pnm.kernels import kernel

FACTOR = 3

@kernel
def scaled(number, by):
    return np.full(1, number)[0] * by * FACTOR
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
    (tmp_path / "other.py").write_text(OTHER)

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


def test_another_constant_or_kernel_of_another_module_makes_it_anew(run, tmp_path):
    run()
    (tmp_path / "other.py").write_text(OTHER.replace("FACTOR = 3", "FACTOR = 5"))
    assert run() == "(3, 7) [0.0, 5.0, 10.0] True" and run().endswith("False")
    (tmp_path / "other.py").write_text(OTHER.replace("* by * FACTOR", "* by + FACTOR"))
    assert run() == "(3, 7) [6.0, 7.0, 8.0] True"
    for number in (3, 5):  # of NumPy's kind, which is none of Python's
        (tmp_path / "other.py").write_text(OTHER.replace("FACTOR = 3", f"FACTOR = np.float32({number})"))
        assert run() == f"(3, 7) [0.0, {number}.0, {2 * number}.0] True"


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


def test_damaged_files_of_numba_are_passed_over(run, tmp_path):
    run()
    for file in (tmp_path / "__pycache__").glob("*.nbi"):
        file.write_bytes(file.read_bytes()[:20])
    for file in (tmp_path / "__pycache__").glob("*.kernel"):
        file.unlink()
    assert run() == f"{SUMS} True"


FORK = """
import os, signal, threading
import numpy as np
import own
from pnm import kernels

held, done = threading.Event(), threading.Event()

def hold():
    with kernels._one_at_a_time:
        held.set()
        done.wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if not child:
    signal.alarm(60)
    own.add_up(own.Pair(np.arange(3, dtype=np.uint8), 7), 0.5, np.zeros(3), True)
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""


def test_a_child_forked_while_a_thread_compiles(run):
    run()
    assert run(FORK) == "0"


@pytest.mark.parametrize("returned", ["float", "np.ndarray", "tuple[int, float]"])
def test_kernels_called_from_python_return_whole_numbers(run, tmp_path, returned):
    (tmp_path / "own.py").write_text(MODULE.replace("-> tuple[int, int]", f"-> {returned}"))
    told = run(f"try:\n    exec({PROGRAM!r})\nexcept TypeError as error:\n    print(error)")
    assert told.startswith("add_up returns") and told.endswith("kernels called from Python return whole numbers")


def test_steps_that_are_one_make_it_anew(run, tmp_path):
    run()
    (tmp_path / "other.py").write_text(OTHER.replace("import kernel", "import fusing_kernel as kernel"))
    assert run() == f"{SUMS} True" and run() == f"{SUMS} False"


def test_arrays_that_kernels_can_not_take():
    text = rle_text(np.array([3, 4, 5]))
    assert rle_text(np.array([3, 4, 5], ">i4")) == text == rle_text(np.array([3, 0, 4, 0, 5])[::2])
    with pytest.raises(TypeError, match="contiguous, in this machine's byte order"):
        describe([np.zeros((4, 4))[:, ::2]])
    with pytest.raises(TypeError, match="contiguous, in this machine's byte order"):
        describe([np.zeros(4, ">f4")])
