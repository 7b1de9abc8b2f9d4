"""Parts of a page: pictures, plots, tables of scores, and text that can't leave its element."""

import base64
import io
import json
import xml.dom.minidom

import numpy as np
import pytest
from PIL import Image

from pnm.metrics.error_counts import no_errors
from pnm.metrics.metric_values import MetricValues
from pnm.reporting.blocks import interval_cell, percent, signed
from pnm.reporting.colours import CORRECT, FALSE, MISSED, rgb
from pnm.reporting.error_sections import confusion_section, errors_section
from pnm.reporting.gallery import lowest, object_places
from pnm.reporting.metric_sections import class_section, whole_section
from pnm.reporting.pictures import error_map, fitted, picture, read_photograph, worst_patch
from pnm.reporting.plots import bars, forest, heat, reliability
from pnm.reporting.rendering import render, script_json
from pnm.reporting.score_section import calibration_error, reliability_rows, score_section
from pnm.scoring.compare import Comparison, Interval
from pnm.scoring.error_survey import Scene

NAN = float("nan")


def scene(truth, pred):
    return Scene(truth.astype(np.int32), pred.astype(np.int32), np.ones(truth.shape, bool), truth != pred)


def test_error_maps_have_the_legends_colours():
    truth, pred = np.zeros((2, 40, 40), np.int32)
    truth[10:30, 10:30] = 1
    pred[10:30, 10:20] = 1  # the right half is missing
    grey = np.full((40, 40, 3), 90, np.uint8)
    page = error_map(grey, scene(truth, pred))
    assert page[20, 10].tolist() == list(rgb(CORRECT))
    assert page[20, 29].tolist() == list(rgb(MISSED))
    assert page[20, 19].tolist() == list(rgb(FALSE))
    assert len(set(page[20, 15].tolist())) == 1 and len(set(page[20, 24].tolist())) > 1  # grey, and tinted
    right = error_map(grey, scene(truth, truth))
    colours = {tuple(colour) for colour in right.reshape(-1, 3).tolist()}
    assert rgb(CORRECT) in colours and not colours & {rgb(MISSED), rgb(FALSE)}


def test_a_boundary_that_is_a_pixel_off_is_right_at_every_scale():
    truth, pred = np.zeros((2, 30, 30), np.int32)
    truth[10:20, 10:20] = 1
    pred[10:20, 11:21] = 1
    for scale in (1, 4):
        large = scene(*(np.kron(side, np.ones((scale, scale), int)) for side in (truth, pred)))
        page = error_map(np.full((*large.truth.shape, 3), 90, np.uint8), large, scale)
        colours = {tuple(colour) for colour in page.reshape(-1, 3).tolist()}
        assert rgb(CORRECT) in colours and not colours & {rgb(MISSED), rgb(FALSE)}


