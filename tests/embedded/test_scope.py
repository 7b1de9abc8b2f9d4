"""What the engine leaves out is told by the name of the package that has it."""

import importlib
import pickle

import cv2
import detectron2
import pytest

import pnm  # noqa: F401

pytestmark = pytest.mark.skipif("embedded" not in detectron2.__version__, reason="the embedded engine's own words")


@pytest.mark.parametrize(
    "line",
    [
        "from detectron2.modeling import DensePoseHead",
        "from detectron2 import export",
        "import detectron2.projects.deeplab",
    ],
)
def test_what_is_missing_is_named(line):
    with pytest.raises(ImportError, match="is not available: the embedded engine holds only"):
        exec(line)


@pytest.mark.filterwarnings("ignore:numpy.core")
def test_programs_may_ask_for_names_that_are_not_there():
    layers = importlib.import_module("detectron2.layers")
    assert not hasattr(layers, "DeformConv") and getattr(detectron2, "resize", 3) == 3
    with pytest.raises(AttributeError, match="detectron2.layers.DeformConv is not available: .*Install Detectron2"):
        layers.DeformConv  # noqa: B018
    # Its functions name no module, so that pickle asks every one that is loaded.
    assert pickle.loads(pickle.dumps(cv2.resize)) is cv2.resize


def test_submodules_are_imported_by_name():
    from detectron2.data import detection_utils, samplers

    assert detection_utils.read_image and samplers.TrainingSampler
