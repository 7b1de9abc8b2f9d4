"""The refiner of CONTRIBUTING.md, in a folder of its own: joined by one key, it trains, evaluates and refines."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.modeling import META_ARCH_REGISTRY

from pnm.errors import UserError
from pnm.projects.launcher.config import load_config

ROOT = Path(__file__).resolve().parents[2]


def examples() -> dict[str, str]:
    """Files that CONTRIBUTING.md shows."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", text, re.DOTALL))


@pytest.fixture
def package(tmp_path):
    """A working directory with ``my_package``."""
    for name, content in examples().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def run(program, folder, shapes_root, *arguments):
    command = [sys.executable, str(ROOT / program), "--config-file", "my_package/smoothing.yaml", *map(str, arguments)]
    env = {"DETECTRON2_DATASETS": str(shapes_root), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def test_trains_evaluates_and_refines_without_a_line_changed_here(package, shapes_root):
    files = {}
    for split in ("train", "val"):  # the truth itself, as coarse as it is: a refiner may only lose
        content = json.loads((shapes_root / f"shapes/annotations/instances_{split}.json").read_text())
        rows = [
            {key: row[key] for key in ("image_id", "category_id", "segmentation")} for row in content["annotations"]
        ]
        files[split] = package / f"{split}.json"
        files[split].write_text(json.dumps([{**row, "score": 0.9} for row in rows]))
    data = ["DATASETS.PREDICTIONS_TRAIN", f"('{files['train']}',)", "DATASETS.PREDICTIONS_TEST", f"('{files['val']}',)"]
    done = run("train_net.py", package, shapes_root, *data, "SOLVER.MAX_ITER", 60, "DATALOADER.NUM_WORKERS", 0)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "total_loss" in (package / "output/smoothing/metrics.json").read_text()
    weights = ["MODEL.WEIGHTS", "output/smoothing/model_final.pth"]
    done = run("train_net.py", package, shapes_root, "--eval-only", *data, *weights, "DATALOADER.NUM_WORKERS", 0)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    evaluated = json.loads((package / "output/smoothing/inference/shapes_val/coco_instances_results.json").read_text())
    images = ["--images", shapes_root / "shapes/images/val", "--predictions", files["val"], "--output", "smooth.json"]
    done = run("tools/refine.py", package, shapes_root, *images, *weights)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    refined = json.loads((package / "smooth.json").read_text())
    assert len(refined) == len(evaluated) == len(json.loads(files["val"].read_text()))


def test_its_keys_are_known_and_its_faults_are_told(package, monkeypatch):
    monkeypatch.chdir(package)
    monkeypatch.setattr(sys, "path", [*sys.path, str(package)])
    try:
        assert load_config("my_package/smoothing.yaml", ["MODEL.SMOOTHING.SIZE", "9"]).MODEL.SMOOTHING.SIZE == 9
        with pytest.raises(
            UserError, match="unknown config key MODEL.SMOOTHING.SIDE; did you mean MODEL.SMOOTHING.SIZE"
        ):
            load_config("my_package/smoothing.yaml", ["MODEL.SMOOTHING.SIDE", "9"])
        with pytest.raises(
            UserError, match="INPUT.MAPPER is 'default_mapper', but SmoothingRefiner takes its input from"
        ):
            from pnm.projects.launcher.data.mappers import build_mapper

            build_mapper(load_config("my_package/smoothing.yaml", ["INPUT.MAPPER", "default_mapper"]), is_train=True)
    finally:
        META_ARCH_REGISTRY._obj_map.pop("SmoothingRefiner", None)
    (package / "broken.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(UserError, match="MODEL.IMPORTS: broken cannot be imported .*nothing_of_this_name"):
        load_config("", ["MODEL.IMPORTS", "('broken',)"])
    with pytest.raises(UserError, match="MODEL.IMPORTS takes names of packages"):
        load_config("", ["MODEL.IMPORTS", "3"])


def test_models_and_mappers_cannot_disagree():
    predictions = ["DATASETS.PREDICTIONS_TRAIN", "('results.json',)"]
    with pytest.raises(
        UserError, match="DATASETS.PREDICTIONS_TRAIN is for refiners .BoundaryPatchRefiner.*GeneralizedRCNN"
    ):
        load_config("quickstart/mask_rcnn_R_18_FPN.yaml", predictions)
    cfg = load_config("quickstart/bpr_instance", ["INPUT.MAPPER", "default_mapper"])
    from pnm.projects.launcher.data.mappers import mapper_name

    with pytest.raises(
        UserError, match="INPUT.MAPPER is 'default_mapper', but BoundaryPatchRefiner takes its input from"
    ):
        mapper_name(cfg)
    assert mapper_name(load_config("quickstart/bpr_instance")) == "boundary_patch_mapper"
    assert mapper_name(load_config("quickstart/semantic_fpn_R_18")) == "semantic_mapper"
    assert mapper_name(load_config("quickstart/mask_rcnn_R_18_FPN")) == "default_mapper"
