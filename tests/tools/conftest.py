"""The tools as modules; those that score result files and predict pictures as functions."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .label_maps import save
from .predict_runs import ALWAYS, CONFIGS, FEW
from .result_files import IMAGES, SIZE

ROOT = Path(__file__).resolve().parents[2]


def load_tool(name):
    spec = importlib.util.spec_from_file_location(f"{name}_tool", ROOT / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_main(monkeypatch, capsys):
    """``run_main(tool, words)``: exit status, lines of stdout and stderr; data sets that it registers are forgotten."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    def run(tool, words):
        monkeypatch.setattr(sys, "argv", [f"{tool.__name__}.py", *map(str, words)])
        known, status = set(DatasetCatalog.list()), 0
        try:
            tool.main()
        except SystemExit as ended:
            status = ended.code
        for name in set(DatasetCatalog.list()) - known:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        told = capsys.readouterr()
        return status, told.out.strip().splitlines(), told.err.strip().splitlines()

    return run


@pytest.fixture(scope="session")
def evaluate_tool():
    return load_tool("evaluate")


@pytest.fixture(scope="session")
def refine_tool():
    return load_tool("refine")


@pytest.fixture
def run_refine(refine_tool, monkeypatch, capsys):
    """``run_refine(arguments...)``: what the tool prints; with ``fails`` the last line on stderr before exit 2, or that
    number of lines."""

    def run(*arguments, fails=False):
        monkeypatch.setattr(sys, "argv", ["refine.py", *map(str, arguments)])
        if not fails:
            refine_tool.main()
            return capsys.readouterr().out
        with pytest.raises(SystemExit) as ended:
            refine_tool.main()
        assert ended.value.code == 2
        return "\n".join(capsys.readouterr().err.strip().splitlines()[-fails:])

    return run


@pytest.fixture
def refine_random(run_refine, random_weights):
    """As ``run_refine``, by the universal refiner with random weights, which changes all that it likes."""

    def run(*words, **options):
        return run_refine(*words, "--weights", random_weights, "--strength", 1, **options)

    return run


@pytest.fixture
def numbered_photos(tmp_path):
    """A folder of noise, a photo for each image of result_files.py."""
    (tmp_path / "photos").mkdir()
    for n in range(IMAGES):
        image = np.random.default_rng(n).integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / f"photos/{n:03}.png")
    return tmp_path / "photos"


@pytest.fixture
def evaluate(evaluate_tool, tmp_path, monkeypatch, capsys):
    """``evaluate(task, pred, gt, ...)`` gives the JSON that was written, or the lines on stderr before exit 2."""

    def run(task, pred, gt, *more, fails=False):
        output = tmp_path / "metrics.json"
        arguments = [task, "--pred", pred, "--gt", gt, "--output", output, "--workers", 2, *more]
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
        if not fails:
            evaluate_tool.main()
            return json.loads(output.read_text(), parse_constant=pytest.fail)
        with pytest.raises(SystemExit) as ended:
            evaluate_tool.main()
        assert ended.value.code == 2 and not output.exists()
        lines = capsys.readouterr().err.strip().splitlines()
        assert lines[-1].startswith("error: ") and sum(line.startswith("error: ") for line in lines) == 1
        return "\n".join(lines)

    return run


@pytest.fixture
def maps(tmp_path):
    """Folders ``gt`` and ``pred`` of four images; the prediction is right but for image k's first k * 4 pixels."""
    rng = np.random.default_rng(0)
    for k in range(4):
        truth = rng.integers(0, 3, (24, 32)).astype(np.uint8)
        pred = truth.copy()
        pred.reshape(-1)[: 4 * k] = (pred.reshape(-1)[: 4 * k] + 1) % 3
        save(tmp_path / f"gt/city/{k}.png", truth)
        save(tmp_path / f"pred/{k}_pred.png", pred)
    return tmp_path / "pred", tmp_path / "gt"


@pytest.fixture(scope="session")
def weights(tmp_path_factory, shapes_root):
    """``weights(kind)``: untrained weights of a config, whose predictions differ from pixel to pixel."""
    import torch
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.modeling import build_model

    from pnm.projects.launcher.config import load_config
    from pnm.projects.launcher.data.checks import take_from_data
    from pnm.projects.launcher.run_setup import register_builtin_data

    folder = tmp_path_factory.mktemp("weights")

    def made(kind):
        path = folder / f"{kind}.pth"
        if not path.is_file():
            torch.manual_seed(0)
            known, words = set(DatasetCatalog.list()), list(ALWAYS)
            if kind in ("semantic", "panoptic"):
                words += ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", {"panoptic": "5"}.get(kind, "8")]
            register_builtin_data()  # PRN has its classes from there
            cfg = load_config(CONFIGS[kind], words)
            take_from_data(cfg)
            model = build_model(cfg)
            for name in set(DatasetCatalog.list()) - known:
                DatasetCatalog.remove(name)
                MetadataCatalog.remove(name)
            for module in model.modules():
                if getattr(module, "out_channels", 0) in (5, 8) and hasattr(module, "kernel_size"):
                    torch.nn.init.normal_(module.weight, std=1.0)
            torch.save({"model": model.state_dict()}, path)
        return path

    return made


@pytest.fixture
def predict(weights, shapes_root, forget_data_sets, tmp_path, monkeypatch, run_main):
    """``predict(kind, arguments...)`` runs the tool and gives its exit status, output and lines of errors."""
    tool = load_tool("predict")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shapes_root))

    def run(kind, *arguments, images=shapes_root / "shapes/images/val", output=tmp_path / "out", overrides=(), then=()):
        words = ["--config-file", CONFIGS[kind], "--images", images, "--output", output, *arguments]
        few = FEW if kind in ("instance", "panoptic") else []
        words += ["MODEL.WEIGHTS", weights(kind), *ALWAYS, *few, *overrides]
        for refiner in then:
            words += ["--refine", CONFIGS[refiner], "MODEL.WEIGHTS", weights(refiner), "MODEL.DEVICE", "cpu"]
        return run_main(tool, words)

    return run


@pytest.fixture
def predicted(predict):
    """As ``predict``, of a run that must succeed; gives the last line of its output."""

    def run(*arguments, **paths):
        status, output, errors = predict(*arguments, **paths)
        assert status == 0, errors[-1:]
        return output[-1]

    return run
