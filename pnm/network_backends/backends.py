"""What a network runs on: torch, OpenVINO or ONNX Runtime, behind one function.

The latter two are optional. They get an ONNX model, which takes seconds to make: that pays for many images.
"""

from collections.abc import Callable

import torch
from torch import nn

from pnm.network_backends.choice import check_backend
from pnm.network_backends.folding import inference_copy

Compiled = Callable[[torch.Tensor], torch.Tensor]


def compiled(
    network: nn.Module, example: torch.Tensor, *, backend: str = "torch", bfloat16: bool = False, stride: int = 0
) -> Compiled:
    """A network as a function for inference on the CPU; later changes of the network don't reach it.

    Args:
        network: from one tensor (N, C, H, W) float32 to one.
        example: such a tensor, of more than one sample.
        bfloat16: compute in it; ONNX Runtime has no such kernels for CPUs and stays at float32.
        stride: of which heights and widths are multiples; 0: they are always those of the example.

    Returns:
        From (N, C, H, W) float32 to float32, both on the CPU.

    Raises:
        UserError: see :func:`pnm.network_backends.choice.check_backend`.
    """
    check_backend(backend)
    if backend == "torch":
        return _by_torch(inference_copy(network), bfloat16)
    from pnm.network_backends.onnx_models import onnx_bytes

    model = onnx_bytes(inference_copy(network).cpu(), {"x": example}, ["y"], stride=stride)
    return _by_openvino(model, bfloat16) if backend == "openvino" else _by_onnxruntime(model)


def _by_torch(network: nn.Module, bfloat16: bool) -> Compiled:
    if bfloat16:  # once, as autocast does it anew in every call without gradients
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.to(torch.bfloat16)

    def run(x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
            y: torch.Tensor = network(x)
        return y.float()

    return run


def _by_openvino(model: bytes, bfloat16: bool) -> Compiled:
    import openvino

    # By default it computes in bfloat16 wherever the CPU can.
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    network = core.compile_model(core.read_model(model), "CPU", settings)
    return lambda x: torch.from_numpy(network(x.contiguous().numpy())[0].copy()).float()


def _by_onnxruntime(model: bytes) -> Compiled:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.contiguous().numpy()})[0])
