"""The benchmark of the report runs on a handful of images of the task that takes most code."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_measures_a_task():
    words = ["benchmarks/report.py", "--images", "3", "--workers", "1", "--tasks", "instance"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "instance, compared" in done.stdout
