"""Puts what lies beside pnm/ in a clone into the one package of a wheel, under the names that a clone has, too."""

from pathlib import Path

from setuptools import find_packages, setup

BESIDE = ("projects", "tools", "embedded", "configs")
INSIDE = [f"{folder}.{name}" for folder in ("projects", "embedded") for name in find_packages(folder)]
INSIDE += [f"configs.{path.name}" for path in Path("configs").iterdir() if path.is_dir()]

setup(
    packages=[*find_packages(include=["pnm", "pnm.*"]), *(f"pnm.{name}" for name in (*BESIDE, *INSIDE))],
    package_dir={f"pnm.{name}": name for name in BESIDE},
    package_data={
        "": ["*.yaml", "py.typed"],
        "pnm.reporting": ["page/*"],
        "pnm.object_refinement": ["weights/*.pth", "weights/*.json", "weights/*.md", "weights/*.log"],
    },
)
