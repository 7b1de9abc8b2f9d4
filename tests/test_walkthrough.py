"""The notebook: its cells run in their order, one after the other, and it is kept without what they gave."""

import ast
import json
import os
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from pnm.projects.launcher.config import load_config

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs/walkthrough.ipynb"
LATER = {"report": "tools/report.py"}  # cells of a tag, and the program that they need


def cells():
    content = json.loads(NOTEBOOK.read_text("utf-8"))
    assert content["nbformat"] == 4
    return content["cells"]


def save_untrained(path, config):
    """Weights whose numbers mean nothing, for what is quick."""
    torch.manual_seed(0)
    path.parent.mkdir(parents=True)
    torch.save({"model": build_model(load_config(f"configs/quickstart/{config}.yaml")).state_dict()}, path)


def test_it_holds_no_outputs():
    for cell in cells():
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            ast.parse("".join(cell["source"]))


def test_its_cells_run(shapes_root, tmp_path, monkeypatch, capsys):
    save_untrained(tmp_path / "run/mask_rcnn_pnm/model_final.pth", "mask_rcnn_R_18_FPN_PNM")
    save_untrained(tmp_path / "run/bpr_universal/model_final.pth", "bpr_universal")
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PNM_QUICKSTART", str(tmp_path / "run"))
    monkeypatch.setenv("PNM_WALKTHROUGH", str(tmp_path / "work"))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shapes_root))
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    names = {"__name__": "walkthrough"}
    for n, cell in enumerate(cells()):
        needed = [LATER[tag] for tag in cell["metadata"].get("tags", ())]
        if cell["cell_type"] != "code" or not all((ROOT / program).is_file() for program in needed):
            continue
        try:
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, cell {n}", "exec"), names)
        except Exception as error:
            pytest.fail(f"cell {n}: {error!r}")
    output = capsys.readouterr().out
    assert "1 images predicted" in output and "6 images predicted" in output and "6 images refined" in output
    assert "Boundary-AP" in output
    assert json.loads((tmp_path / "work/metrics.json").read_text("utf-8"))
