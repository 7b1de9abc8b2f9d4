"""The page of a report: its numbers are those of evaluate.py, and nothing in it can be misread by a browser."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnm.formats.cityscapes import prediction_lines, write_cityscapes_predictions
from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.masks.runs import array_counts, rle_text

from .conftest import load_tool

HOSTILE = ["<script>alert(1)</script>", "--><img src=x onerror=alert(2)>", "$\\frac{1}$ & 'quotes\"", "plain"]
SHAPE = (40, 52)


def rle(mask):
    return {"size": list(mask.shape), "counts": rle_text(array_counts(mask)).decode()}


def drawn(rng, shape=SHAPE, number=4):
    """(H, W) ids: 1 at the top, 2 below, rectangles from 3 on; classes by id."""
    ids = np.ones(shape, np.int32)
    ids[shape[0] // 2 :] = 2
    for n in range(number):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        ids[y : y + 13, x : x + 15] = 3 + n
    return ids


CLASS_OF = np.array([0, 0, 1, 2, 3, 2, 3])  # of the ids of drawn


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_data(root, images=4, shape=SHAPE, names=None):
    """Truth, and predictions a and b, of all tasks, and images; b is nearer to the truth."""
    rng = np.random.default_rng(3)
    names = names or [f"{n}.png" for n in range(images)]
    categories = [{"id": 10 + k, "name": name, "isthing": int(k > 1)} for k, name in enumerate(HOSTILE)]
    things = [category for category in categories if category["isthing"]]
    listed = [{"id": n, "file_name": names[n], "height": shape[0], "width": shape[1]} for n in range(images)]
    panoptic, instances = {side: [] for side in ("gt", "a", "b")}, {side: [] for side in ("gt", "a", "b")}
    for n in range(images):
        truth = drawn(rng, shape)
        sides = {"gt": truth, "a": np.roll(truth, (2, -2), (0, 1)), "b": np.roll(truth, 1, 0)}
        save(root / "images" / names[n], rng.integers(0, 255, (*shape, 3)).astype(np.uint8))
        for side, ids in sides.items():
            save(root / f"{side}_labels" / names[n], CLASS_OF[ids].astype(np.uint8))
            save(root / f"{side}_panoptic" / f"{n}.png", ids_to_rgb(ids))
            segments = [{"id": k, "category_id": 10 + int(CLASS_OF[k])} for k in np.unique(ids).tolist()]
            panoptic[side].append({"image_id": n, "file_name": f"{n}.png", "segments_info": segments})
            for k in np.unique(ids[ids > 2]).tolist():
                row = {"image_id": n, "category_id": 10 + int(CLASS_OF[k]), "segmentation": rle(ids == k)}
                more = {"id": len(instances["gt"]) + 1} if side == "gt" else {"score": float(rng.random())}
                instances[side].append({**row, **more})
    for side in ("gt", "a", "b"):
        content = {"images": listed, "annotations": panoptic[side], "categories": categories}
        (root / f"{side}_panoptic.json").write_text(json.dumps(content))
        whole = {"images": listed, "annotations": instances["gt"], "categories": things}
        (root / f"{side}_instances.json").write_text(json.dumps(whole if side == "gt" else instances[side]))
    (root / "names.txt").write_text("\n".join(HOSTILE))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def words(root, task, compared=False):
    ending = {"semantic": "_labels", "instance": "_instances.json", "panoptic": "_panoptic.json"}[task]
    chosen = ["--gt", root / f"gt{ending}", "--pred", root / f"a{ending}", "--bootstrap", 20, "--workers", 2]
    chosen += ["--compare", root / f"b{ending}"] if compared else []
    return chosen + (["--classes", root / "names.txt"] if task == "semantic" else [])


@pytest.fixture(scope="session")
def report_tool():
    return load_tool("report")


@pytest.fixture
def report(report_tool, tmp_path, monkeypatch, capsys):
    """``report(words...)`` gives the page; with ``fails`` the one line on stderr before exit 2."""

    def run(*arguments, fails=False, output=None):
        output = output or tmp_path / "report.html"
        monkeypatch.setattr(sys, "argv", ["report.py", *map(str, arguments), "--output", str(output)])
        if not fails:
            report_tool.main()
            return output.read_text("utf-8")
        with pytest.raises(SystemExit) as ended:
            report_tool.main()
        assert ended.value.code == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert lines[-1].startswith("error: ")
        return lines[-1]

    return run


class Page(HTMLParser):
    """Elements, attributes, texts and the JSON of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.texts, self.open, self.scripts = [], [], [], [], []
        self.feed(text)
        self.close()
        self.numbers = json.loads(self.scripts[0], parse_constant=pytest.fail)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, text):
        (self.scripts if self.open and self.open[-1] == "script" else self.texts).append(text)


