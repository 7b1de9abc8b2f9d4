"""tools/visualize_se_psnet.py as a user runs it, and the pictures that it is made of."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.masks.colours import colour_heat, colour_labels
from pnm.projects.se_psnet import pictures
from pnm.projects.se_psnet.pictures import TrueMap
from pnm.tools import visualize_se_psnet as tool
from pnm.tools.picture_pages import GAP, TITLE, draw_page

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/se_psnet"))

from drawn_batch import small_config  # noqa: E402

HEIGHT, WIDTH = 48, 64
FIRST = slice(10, 30), slice(8, 24)  # rows and columns of an instance
CATEGORIES = [{"id": 1, "name": "thing", "isthing": 1}, {"id": 7, "name": "stuff", "isthing": 0}]


def small(*overrides):
    """Every cell is an instance: the weights are random."""
    sizes = ["INPUT.MIN_SIZE_TEST", 64, "MODEL.SE_PSNET.FCOS.DETECTIONS", 8]
    return small_config(*sizes, *(f"MODEL.SE_PSNET.{key}" if k % 2 == 0 else key for k, key in enumerate(overrides)))


EVERYTHING = ("FCOS.SCORE_THRESH", 0.0, "FUSION.SCORE_THRESH", 0.0)
AUXILIARY_OFF = (*EVERYTHING, "BASIS_SILHOUETTE", False, "STUFF_SILHOUETTE", False, "MASK_SCORE", False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two images with their panoptic truth, and configs and weights of two networks."""
    from detectron2.modeling import build_model

    root = tmp_path_factory.mktemp("se_psnet")
    rng = np.random.default_rng(0)
    ids = np.full((HEIGHT, WIDTH), 70)
    ids[FIRST], ids[:, -4:] = 11, 0
    (root / "images").mkdir()
    (root / "truth").mkdir()
    annotations, images = [], []
    for n in (1, 2):
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)).save(root / f"images/{n:04}.png")
        Image.fromarray(ids_to_rgb(ids)).save(root / f"truth/{n:04}.png")
        segments = [{"id": 11, "category_id": 1}, {"id": 70, "category_id": 7}]
        annotations.append({"image_id": n, "file_name": f"{n:04}.png", "segments_info": segments})
        images.append({"id": n, "file_name": f"{n:04}.png", "height": HEIGHT, "width": WIDTH})
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (root / "truth.json").write_text(json.dumps(content))
    for name, overrides in (("all", EVERYTHING), ("off", AUXILIARY_OFF)):
        cfg = small(*overrides)
        torch.manual_seed(0)
        (root / f"{name}.yaml").write_text(cfg.dump())
        torch.save({"model": build_model(cfg).state_dict()}, root / f"{name}.pth")
    return root


def words(folder, output, name="all", *more):
    given = {"--config-file": folder / f"{name}.yaml", "--images": folder / "images", "--output": output}
    start = [str(word) for pair in given.items() for word in pair]
    return [*start, *map(str, more), "--width", str(WIDTH), "MODEL.WEIGHTS", str(folder / f"{name}.pth")]


@pytest.fixture
def draw(monkeypatch, capsys):
    """``draw(words)``: what the tool prints; with ``fails`` its one line on stderr."""

    def run(arguments, fails=False):
        monkeypatch.setattr(sys, "argv", ["visualize_se_psnet.py", *map(str, arguments)])
        if not fails:
            tool.main()
            return capsys.readouterr().out
        with pytest.raises(SystemExit) as ended:
            tool.main()
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert ended.value.code == 2 and len(lines) == 1
        return lines[0]

    return run


def column_of(page, k, row=0):
    left, top = k * (WIDTH + GAP), TITLE + row * (HEIGHT + GAP)
    return np.asarray(page)[top : top + HEIGHT, left : left + WIDTH]


