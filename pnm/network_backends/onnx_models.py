"""Networks as ONNX models, checked against torch."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from pnm.errors import UserError

TOLERANCE = 1e-4  # of outputs, of the larger of 1 and the largest value
_MOST_STRIDES = 512  # a side of an input is at most so many strides


def onnx_bytes(
    network: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    *,
    stride: int = 0,
    strides: Mapping[str, int] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """A network as an ONNX model, whose batch may have any size.

    Args:
        network: in evaluation mode, on the CPU; takes tensors by place.
        inputs: examples (N, C, H, W) by name, in order, N at least 2.
        outputs: their names, in order.
        stride: of which heights and widths are multiples; 0: they are always those of the examples.
        strides: of inputs that are smaller than the others, how many times.
        metadata: what the file says of itself, by key.

    Raises:
        UserError: torch cannot export this network.
    """
    given = {name: x.contiguous() for name, x in inputs.items()}
    dynamic = tuple(_dynamic(stride, (strides or {}).get(name, 1)) for name in given)
    with _quiet():
        try:
            exported = torch.export.export(network, tuple(given.values()), dynamic_shapes=dynamic, strict=False)
            program: Any = torch.onnx.export(
                exported, input_names=list(given), output_names=list(outputs), dynamo=True, verbose=False
            )
        except Exception as error:
            cause = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"torch {torch.__version__} can't export this network as ONNX: {cause[0]}") from error
    model = program.model_proto
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return bytes(model.SerializeToString())


def _dynamic(stride: int, times: int) -> dict[int, Any]:
    """Sides of an input that vary."""
    batch = {0: torch.export.Dim("batch")}
    if not stride:
        return batch
    sides = {n: torch.export.Dim(name, max=_MOST_STRIDES) for n, name in ((2, "rows"), (3, "columns"))}
    return {**batch, **{n: stride // times * side for n, side in sides.items()}}


@contextmanager
def _quiet() -> Iterator[None]:
    """Leaves out what the exporter tells of its own ways."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def largest_difference(model: bytes, network: nn.Module, inputs: Mapping[str, torch.Tensor]) -> float:
    """How far the outputs of an ONNX model are from the network's at most, each as a share of the larger of 1 and the
    output's largest value; infinite where shapes differ or a value is no number."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {name: x.contiguous().numpy() for name, x in inputs.items()})
    with torch.no_grad():
        expected = network(*inputs.values())
    tensors = [expected] if isinstance(expected, torch.Tensor) else list(expected)
    return max((_difference(a, b.numpy()) for a, b in zip(found, tensors, strict=True)), default=0.0)


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        return float("inf")
    difference = float(np.abs(found - expected).max(initial=0)) / max(1.0, float(np.abs(expected).max(initial=0)))
    return difference if np.isfinite(difference) else float("inf")


def check_equal(model: bytes, network: nn.Module, inputs: Mapping[str, torch.Tensor]) -> float:
    """As :func:`largest_difference`; a UserError if that exceeds ``TOLERANCE``."""
    difference = largest_difference(model, network, inputs)
    if not difference <= TOLERANCE:
        sizes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in inputs.items())
        raise UserError(
            f"the ONNX model differs from the network by {difference:.2g} of its largest value, {TOLERANCE:g} are "
            f"allowed ({sizes}): nothing was written; try another release of torch or onnxscript"
        )
    return difference