def difference(a, b):
    """Names of metrics whose values differ; both are nested dicts of numbers or None."""
    return [name for name in a.keys() | b.keys() if a.get(name) != b.get(name)]


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_numbers_are_those_of_evaluate(task, data, report, evaluate):
    page = Page(report(*words(data, task), "--images", data / "images")).numbers
    result = evaluate(task, data / words(data, task)[3], data / words(data, task)[1], *words(data, task)[4:])
    assert difference({name: entry["value"] for name, entry in page["metrics"].items()}, result["metrics"]) == []
    assert page["task"] == task and page["images"] == result["images"] == 4
    for side in page["errors"]:
        ways, weights, near = (np.array(side[name]) for name in ("ways", "weights", "near"))
        distances = np.array(side["distances"])
        assert ways.sum() == weights[1].sum() == near[:, 1].sum() > 0
        assert distances[0].sum() == weights[0].sum() == near[:, 0].sum()
        wrong = distances[1].sum() + (distances[2].sum() if task == "instance" else 0)
        assert wrong == ways.sum()


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_comparisons_are_those_of_evaluate(task, data, report, evaluate):
    arguments = words(data, task, compared=True)
    page = Page(report(*arguments, "--images", data / "images", "--num", 2)).numbers
    result = evaluate(task, arguments[3], arguments[1], *arguments[4:])
    assert difference(page["metrics"], result["comparison"]) == [] and len(page["errors"]) == 2


def test_intervals_of_one_are_those_of_a_comparison(data, report):
    alone, both = (Page(report(*words(data, "panoptic", compared), "--num", 0)).numbers for compared in (False, True))
    assert difference(alone["metrics"], {name: entry["a"] for name, entry in both["metrics"].items()}) == []


def test_cityscapes_instances(tmp_path, report, evaluate):
    ids = np.full((30, 50), 7, np.uint16)
    ids[5:15, 5:25], ids[18:28, 30:44], ids[:4] = 26000, 24001, 26
    name = "aachen_000000_000019"
    save(tmp_path / f"gt/aachen/{name}_gtFine_instanceIds.png", ids)
    save(tmp_path / f"images/aachen/{name}_leftImg8bit.png", np.zeros((30, 50, 3), np.uint8))
    masks = [np.roll(ids == 26000, 1, 1), ids == 24001]
    text = prediction_lines(f"{name}_leftImg8bit", [26, 24], [0.9, 0.8])
    (tmp_path / "pred/masks").mkdir(parents=True)
    write_cityscapes_predictions(tmp_path / f"pred/{name}_leftImg8bit_pred.txt", text, masks)
    arguments = ["--pred", tmp_path / "pred", "--gt", tmp_path / "gt", "--cityscapes", "--bootstrap", 5]
    page = Page(report(*arguments, "--images", tmp_path / "images")).numbers
    result = evaluate("instance", tmp_path / "pred", tmp_path / "gt", "--cityscapes", "--bootstrap", 5)
    assert difference({key: entry["value"] for key, entry in page["metrics"].items()}, result["metrics"]) == []
    errors = page["errors"][0]
    assert np.array(errors["ways"]).sum() == 20 and np.array(errors["confusion"]).sum() == 2


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_a_prediction_beside_itself_differs_by_nothing(task, data, report):
    arguments = words(data, task)
    page = Page(report(*arguments, "--compare", arguments[3], "--num", 1)).numbers
    entries = [entry["difference"] for entry in page["metrics"].values()]
    assert all(value in (0, None) for entry in entries for value in entry.values())
    assert page["errors"][0] == page["errors"][1]


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_hostile_names_are_text(task, tmp_path, report):
    names = ["<b>&'.png", 'x" onerror="alert(3).png']
    root = write_data(tmp_path / "data", images=2, names=names)
    text = report(*words(root, task, compared=True), "--images", root / "images")
    page = Page(text)
    assert page.elements.count("script") == 2 and page.elements.count("html") == 1 and "b" not in page.elements
    assert not [entry for entry in page.attributes if entry[1].startswith("on")]
    classes = HOSTILE[2:] if task == "instance" else HOSTILE
    for name in classes:
        assert any(name in shown for shown in page.texts), name
    alts = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    assert any(names[1].removesuffix(".png") in alt for alt in alts)