def test_a_page_with_truth(folder, tmp_path):
    output = tmp_path / "new/page.png"
    truth = ("--truth", folder / "truth.json", folder / "truth")
    command = [sys.executable, "tools/visualize_se_psnet.py", *words(folder, output, "all", *truth)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "2 image(s)" in done.stdout, done.stderr[-2000:]
    with Image.open(output) as page:
        assert page.size == (9 * (WIDTH + GAP) - GAP, TITLE + 2 * (HEIGHT + GAP) - GAP)
        with Image.open(folder / "images/0002.png") as second:
            assert np.array_equal(column_of(page, 0, 1), np.asarray(second))
        lines, panoptic = column_of(page, 6), column_of(page, 8)
    expected = np.zeros((HEIGHT, WIDTH), np.float32)
    expected[9:31, 8:24], expected[10:30, 7:25], expected[11:29, 9:23] = 1, 1, 0
    assert np.array_equal(lines, colour_heat(expected))
    assert not panoptic[:, -4:].any() and panoptic[:, :-4].any(-1).all()
    assert len(np.unique(panoptic.reshape(-1, 3), axis=0)) == 4  # a contour's, too
    assert not list(tmp_path.rglob("*.partial"))


def test_outputs_that_are_switched_off_have_no_column(folder, tmp_path, draw):
    draw(words(folder, tmp_path / "page.png", "off", "--num", 1))
    with Image.open(tmp_path / "page.png") as page:
        assert page.size == (3 * (WIDTH + GAP) - GAP, TITLE + HEIGHT)  # image, instances, panoptic


def test_one_image(folder, tmp_path, draw):
    draw([*words(folder, tmp_path / "page.jpg", "all", "--images", folder / "images/0002.png")])
    with Image.open(tmp_path / "page.jpg") as page:
        assert page.size == (6 * (WIDTH + GAP) - GAP, TITLE + HEIGHT) and page.format == "JPEG"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--num", 0), "--num is 0"),
        (("--width", 0), "--width is 0"),
        (("--output", "page.bogus"), "page.bogus, expected the name of a picture"),
        (("--output", "{images}/0001.png"), "0001.png is one of the images"),
        (("--output", "{images}/0001.png/page.png"), "can't be written"),
        (("--images", "{root}/nowhere"), "nowhere does not exist"),
        (("--images", "{root}/truth.json"), "truth.json"),
        (("--images", "{empty}"), "has no image in it"),
        (("--config-file", "nothing.yaml"), "nothing.yaml does not exist"),
        (("--config-file", "configs/quickstart/prn.yaml"), "expected the config of an SEPSNet"),
        (("--truth", "{root}/truth.json", "{root}/nowhere"), "nowhere is not a folder"),
        (("--truth", "{root}/other.json", "{root}/truth"), "no ground truth of"),
        (("--truth", "{root}/strange.json", "{root}/truth"), "categories [99]"),
    ],
)
def test_errors_are_one_line(folder, tmp_path, draw, monkeypatch, more, message):
    monkeypatch.chdir(ROOT)
    content = json.loads((folder / "truth.json").read_text())
    (folder / "other.json").write_text(json.dumps({**content, "annotations": content["annotations"][:1]}))
    content["annotations"][0]["segments_info"][0]["category_id"] = 99
    (folder / "strange.json").write_text(json.dumps(content))
    places = {"root": folder, "images": folder / "images", "empty": tmp_path}
    given = words(folder, folder / "page.png", "all")
    filled = [str(word).format(**places) for word in more]
    at = given.index("MODEL.WEIGHTS")
    assert message in draw([*given[:at], *filled, *given[at:]], fails=True)
    assert not list(folder.rglob("page*"))


def test_no_weights_and_those_of_another_network(folder, tmp_path, draw):
    given = words(folder, tmp_path / "page.png")
    assert "add: MODEL.WEIGHTS" in draw([*given[:-2], "MODEL.WEIGHTS", ""], fails=True)
    assert "does not exist" in draw([*given[:-1], tmp_path / "nothing.pth"], fails=True)
    assert "does not fit the model" in draw([*given[:-1], folder / "off.pth"], fails=True)


def test_images_that_cannot_be_read_or_have_another_size_than_their_truth(folder, tmp_path, draw):
    (tmp_path / "images").mkdir()
    given = words(folder, tmp_path / "page.png", "all", "--images", tmp_path / "images")
    (tmp_path / "images/0001.png").write_bytes(b"no image")
    message = draw(given, fails=True)  # each engine in its own words
    assert "images/0001.png" in message and "not an image" in message
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "images/0001.png")
    at = given.index("MODEL.WEIGHTS")
    truth = ["--truth", folder / "truth.json", folder / "truth"]
    assert "is 8 x 8, its ground truth 48 x 64" in draw([*given[:at], *truth, *given[at:]], fails=True)