@pytest.mark.parametrize("shape", [(300, 400), (20, 500), (500, 20), (5, 7)])
def test_the_worst_patch_holds_most_wrong_pixels(shape):
    rng = np.random.default_rng(0)
    wrong = rng.random(shape) < 0.01
    wrong[shape[0] // 2 :, shape[1] // 2 :] |= rng.random((shape[0] - shape[0] // 2, shape[1] - shape[1] // 2)) < 0.2
    box = worst_patch(wrong)
    height, width = box.bottom - box.top, box.right - box.left
    sums = [
        wrong[y : y + height, x : x + width].sum()
        for y in range(0, shape[0] - height + 1, 7)
        for x in range(0, shape[1] - width + 1, 7)
    ]
    assert box.of(wrong).shape == (height, width) and box.of(wrong).sum() >= max(sums)


def test_pictures_are_small_jpegs():
    one = picture(np.zeros((30, 40, 3), np.uint8), "image", "nothing")
    data = base64.b64decode(one.uri.removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(data)).size == (one.width, one.height) == (40, 30)
    assert fitted((100, 1000), 320) == (320, 32) and fitted((1, 5000), 320) == (320, 1)


def test_photographs(tmp_path):
    Image.fromarray(np.full((6, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.zeros((3, 4, 4), np.uint8)).save(tmp_path / "other.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "deep.png").read_bytes()[:40])
    deep, other, torn = (read_photograph(tmp_path / f"{name}.png", (6, 8)) for name in ("deep", "other", "torn"))
    assert deep.pixels.shape == other.pixels.shape == torn.pixels.shape == (6, 8, 3)
    assert deep.remark == "" and "3 × 4" in other.remark and "can't be read" in torn.remark
    assert deep.is_there and other.is_there and not torn.is_there
    assert not read_photograph(None, (6, 8)).is_there


ENTRY = Interval(0.01, -0.02, 0.03)
STRANGE = "</text><script>x</script>$\\alpha$ --> &"
SVGS = {
    "forest": lambda: forest([(STRANGE, ENTRY), ("b", Interval(0.1, 0.05, 0.2))], "one", "points"),
    "bars": lambda: bars(["1", STRANGE], [[0.5, NAN], [0.0004, 1.0]], "two", "x", "y"),
    "heat": lambda: heat(np.array([[1.0, NAN], [0.3, 0.7]]), [STRANGE, "b"], [STRANGE, "b"], "three"),
    "reliability": lambda: reliability([reliability_rows(np.array([[0, 0.9, 1.0]]))], "four"),
}


@pytest.mark.parametrize("name", SVGS)
def test_plots_are_sound_elements_with_text_in_them(name):
    svg = SVGS[name]()
    root = xml.dom.minidom.parseString(svg).documentElement
    assert root.tagName == "svg" and not root.getElementsByTagName("script")
    assert svg == SVGS[name]()  # the same each time
    if name != "reliability":
        shown = "".join(node.firstChild.data for node in root.getElementsByTagName("text") if node.firstChild)
        assert "</text><script>x</script" in shown or name == "forest"
    assert not [node for node in root.getElementsByTagName("use") if not node.getAttribute("xlink:href")[1:2].isalpha()]


def test_cells():
    assert (
        percent(NAN) == "–"
        and signed(-0.014) == "−1.4"
        and signed(0.2, 2) == "+20.00"
        and signed(-1e-9) == signed(0) == "0.0"
    )
    sure = interval_cell(Interval(-0.1, -0.2, -0.05), is_difference=True)
    assert (sure.text, sure.below, sure.bold) == ("−10.00", "−20.00 … −5.00", True)
    assert not interval_cell(ENTRY, is_difference=True).bold and interval_cell(Interval(NAN, NAN, NAN)).text == "–"


def test_calibration_by_hand():
    scores = np.array([[0, 0.95, 1], [0, 0.91, 0], [1, 0.05, 0], [1, 1.0, 1]])
    rows = reliability_rows(scores)
    np.testing.assert_allclose(rows[9], [np.mean([0.95, 0.91, 1.0]), 2 / 3, 3])
    np.testing.assert_allclose(rows[0], [0.05, 0, 1])
    wanted = (3 * abs(np.mean([0.95, 0.91, 1.0]) - 2 / 3) + 0.05) / 4
    assert calibration_error(scores) == pytest.approx(wanted)
    assert np.isnan(calibration_error(np.zeros((0, 3))))
    table = score_section([scores], ["a", "b", "c"]).blocks[-1]
    assert [row[0].text for row in table.rows] == ["a", "b"]


def test_rankings():
    assert lowest(np.array([0.5, NAN, 0.1, 0.5]), 3) == [2, 0, 3]
    values = [np.array([0.3, NAN]), np.zeros(0), np.array([0.1, 0.2])]
    assert object_places(values, 2) == [(2, 0), (2, 1)] and object_places([np.zeros(0)], 2) == []


def test_sections_of_nothing_and_of_many_classes():
    empty = no_errors(150, 2)
    names = [f"class {k}" for k in range(150)]
    two = errors_section([empty, empty], ("a", "b"), [], "pixels").blocks
    assert two and len(errors_section([empty], ("a",), [], "pixels").blocks) == 2
    assert not confusion_section([empty], names, "pixels", "text").blocks[1].plots
    many = empty._replace(confusion=np.random.default_rng(0).integers(0, 9, (151, 151)))
    section = confusion_section([many], names, "pixels", "text")
    assert "Of 150 classes, the 24" in section.blocks[1].plots[0].caption and len(section.blocks[2].rows) == 40
    entry = Comparison(ENTRY, ENTRY, ENTRY)
    values = MetricValues({"mIoU": entry}, {"IoU": dict.fromkeys(names, entry)})
    plots = class_section(values, True, "IoU").blocks[0].plots
    assert "The 40 largest" in plots[0].caption and len(class_section(values, True, "IoU").blocks[1].rows) == 150
    unknown = Comparison(*[Interval(NAN, NAN, NAN)] * 3)
    assert whole_section(MetricValues({"mIoU": unknown}, {}), True, []).blocks


def test_json_cannot_leave_its_element():
    content = {"</script><b>": ["<!--", "&", NAN, "\u2028"]}
    text = script_json(content)
    assert "<" not in text and "&" not in text
    assert json.loads(text) == {"</script><b>": ["<!--", "&", None, "\u2028"]}


def test_the_page_states_its_size():
    page = render("<title>", [("size⟧", "<i>")], [], {"a": 1})
    assert "0.0 MB" in page and "<i>" not in page and "&lt;title&gt;" in page
