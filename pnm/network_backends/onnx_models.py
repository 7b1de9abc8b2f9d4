"""Networks as ONNX models, checked against torch."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from pnm.errors import UserError

TOLERANCE = 1e-4  # of outputs, of the larger of 1 and the largest value
_MOST_STRIDES = 512  # a side of an input is at most so many strides


class Exportable(NamedTuple):
    """A network with all that another program must know to use it.

    Attributes:
        network: in evaluation mode, on the CPU.
        inputs: examples by name, in order, see :func:`onnx_bytes`.
        outputs: names.
        stride, strides: see :func:`onnx_bytes`.
        description: what inputs and outputs are, for JSON.
    """

    network: nn.Module
    inputs: Mapping[str, torch.Tensor]
    outputs: Sequence[str]
    stride: int
    strides: Mapping[str, int]
    description: Mapping[str, Any]

    def sample(self, sides: tuple[int, int] | None = None, number: int = 1) -> dict[str, torch.Tensor]:
        """Random inputs, ``number`` of them; what isn't (N, C, H, W) is as in the examples.

        Args:
            sides: height and width of the image; by default, or where they are fixed, those of the examples.
        """
        given = {}
        for name, x in self.inputs.items():
            times = self.strides.get(name, 1)
            size = [side // times for side in sides] if sides and self.stride and x.dim() == 4 else x.shape[2:]
            given[name] = torch.randn(number, x.shape[1], *size) if x.dim() == 4 else x[:1].expand(number, -1)
        return given


def exported(one: Exportable) -> tuple[bytes, dict[str, Any]]:
    """The ONNX model of a network, checked at two sizes against torch, and its description as JSON has it, which the
    model's metadata have, too, under "pnm".

    Raises:
        UserError: the network cannot be exported, or the model gives something else than the network.
    """
    description = {
        **one.description,
        "inputs": {
            name: {"shape": _named_shape(x, one, name)} | dict(one.description["inputs"][name])
            for name, x in one.inputs.items()
        },
        "height_and_width": f"multiples of {one.stride}" if one.stride else "as given",
        "checked_to": TOLERANCE,
    }
    model = onnx_bytes(
        one.network,
        one.inputs,
        one.outputs,
        stride=one.stride,
        strides=one.strides,
        metadata={"pnm": json.dumps(description)},
    )
    largest = (3 * one.stride, 2 * one.stride) if one.stride else None
    for sample in (one.sample(largest, 1), one.sample(None, 3)):
        check_equal(model, one.network, sample)
    return model, description


def _named_shape(x: torch.Tensor, one: Exportable, name: str) -> list[int | str]:
    """Sides as numbers, or as names where they vary."""
    if not one.stride or x.dim() != 4:
        return ["batch", *x.shape[1:]]
    times = one.strides.get(name, 1)
    return ["batch", x.shape[1], *(side if times == 1 else f"{side} / {times}" for side in ("height", "width"))]


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
    dynamic = tuple(_dynamic(stride, (strides or {}).get(name, 1), x.dim() == 4) for name, x in given.items())
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


def _dynamic(stride: int, times: int, has_sides: bool) -> dict[int, Any]:
    """Sides of an input that vary."""
    batch = {0: torch.export.Dim("batch")}
    if not stride or not has_sides:
        return batch
    sides = {n: torch.export.Dim(name, max=_MOST_STRIDES) for n, name in ((2, "rows"), (3, "columns"))}
    return {**batch, **{n: stride // times * side for n, side in sides.items()}}


@contextmanager
def _quiet() -> Iterator[None]:
    """Leaves out what the exporter tells of its own ways."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)  # the exporter writes down each guess about a side, which takes most of its time
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


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