def test_heads_outputs_are_where_they_say(monkeypatch):
    """Networks whose silhouette heads say one cell of 4 px."""
    from detectron2.modeling import build_model

    model = build_model(small()).eval()
    one = torch.full((1, 1, 16, 24), -20.0)
    one[0, 0, 5, 9] = 20
    monkeypatch.setattr(model.basis_module, "silhouette", torch.nn.Identity())
    monkeypatch.setattr(model.sem_seg_head, "silhouette_predictor", torch.nn.Identity())
    monkeypatch.setattr(model.basis_module.silhouette, "forward", lambda _: one)
    monkeypatch.setattr(model.sem_seg_head.silhouette_predictor, "forward", lambda _: one.flip(-1))
    things, stuff = pictures.silhouettes_of(model, {"image": torch.zeros(3, 61, 90)})
    assert things.shape == stuff.shape == (61, 90)
    for heat, column in ((things, 9), (stuff, 14)):
        rows, columns = np.nonzero(heat > 0.5)
        assert {rows.min() // 4, rows.max() // 4} == {5} and {columns.min() // 4, columns.max() // 4} == {column}


def test_a_line_stays_bright_whatever_the_size():
    heat = np.zeros((300, 400), np.float32)
    heat[100:102] = 1
    for size in ((400, 300), (800, 600), (40, 30), (37, 11)):
        rows = pictures.draw_silhouettes(heat, size)[:, 0].sum(-1)
        assert rows.max() == 3 * 255 and abs(rows.argmax() / size[1] - 101 / 300) < 1.5 / min(size[1], 300)
        assert (rows > 0).sum() <= max(4, 4 * size[1] // 300)


def results_of(masks, scores, ids, segments):
    found = Instances(masks.shape[1:], pred_boxes=Boxes(torch.zeros(len(masks), 4)))
    found.pred_masks, found.scores = torch.from_numpy(masks), torch.tensor(scores)
    found.mask_iou_scores = torch.tensor([0.2, 0.9, 0.5][: len(masks)])
    return {"instances": found, "panoptic_seg": (torch.from_numpy(ids.astype(np.int32)), segments)}


def test_instances_and_map_have_the_same_colours_and_void_is_black():
    masks = np.zeros((3, HEIGHT, WIDTH), np.bool_)
    masks[0][FIRST] = masks[1, 20:40, 15:40] = masks[2, :5] = True
    ids = np.where(masks[0], 1, np.where(np.arange(WIDTH) < 50, 2, 0) * np.ones((HEIGHT, 1), int))
    segments = [{"id": 1, "isthing": True, "category_id": 0, "instance_id": 0}]
    segments.append({"id": 2, "isthing": False, "category_id": 3})
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    results = results_of(masks, [0.9, 0.8, 0.3], ids, segments)
    drawn, numbers = pictures.draw_prediction(white, results, 0.45, (WIDTH, HEIGHT))
    assert list(drawn) == ["instances", "predicted IoU", "panoptic"]
    instances, scores, panoptic = drawn.values()
    assert np.array_equal(instances[15, 12], panoptic[15, 12]) and (panoptic[15, 12] != panoptic[15, 40]).any()
    assert not panoptic[:, 50:].any() and panoptic[:, :50].any(-1).all()
    assert np.array_equal(instances[25, 20], instances[15, 12])  # the better one lies on top
    assert (instances[10, 8:24] == 255).all() and (instances[2, 2] == instances[45, 60]).all()  # a contour; too bad
    for (y, x), score in (((15, 12), 0.2), ((35, 30), 0.9)):
        assert np.array_equal(scores[y, x], pictures.colour_scores(np.array(score)))
    # A true thing has the colour of the one that it is nearly the same as, stuff that of its class.
    truth = np.where(np.arange(WIDTH) < 48, 900, 901) * np.ones((HEIGHT, 1), int)
    truth[FIRST], truth[40:, 55:] = 902, 903
    rows = [{"id": 900 + n, "category_id": 5, "isthing": n > 1, "label": (3, 1, 0, 0)[n]} for n in range(4)]
    true = pictures.draw_truth(TrueMap(truth, rows), numbers, (WIDTH, HEIGHT), (-1, 1, 2, 3))["true panoptic"]
    assert np.array_equal(true[40, 10], panoptic[40, 10]) and np.array_equal(true[15, 12], panoptic[15, 12])
    assert len({tuple(true[place]) for place in ((40, 10), (15, 12), (20, 60), (44, 60))}) == 4


def test_no_instance_and_no_segment():
    results = results_of(np.zeros((0, HEIGHT, WIDTH), np.bool_), [], np.zeros((HEIGHT, WIDTH)), [])
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    drawn, numbers = pictures.draw_prediction(image, results, 0.45, (30, 20))
    assert all(picture.shape == (20, 30, 3) and not picture.any() for picture in drawn.values())
    assert not numbers.any()


def test_a_crowd_and_void_have_no_silhouette():
    ids = np.array([[1, 1, 2, 2, 3, 3, 0, 4, 4, 5]])
    rows = [{"id": n, "category_id": 0, "isthing": 1, "iscrowd": n == 2} for n in (1, 2, 3)]
    rows += [{"id": n, "category_id": n, "isthing": 0} for n in (4, 5)]
    things, stuff = pictures.true_silhouettes(TrueMap(ids, rows))
    assert not things.any()
    assert stuff.astype(int).tolist() == [[0, 0, 0, 0, 0, 0, 0, 0, 1, 1]]


def test_scores_and_labels_have_colours_of_their_own():
    bar = pictures.score_bar()
    assert len(np.unique(bar[0], axis=0)) > 200 and bar[0, -1].sum() > bar[0, 0].sum()
    assert np.array_equal(pictures.colour_scores(np.array([-1.0, 2.0])), bar[0, [0, -1]])
    colours = colour_labels(np.arange(40)[None])[0]
    assert len(np.unique(colours, axis=0)) == 40 and not colours[0].any()


@pytest.mark.parametrize("width", [20, 60, 200])
def test_titles_stay_in_their_columns_and_bars_where_there_is_room(width):
    white = np.full((10, width, 3), 255, np.uint8)
    titles = ("a title that is far too long for so narrow a picture as this", "b")
    bars = {"b": np.zeros((1, 2, 3), np.uint8)}
    page = np.asarray(draw_page([{title: white for title in titles}], width, bars))
    assert page.shape == (TITLE + 10, 2 * width + GAP, 3)
    assert (page[:, width : width + GAP] == 255).all() and not (page[:TITLE, :width] == 255).all()
    solid = (page[:TITLE, width + GAP :] == 0).all(-1).sum(1).max()  # the longest row of black
    assert (solid >= 40) == (width == 200)
