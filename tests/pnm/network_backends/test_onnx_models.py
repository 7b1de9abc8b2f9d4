"""ONNX models give what torch gives at every size; what differs is refused."""

import pytest
import torch
from torch import nn

from pnm.errors import UserError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from pnm.network_backends.onnx_models import check_equal, largest_difference, onnx_bytes  # noqa: E402


class TwoInputs(nn.Module):
    """A picture and a smaller one to two outputs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, 4, 1)

    def forward(self, image: torch.Tensor, cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.conv(image) + cells
        return y, nn.functional.interpolate(y, scale_factor=4.0, mode="bilinear")


class NotExportable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * float(x.detach().numpy().sum())


@pytest.fixture(scope="module")
def model() -> tuple[bytes, nn.Module]:
    network = TwoInputs().eval()
    inputs = {"image": torch.zeros(2, 3, 64, 96), "cells": torch.zeros(2, 5, 16, 24)}
    made = onnx_bytes(network, inputs, ("low", "high"), stride=32, strides={"cells": 4}, metadata={"pnm": "{}"})
    return made, network


@pytest.mark.parametrize(("number", "rows", "columns"), [(1, 32, 32), (3, 96, 64)])
def test_any_batch_and_size(model, number, rows, columns):
    made, network = model
    inputs = {
        "image": torch.randn(number, 3, rows, columns),
        "cells": torch.randn(number, 5, rows // 4, columns // 4),
    }
    assert check_equal(made, network, inputs) < 1e-5


def test_names_and_what_it_says_of_itself(model):
    read = onnx.load_from_string(model[0])
    assert [x.name for x in read.graph.input] == ["image", "cells"]
    assert [y.name for y in read.graph.output] == ["low", "high"]
    assert {entry.key: entry.value for entry in read.metadata_props}["pnm"] == "{}"


def test_another_network_is_refused(model):
    other = TwoInputs().eval()
    inputs = {"image": torch.randn(2, 3, 32, 32), "cells": torch.randn(2, 5, 8, 8)}
    assert largest_difference(model[0], other, inputs) > 1e-3
    with pytest.raises(UserError, match="the ONNX model differs from the network by .* nothing was written"):
        check_equal(model[0], other, inputs)


def test_values_that_are_no_numbers_are_refused(model):
    inputs = {"image": torch.full((2, 3, 32, 32), float("nan")), "cells": torch.randn(2, 5, 8, 8)}
    assert largest_difference(*model, inputs) == float("inf")


def test_a_network_that_cannot_be_exported_is_told():
    with pytest.raises(UserError, match="can't export this network as ONNX"):
        onnx_bytes(NotExportable(), {"x": torch.zeros(2, 3, 8, 8)}, ("y",))
