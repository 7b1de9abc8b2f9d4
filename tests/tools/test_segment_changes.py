"""tools/segment_changes.py: counts of two files by hand, alone and beside the truth, the page, and what doesn't fit."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from pnm.errors import UserError
from pnm.scoring.change_pages import CHANGE_COLOURS, ChangedImage, colour_segments, draw_changes, draw_page, outlines
from pnm.tools import segment_changes as tool

CAT, DOG, SKY = 1, 2, 3
CATEGORIES = [{"id": CAT, "name": "cat", "isthing": 1}, {"id": DOG, "name": "dog", "isthing": 1}]
CATEGORIES.append({"id": SKY, "name": "sky", "isthing": 0})
OF_BASE = {1: DOG, 2: DOG, 3: DOG, 4: CAT, 5: DOG, 6: SKY}
BASE = [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 6, 0]
OF_REFINED = {6: SKY, 7: DOG, 8: DOG, 9: DOG, 10: DOG, 11: CAT}
REFINED = [7, 7, 8, 8, 9, 9, 9, 9, 10, 10, 0, 6, 6, 11]
TRUTH = [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6, 7]  # 3 and 4 were found and are merged, 1, 2, 5 and 7 are found now
OF_TRUTH = {1: DOG, 2: DOG, 3: DOG, 4: DOG, 5: DOG, 6: SKY, 7: CAT}
HEIGHT, TIMES = 30, 5  # of the images, and columns for each number


def write_panoptic(path, maps, categories=CATEGORIES):
    """``maps``: {image: (one row of ids, {id: category})}."""
    path.with_suffix("").mkdir()
    annotations = []
    for image, (row, of_id) in maps.items():
        ids = np.tile(np.repeat(np.array(row), TIMES), (HEIGHT, 1))
        Image.fromarray(np.stack([ids, 0 * ids, 0 * ids], axis=2).astype(np.uint8)).save(
            path.with_suffix("") / f"{image}.png"
        )
        segments = [{"id": n, "category_id": category} for n, category in of_id.items()]
        annotations.append({"image_id": image, "file_name": f"{image}.png", "segments_info": segments})
    path.write_text(json.dumps({"annotations": annotations, "categories": categories}))
    return path


@pytest.fixture
def files(tmp_path):
    """Before, after and truth of image 1, which doesn't change, and of image 2, which does."""
    plain = BASE, OF_BASE
    before = write_panoptic(tmp_path / "before.json", {1: plain, 2: plain})
    after = write_panoptic(tmp_path / "after.json", {1: plain, 2: (REFINED, OF_REFINED)})
    truth = write_panoptic(tmp_path / "truth.json", {3: plain, 2: (TRUTH, OF_TRUTH), 1: plain})
    (tmp_path / "images").mkdir()
    for image in (1, 2):
        rng = np.random.default_rng(image)
        pixels = rng.integers(0, 255, (HEIGHT, TIMES * len(BASE), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/00{image}.png")
    return {"before": before, "after": after, "gt": truth, "images": tmp_path / "images", "root": tmp_path}


@pytest.fixture
def changes(monkeypatch, capsys, files):
    """``changes(option=value...)``: what is printed; with ``fails`` the only line on stderr before exit 2."""

    def run(fails=False, **options):
        options = {"before": files["before"], "after": files["after"], **options}
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        monkeypatch.setattr(sys, "argv", ["segment_changes.py", *words])
        if not fails:
            tool.main()
            return capsys.readouterr().out
        with pytest.raises(SystemExit) as ended:
            tool.main()
        assert ended.value.code == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "image/s]" not in line and line.strip()]
        assert len(lines) == 1 and lines[0].startswith("error: ")
        return lines[0]

    return run


def test_counts(changes, files):
    printed = changes(json=files["root"] / "counts.json", workers=2)
    content = json.loads((files["root"] / "counts.json").read_text())
    assert content["counts"] == {
        "kept": {"all": 7, "things": 5, "stuff": 2},
        "inserted": {"all": 1, "things": 1, "stuff": 0},
        "deleted": {"all": 1, "things": 1, "stuff": 0},
        "re-classed": {"all": 1, "things": 1, "stuff": 0},
        "split": {"all": 1, "things": 1, "stuff": 0},
        "merged": {"all": 1, "things": 1, "stuff": 0},
    }
    assert content["images"] == 2 and [row["image_id"] for row in content["by_image"]] == [1, 2]
    assert content["by_image"][0] == {"image_id": 1, **dict.fromkeys(content["counts"], 0), "kept": 6}
    assert "2 image(s), 1 of them with changes" in printed and "things" in printed and "ground truth" not in printed


def test_beside_the_ground_truth(changes, files):
    printed = changes(json=files["root"] / "counts.json", gt=files["gt"], gt_folder=files["root"] / "truth")
    counts = json.loads((files["root"] / "counts.json").read_text())["counts"]
    # Before, 1 and 2 shared a segment, 5 had another category and 7 none; after, 3 and 4 share one.
    assert counts["found"] == {"all": 4, "things": 4, "stuff": 0}
    assert counts["lost"] == {"all": 2, "things": 2, "stuff": 0}
    assert counts["false ones deleted"] == {"all": 3, "things": 3, "stuff": 0}  # 1, 4 and 5
    assert counts["new false ones"] == {"all": 1, "things": 1, "stuff": 0}  # 9
    assert "beside the ground truth" in printed


def test_things_are_told_apart_where_that_is_known(changes, files):
    for name in ("before", "after"):
        content = json.loads(files[name].read_text())
        files[name].write_text(json.dumps({**content, "categories": [{"id": CAT}]}))
    printed = changes(json=files["root"] / "counts.json")
    assert "things" not in printed
    assert json.loads((files["root"] / "counts.json").read_text())["counts"]["kept"] == {"all": 7}


def test_page(changes, files):
    output = files["root"] / "new/page.png"
    printed = changes(images=files["images"], output=output, num=1, width=100)
    height = round(100 * HEIGHT / (TIMES * len(BASE)))
    one = Image.open(output).convert("RGB")
    changes(images=files["images"], output=output, num=6, width=100)
    two = Image.open(output).convert("RGB")
    assert one.width == two.width == 4 * 100 + 3 * 6 and two.height - one.height > height
    changed = np.asarray(one)[:, -100:].reshape(-1, 3).tolist()
    assert all(list(colour) in changed for colour in CHANGE_COLOURS.values()), "the changed image comes first"
    assert "the 1 image(s) with the most changes" in printed and [path.name for path in output.parent.iterdir()] == [
        "page.png"
    ]


def test_folders_elsewhere(changes, files):
    (files["root"] / "before").rename(files["root"] / "a")
    assert "2 image(s)" in changes(before_folder=files["root"] / "a", after_folder=files["root"] / "after")


def test_what_does_not_fit(changes, files, tmp_path):
    page = {"images": files["images"], "output": tmp_path / "page.png"}
    assert "--workers is 0, expected a positive" in changes(fails=True, workers=0)
    assert "--num is 0, expected a positive" in changes(fails=True, num=0)
    assert "--width is 79, expected at least 80 px" in changes(fails=True, width=79)
    assert "--output and --images go together" in changes(fails=True, output=tmp_path / "page.png")
    assert "--gt-folder is for --gt, which is missing" in changes(fails=True, gt_folder=tmp_path)
    assert "page.txt, expected the name of a picture" in changes(fails=True, **{**page, "output": "page.txt"})
    assert "after.json is named twice" in changes(fails=True, json=files["after"])
    assert "page.png is named twice" in changes(fails=True, json=page["output"], **page)
    assert "nowhere.json" in changes(fails=True, before=tmp_path / "nowhere.json")
    assert "nowhere is not a folder" in changes(fails=True, before_folder=tmp_path / "nowhere")
    assert "nowhere is not a folder" in changes(fails=True, **{**page, "images": tmp_path / "nowhere"})
    (files["images"] / "001.png").unlink()
    assert "1 image(s) are not in" in changes(fails=True, **page)
    assert not page["output"].exists()


def test_files_that_do_not_fit(changes, files, tmp_path):
    plain = BASE, OF_BASE
    fewer = write_panoptic(tmp_path / "fewer.json", {2: plain, 7: plain})
    line = changes(fails=True, after=fewer)
    assert "1 image(s) only in" in line and "before.json: 1;" in line and "fewer.json: 7" in line
    assert "fewer.json lacks 1 image(s) of" in changes(fails=True, gt=fewer)
    none = write_panoptic(tmp_path / "none.json", {})
    assert "have no image: nothing to compare" in changes(fails=True, before=none, after=none)
    strange = write_panoptic(tmp_path / "strange.json", {1: plain, 2: plain}, CATEGORIES[1:])
    assert "image 1:" in (line := changes(fails=True, gt=strange)) and "has categories 1, which" in line
    Image.new("RGB", (4, 3)).save(tmp_path / "after/2.png")
    line = changes(fails=True)
    assert "image 2:" in line and f"before/2.png is 30 x 70, {tmp_path}/after/2.png is 3 x 4: expected one size" in line
    (tmp_path / "after/2.png").unlink()
    assert "after/2.png is missing" in changes(fails=True)


def test_damage_that_shows_while_counting(changes, files, tmp_path):
    data = (tmp_path / "after/2.png").read_bytes()
    (tmp_path / "after/2.png").write_bytes(data[:-20])
    assert "after/2.png is truncated" in changes(fails=True, json=tmp_path / "counts.json")
    assert not (tmp_path / "counts.json").exists()


def test_an_image_of_another_size(changes, files, tmp_path):
    Image.new("RGB", (50, 40)).save(files["images"] / "002.png")
    line = changes(fails=True, images=files["images"], output=tmp_path / "page.png")
    assert "002.png: " in line and "the image is 40 x 50, its segments 30 x 70" in line


def test_outlines():
    labels = np.ones((4, 6), int)
    labels[1:, 1:] = 2
    expected = np.zeros((4, 6), bool)
    expected[1, 1:] = expected[1:, 1] = True
    assert np.array_equal(outlines(labels), expected), "the example of the module"
    assert np.array_equal(outlines(labels * (2**24 - 1)), expected)
    assert not outlines(np.ones((3, 3), int)).any() and not outlines(np.zeros((3, 3), int)).any()


def test_colours_of_ids():
    ids = np.array([[0, 1, 2, 3], [4, 70000, 2**24 - 1, 1]])
    colours = colour_segments(ids)
    assert colours.shape == (2, 4, 3) and not colours[0, 0].any() and (colours[0, 1] == colours[1, 3]).all()
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 7
    assert (colour_segments(ids[1:]) == colours[1:]).all(), "whatever else is there"


def test_changes_are_drawn_on_grey():
    image = np.full((20, 20, 3), (200, 100, 0), np.uint8)
    before, after = np.zeros((20, 20), int), np.zeros((20, 20), int)
    before[2:12, 2:12], after[7:17, 7:17] = 3, 3
    page = draw_changes(image, before, after, {"deleted": (3,), "inserted": (3,)})
    assert len(set(page[0, 0].tolist())) == 1, "grey"
    assert tuple(page[2, 2]) == CHANGE_COLOURS["deleted"] and tuple(page[7, 7]) == CHANGE_COLOURS["inserted"]
    assert tuple(page[11, 9]) == CHANGE_COLOURS["deleted"], "an outline under another segment"
    assert tuple(page[13, 13]) != CHANGE_COLOURS["inserted"] and page[13, 13].argmax() == 1
    assert (draw_changes(image, before, after, {}) == page[0, 0]).all()
    assert (image == (200, 100, 0)).all() and before.max() == 3


def test_page_of_images_of_different_sizes():
    rows = [
        ChangedImage("x", np.zeros((h, w, 3), np.uint8), np.ones((h, w), int), np.ones((h, w), int), {"inserted": (1,)})
        for h, w in ((1, 1), (3, 200), (90, 60))
    ]
    page = draw_page(rows, 120)
    assert page.width == 4 * 120 + 3 * 6 and page.height > 120 + 2 + 180
    with pytest.raises(UserError, match="x: the image is 2 x 2, its segments 1 x 1"):
        draw_page([rows[0]._replace(image=np.zeros((2, 2, 3), np.uint8))], 120)