def test_the_page_needs_nothing_else(data, report):
    text = report(*words(data, "instance", compared=True), "--images", data / "images")
    page = Page(text)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    assert ("meta", "content", policy) in page.attributes and ("html", "lang", "en") in page.attributes
    for _, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert value.startswith(("data:", "#")), value[:80]
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    headings = [int(tag[1]) for tag in page.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(headings, headings[1:]))
    images = [dict(pair[1:] for pair in page.attributes if pair[0] == "img" and pair[1] == "alt")]
    assert images and "⟦" not in text


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_no_objects_one_image_and_odd_shapes(task, tmp_path, report):
    """One row of pixels; nothing is found, and of the instances nothing is there."""
    root = write_data(tmp_path / "data", images=1, shape=(3, 90))
    for name in ("gt_instances", "gt_panoptic", "a_panoptic"):
        content = json.loads((root / f"{name}.json").read_text())
        if name == "gt_instances":
            content["annotations"] = []
            (root / f"{name}.json").write_text(json.dumps(content))
    if task == "instance":
        (root / "a_instances.json").write_text("[]")
    page = Page(report(*words(root, task), "--images", root / "images"))
    assert page.numbers["images"] == 1
    if task == "instance":
        assert np.array(page.numbers["errors"][0]["ways"]).sum() == 0


def test_detections_without_any_truth(tmp_path, report):
    root = write_data(tmp_path / "data", images=2)
    content = json.loads((root / "gt_instances.json").read_text())
    (root / "gt_instances.json").write_text(json.dumps({**content, "annotations": []}))
    errors = Page(report(*words(root, "instance", compared=True), "--min-score", 0)).numbers["errors"]
    assert all(np.array(side["ways"])[:3].sum() == 0 < np.array(side["ways"])[3].sum() for side in errors)


def test_one_class_and_images_of_16_bits(tmp_path, report):
    rng = np.random.default_rng(0)
    for n in range(2):
        for side in ("gt", "a"):
            save(tmp_path / side / f"{n}.png", np.zeros((20, 31), np.uint8))
        save(tmp_path / "images" / f"{n}.png", rng.integers(0, 60000, (20, 31)).astype(np.uint16))
    arguments = ["--gt", tmp_path / "gt", "--pred", tmp_path / "a", "--classes", 1, "--images", tmp_path / "images"]
    numbers = Page(report(*arguments, "--bootstrap", 5)).numbers
    assert np.array(numbers["errors"][0]["ways"]).sum() == 0 and numbers["metrics"]["mIoU"]["value"] == 1


def test_images_of_another_size_and_none_are_shown(data, tmp_path, report):
    shutil.copytree(data / "images", tmp_path / "images")
    save(tmp_path / "images/1.png", np.zeros((11, 200, 4), np.uint8))
    with_images = report(*words(data, "semantic"), "--images", tmp_path / "images")
    without = report(*words(data, "semantic"))
    assert with_images.count("<img src") > without.count("<img src") > 0 and "is 11 × 200" in with_images
    assert Page(with_images).numbers["errors"] == Page(without).numbers["errors"]


def test_the_number_of_pictures_is_bounded(data, report):
    arguments = [*words(data, "instance", compared=True), "--images", data / "images"]
    none, one = report(*arguments, "--num", 0), report(*arguments, "--num", 1)
    assert none.count("<img src") == 0 and 0 < one.count("<article>") <= 5
    assert Page(none).numbers["errors"] == Page(one).numbers["errors"]


def test_errors_are_told_before_the_work(data, tmp_path, report):
    semantic, instance = words(data, "semantic"), words(data, "instance")
    assert "no folder" in report(*semantic, "--images", tmp_path / "nothing", fails=True)
    assert "is no folder: make it" in report(*semantic, fails=True, output=tmp_path / "nowhere/report.html")
    assert "named twice" in report(*instance, fails=True, output=data / "a_instances.json")
    (tmp_path / "empty").mkdir()
    assert "4 of 4 images" in report(*semantic, "--images", tmp_path / "empty", fails=True)
    assert "holds instance predictions" in report(*instance, "--task", "semantic", fails=True)
    assert "holds panoptic" in report(*instance, "--compare", data / "a_panoptic.json", fails=True)
    assert "missing" in report("--gt", data / "gt_labels", "--pred", tmp_path / "none.json", fails=True)
    assert "--classes" in report(*semantic[:4], fails=True)
    assert "--num" in report(*semantic, "--num", -1, fails=True)
    save(tmp_path / "other/strange.png", np.zeros((3, 3), np.uint8))
    strange = ["--gt", data / "gt_labels", "--pred", tmp_path / "other", "--classes", 4]
    assert "mismatch" in report(*strange, fails=True)
    assert "no image in common" in report(*strange, "--allow-missing", fails=True)
    assert not (tmp_path / "report.html").exists()


