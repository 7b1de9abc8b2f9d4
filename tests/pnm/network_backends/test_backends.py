"""One network on every backend gives what torch gives; copies for inference; what isn't installed is told."""

import pytest
import torch
from torch import nn

from pnm.errors import UserError
from pnm.network_backends import choice, precision
from pnm.network_backends.backends import compiled
from pnm.network_backends.choice import BACKENDS, check_backend
from pnm.network_backends.folding import inference_copy
from pnm.network_backends.precision import has_bfloat16, is_bfloat16
from pnm.object_refinement.network import STRIDE, Architecture, RefinementNetwork

PACKAGES = {"openvino": "openvino", "onnxruntime": "onnxruntime"}


def small_network() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8)),
        nn.Conv2d(8, 1, 1),
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def test_a_copy_is_equal_folded_and_apart():
    network, x = small_network(), torch.randn(2, 4, 32, 64)
    copy = inference_copy(network)
    assert not [m for m in copy.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len([m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]) == 2
    with torch.no_grad():
        torch.testing.assert_close(copy(x), network(x), atol=1e-5, rtol=1e-5)
        before = copy(x)
        network[2].weight.zero_()
        assert torch.equal(copy(x), before)


def test_a_norm_without_statistics_is_not_folded():
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)).eval()
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(inference_copy(network)(x), network(x))


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_gives_the_networks_output(backend):
    for package in ("onnx", "onnxscript", PACKAGES.get(backend, "torch")) if backend != "torch" else ():
        pytest.importorskip(package)
    network, sizes = small_network(), ((1, 64, 96), (3, 32, 32))
    run = compiled(network, torch.zeros(2, 4, 64, 96), backend=backend, stride=STRIDE)
    for number, height, width in sizes:
        x = torch.randn(number, 4, height, width)
        with torch.no_grad():
            torch.testing.assert_close(run(x), network(x), atol=1e-5, rtol=1e-4)


def test_bfloat16_is_close_and_float32_comes_out():
    network, x = RefinementNetwork(Architecture((8, 8, 8, 8, 8), (1,) * 5)).eval(), torch.rand(2, 4, 64, 64)
    y = compiled(network, x, bfloat16=True)(x)
    with torch.no_grad():
        expected = network(x)
    assert y.dtype == torch.float32 and not torch.equal(y, expected)
    torch.testing.assert_close(y, expected, atol=0.03, rtol=0.03)


def test_unknown_and_missing_backends_are_told(monkeypatch):
    with pytest.raises(UserError, match="MODEL.BPR.BACKEND is 'tensorrt', expected one of torch, openvino"):
        check_backend("tensorrt", "MODEL.BPR.BACKEND")
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    check_backend("torch")
    with pytest.raises(UserError, match=r'openvino needs openvino, onnx, onnxscript: .*"pnm\[openvino\]"'):
        check_backend("openvino", "--backend")
    with pytest.raises(UserError, match=r'"pnm\[onnx\]"'):
        check_backend("onnxruntime")


def test_another_runtime_is_for_the_cpu():
    with pytest.raises(UserError, match="--backend onnxruntime runs on the CPU, not on cuda:1: take the device cpu"):
        check_backend("onnxruntime", "--backend", "cuda:1")
    check_backend("torch", "--backend", "cuda:1")


@pytest.mark.parametrize(
    ("capabilities", "has"), [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True}, False)]
)
def test_bfloat16_where_the_processor_multiplies_in_it(monkeypatch, capabilities, has):
    monkeypatch.setattr(precision.torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_bfloat16() == is_bfloat16("auto") == has
    assert is_bfloat16("bfloat16") and not is_bfloat16("float32")


def test_an_older_torch_tells_of_no_bfloat16(monkeypatch):
    monkeypatch.delattr(precision.torch.cpu, "get_capabilities", raising=False)
    assert not has_bfloat16()


def test_another_precision_is_told():
    with pytest.raises(UserError, match="MODEL.BPR.PRECISION_TEST is 'half', expected one of auto, float32, bfloat16"):
        is_bfloat16("half", "MODEL.BPR.PRECISION_TEST")
