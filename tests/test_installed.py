"""The project as a wheel, in an environment of its own and an empty folder."""

import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("pnm", "projects", "tools", "embedded", "configs")
FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "requirements.txt", "requirements-dev.txt")
FILES += ("requirements-onnx.txt", "requirements-openvino.txt")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> tuple[Path, Path]:
    """Python of an environment that has the wheel and the packages that this one has, and an empty folder."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", folder / "wheels", source], check=True, capture_output=True)
    (wheel,) = (folder / "wheels").glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()))
    install = [sys.executable, "-m", "pip", "--quiet", "--python", folder / "env", "install", "--no-deps", "--no-index"]
    subprocess.run([*install, wheel], check=True, capture_output=True)
    (folder / "empty").mkdir()
    return folder / "env/bin", folder / "empty"


def run(installed, *command, **environment):
    binaries, empty = installed
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [str(binaries / command[0]), *map(str, command[1:])],
        cwd=empty,
        capture_output=True,
        text=True,
        env={**env, "OMP_NUM_THREADS": "1", **environment},
    )


def test_everything_is_under_one_name(installed):
    code = """
import sys, importlib.util
import pnm
assert "site-packages" in pnm.__file__, pnm.__file__
for name in pnm.__all__:
    getattr(pnm, name)
from pnm.object_refinement.trained_weights import trained_weights
assert "universal-small" in trained_weights()
pnm.ensure_detectron2()
import detectron2
import pnm.projects.bpr, pnm.projects.launcher.trainer, pnm.tools.evaluate
files = {}
for name, module in list(sys.modules.items()):
    file = getattr(module, "__file__", None)
    if file and "/site-packages/pnm/" in file and name != "__main__":
        assert files.setdefault(file, name) == name, (file, name, files[file])
for name in ("projects", "tools", "embedded", "configs"):
    assert importlib.util.find_spec(name) is None, name
print("engine", detectron2.__file__)
"""
    done = run(installed, "python", "-c", code)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_config_by_name_and_a_refiner(installed):
    code = """
import numpy as np, torch, pnm
from detectron2.modeling import build_model
from pnm.projects.launcher.config import load_config
cfg = load_config("quickstart/bpr_instance.yaml")
torch.save({"model": build_model(cfg).state_dict()}, "weights.pth")
refiner = pnm.load_refiner("quickstart/bpr_instance", "weights.pth")
mask = np.zeros((40, 50), bool)
mask[10:30, 10:30] = True
refined = refiner(np.zeros((40, 50, 3), np.uint8), mask)
assert refined.shape == mask.shape and refined.dtype == bool
print(pnm.pixel_weights(pnm.pixel_null_model(mask, 5)).max())
"""
    done = run(installed, "python", "-c", code)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    "program",
    [
        "train",
        "predict",
        "refine",
        "evaluate",
        "report",
        "weights",
        "pseudo-labels",
        "convert",
        "check",
        "segment-changes",
        "export",
        "visualize",
        "visualize-prn",
        "visualize-se-psnet",
        "visualize-weights",
    ],
)
def test_programs_are_commands(installed, program):
    done = run(installed, "pnm", program, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: pnm {program}"), done.stderr[-2000:]
    wrong = run(installed, "pnm", program, "--no-such-option")
    assert wrong.returncode == 2 and "error" in wrong.stderr


def test_a_report_finds_its_page(installed):
    """Template, style and script are in the wheel."""
    code = """
import json
from pathlib import Path
import numpy as np
from PIL import Image
for side in ("gt", "pred"):
    Path(side).mkdir()
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(f"{side}/a.png")
"""
    made = run(installed, "python", "-c", code)
    words = ["--gt", "gt", "--pred", "pred", "--classes", "2", "--bootstrap", "5", "--output", "report.html"]
    done = run(installed, "pnm", "report", *words)
    assert made.returncode == done.returncode == 0, made.stderr + done.stderr[-2000:]
    assert "</html>" in (installed[1] / "report.html").read_text("utf-8")


def test_the_command_tells_its_programs(installed):
    listing, unknown = run(installed, "pnm", "--help"), run(installed, "pnm", "tarin")
    assert listing.returncode == 0 and "  train " in listing.stdout
    assert unknown.returncode == 2 and "  train " in unknown.stderr


def test_trains(installed, shapes_root):
    words = ["SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "1", "DATASETS.TEST", "()", "DATALOADER.NUM_WORKERS", "0"]
    config = ["--config-file", "quickstart/semantic_fpn_R_18_PNM"]
    done = run(installed, "pnm", "train", *config, *words, DETECTRON2_DATASETS=str(shapes_root))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert list(installed[1].glob("output/**/model_final.pth"))
