"""What is imported is declared, and nothing that runs needs the development requirements."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE_OF = {
    "PIL": "pillow", "cv2": "opencv-python-headless", "segmentation_models_pytorch": "segmentation-models-pytorch",
    "zlib_ng": "zlib-ng", "yaml": "pyyaml", "llvmlite": "numba",
}  # fmt: skip
OURS = {"pnm", "detectron2"} | {path.stem for path in (ROOT / "datasets").glob("*.py")}
# Only real Detectron2, or an evaluator for it, brings them; the import is where it is used.
OPTIONAL = {"panopticapi", "deeplearning"}
OPTIONAL |= {"onnxruntime", "openvino"}  # extras, see pyproject.toml
RUNS = ("pnm", "projects", "tools", "embedded", "datasets", "train_net.py")


def requirements(name: str) -> set[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {re.split(r"[<>=~ ]", line)[0].lower() for line in lines if line and not line.startswith("#")}


def files():
    folders = [part for part in RUNS if not part.endswith(".py")]
    return [ROOT / "train_net.py", *(path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))]


def packages_imported() -> dict[str, Path]:
    packages = {}
    for path in files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            packages |= {name.split(".")[0]: path for name in names}
    return {name: path for name, path in packages.items() if name not in sys.stdlib_module_names | OURS | OPTIONAL}


def test_each_import_is_declared():
    declared = requirements("requirements.txt")
    for name, path in packages_imported().items():
        assert PACKAGE_OF.get(name, name).lower() in declared, f"{path} imports {name}"


def test_each_requirement_is_imported_and_has_its_reason_in_the_readme():
    imported = {PACKAGE_OF.get(name, name).lower() for name in packages_imported()} | {"tensorboard"}  # by torch
    imported |= {"imagecodecs"}  # by tifffile
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for package in requirements("requirements.txt"):
        assert package in imported or package == "cityscapesscripts", package
        assert re.search(rf"^\|.*\b{package}\b.*\|", readme, re.MULTILINE), package


WITHOUT_DEVELOPMENT = """
import importlib, pkgutil, sys

sys.modules.update(dict.fromkeys({absent}))  # None: not there
import pnm
import detectron2
import pnm.projects, pnm.tools
for package in (pnm, pnm.projects, pnm.tools, detectron2):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if package is not detectron2 or "embedded" in detectron2.__file__:
            importlib.import_module(module.name)
"""


def test_every_module_is_imported_without_the_development_requirements():
    absent = requirements("requirements-dev.txt") - {"setuptools"} | {"pytest", "xdist", "_pytest"}
    code = WITHOUT_DEVELOPMENT.format(absent=absent)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


PROGRAMS = [
    "check",
    "convert",
    "evaluate",
    "export",
    "precompute_weights",
    "predict",
    "pseudo_labels",
    "refine",
    "report",
    "visualize",
    "visualize_weights",
]


@pytest.mark.parametrize("program", ["train_net.py", *(f"tools/{name}.py" for name in PROGRAMS)])
def test_programs_answer_before_torch_is_imported(program, tmp_path):
    code = f"import runpy, sys; sys.argv = [{program!r}, '--help']; runpy.run_path({program!r}, run_name='__main__')"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=env)
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr[-2000:]