def test_no_input_is_overwritten(data, tmp_path, report):
    folder = shutil.copytree(data, tmp_path / "own")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    semantic, images = words(folder, "semantic"), ["--images", folder / "images"]
    for name in ("gt_labels/0.png", "a_labels/1.png", "images/2.png", "names.txt"):
        assert "would be overwritten" in report(*semantic, *images, fails=True, output=folder / name)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_scores_that_cannot_be(data, report):
    assert "--min-score is nan" in report(*words(data, "instance"), "--min-score", "nan", fails=True)
    assert "--min-score is for instances" in report(*words(data, "semantic"), "--min-score", "0.5", fails=True)


def test_images_without_detections_are_told(data, tmp_path, report):
    rows = json.loads((data / "a_instances.json").read_text())
    (tmp_path / "half.json").write_text(json.dumps([row for row in rows if row["image_id"] < 2]))
    page = report("--gt", data / "gt_instances.json", "--pred", tmp_path / "half.json")
    assert any("no detections for 2 of 4 images" in line for line in Page(page).numbers["remarks"])
    assert "no detections for 2 of 4 images" in page and "detections count; there are" in page


def test_missing_images_are_grey_on_demand(data, tmp_path, report):
    shutil.copytree(data / "images", tmp_path / "images")
    (tmp_path / "images/2.png").unlink()
    arguments = [*words(data, "semantic"), "--images", tmp_path / "images"]
    assert "1 of 4 images" in report(*arguments, fails=True)
    assert Page(report(*arguments, "--allow-missing")).numbers["images"] == 4


def test_a_damaged_image_is_told_and_ends_nothing(data, tmp_path, report):
    shutil.copytree(data / "images", tmp_path / "images")
    for n in range(4):
        (tmp_path / f"images/{n}.png").write_bytes(b"no picture")
    assert "can&#39;t be read" in report(*words(data, "semantic"), "--images", tmp_path / "images")


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("task", ["semantic", "instance"])
def test_a_browser_shows_it(task, data, tmp_path, report):
    """The page as a browser has made it: tables sort, pictures open, nothing is asked for, no script fails."""
    text = report(*words(data, task, compared=True), "--images", data / "images", "--num", 1)
    probe = """
window.addEventListener("load", () => {
  const table = document.querySelector("table"), button = table.querySelectorAll("thead button")[1];
  button.click();
  const values = [...table.tBodies[0].rows].map(row => Number(row.cells[1].dataset.order ?? "nan"));
  const known = values.filter(value => !Number.isNaN(value));
  document.querySelector("button.enlarge").click();
  const sorted = known.every((value, n) => n === 0 || value <= known[n - 1]);
  const loaded = [...document.images].filter(one => one.src).every(one => one.complete && one.naturalWidth > 0);
  const wide = document.documentElement.scrollWidth <= window.innerWidth;
  const open = document.querySelector("dialog").open, asked = performance.getEntriesByType("resource")
    .filter(entry => !entry.name.startsWith("data:")).length;
  document.title = JSON.stringify({sorted, loaded, open, wide, asked, failed: window.failed ?? []});
});
"""
    listen = "window.failed = []; window.addEventListener('error', event => window.failed.push(event.message));"
    listen += "document.addEventListener('securitypolicyviolation', event => window.failed.push(event.blockedURI));"
    page = tmp_path / "probed.html"
    page.write_text(text.replace("<style>", f"<script>{listen}{probe}</script><style>", 1), "utf-8")
    folder = tmp_path / "browser"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", f"--user-data-dir={folder}", "--window-size=400,900"]
    done = subprocess.run(
        [BROWSER, *options, "--virtual-time-budget=10000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stderr[-2000:]
    wanted = {"sorted": True, "loaded": True, "open": True, "wide": True, "asked": 0, "failed": []}
    assert json.loads(title[1]) == wanted


def test_it_starts_without_torch():
    code = "import sys; sys.path.insert(0, 'tools'); import report; import pnm.reporting.report; "
    code += "sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2], capture_output=True)
    assert done.returncode == 0, done.stderr
