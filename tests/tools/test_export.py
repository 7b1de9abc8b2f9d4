"""tools/export.py: each refiner's network as ONNX gives what torch gives, and says what goes in; and its errors."""

import json

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from pnm.object_refinement.network import ARCHITECTURES, Architecture, RefinementNetwork
from pnm.projects.launcher.config import load_config
from pnm.tools import export as tool


@pytest.fixture
def export(monkeypatch, run_main):
    return lambda *words: run_main(tool, [str(word) for word in words])


CONFIGS = {
    "bpr_instance": ("patches",),
    "segfix": ("image",),
    "prn": ("image", "instances", "classes", "sizes"),
}
PRN_CLASSES = ["MODEL.PRN.NUM_THINGS", "3", "MODEL.PRN.NUM_STUFF", "2"]


def session_of(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    return onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])


@pytest.fixture
def needs_onnx():
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)


@pytest.mark.parametrize("config", CONFIGS)
def test_each_trained_refiner(needs_onnx, export, tmp_path, config):
    words = PRN_CLASSES if config == "prn" else []
    torch.manual_seed(0)
    model = build_model(load_config(f"quickstart/{config}.yaml", words))
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    output = tmp_path / "model.onnx"
    arguments = ["--config-file", f"quickstart/{config}.yaml", "--output", output]
    status, _, lines = export(*arguments, "MODEL.WEIGHTS", tmp_path / "weights.pth", *words)
    assert not status, lines
    description = json.loads(output.with_suffix(".json").read_text("utf-8"))
    session = session_of(output)
    assert json.loads(session.get_modelmeta().custom_metadata_map["pnm"]) == description
    assert [x.name for x in session.get_inputs()] == list(CONFIGS[config]) == list(description["inputs"])
    assert [y.name for y in session.get_outputs()] == list(description["outputs"])
    assert description["color_order"] == ["red", "green", "blue"]
    sample = model.exportable().sample(None, 2)
    found = session.run(None, {name: x.numpy() for name, x in sample.items()})
    with torch.no_grad():
        expected = model.eval().exportable().network(*sample.values())
    expected = [expected] if isinstance(expected, torch.Tensor) else expected
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-3, rtol=1e-3)


def test_the_universal_refiner(needs_onnx, export, tmp_path, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "universal_small", Architecture((8,) * 5, (1,) * 5))
    torch.manual_seed(0)
    name, output = "universal_small", tmp_path / "model.onnx"
    network = RefinementNetwork(ARCHITECTURES[name]).eval()
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save({"model": state, "architecture": name}, tmp_path / "weights.pth")
    export("--universal", tmp_path / "weights.pth", "--output", output)
    x = torch.randn(1, 4, 96, 32)
    (found,) = session_of(output).run(None, {"window": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, network(x).numpy(), atol=1e-4)


def test_errors_come_before_the_work(export, tmp_path, monkeypatch):
    def told(*words):
        status, _, lines = export(*words)
        assert status
        return " ".join([str(status), *lines])

    monkeypatch.setattr(tool, "find_spec", lambda name: None)
    assert 'export needs onnx, onnxscript, onnxruntime: install the extra, pip install "pnm[onnx]"' in told(
        "--universal", "--output", tmp_path / "a.onnx"
    )
    monkeypatch.setattr(tool, "find_spec", lambda name: name)
    assert "expected a name that ends with .onnx" in told("--universal", "--output", tmp_path / "a.pt")
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    assert "a.json is there already" in told("--universal", "--output", tmp_path / "a.onnx")
    assert "MODEL.WEIGHTS is for a config" in told("--universal", "--output", tmp_path / "b.onnx", "MODEL.WEIGHTS", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
