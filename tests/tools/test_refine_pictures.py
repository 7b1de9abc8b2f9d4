"""tools/refine.py on pictures of masks: how they are read, what their output looks like, and files that are broken."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

import pnm

SHAPE = (60, 70)
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]


def disc(y=30, x=33, radius=15):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def noise():
    return np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)


def grey(path):
    return np.asarray(Image.open(path))


@pytest.fixture
def photo(tmp_path):
    """Bright where the true object is, two pixels to the right of the mask's."""
    image = noise() // 8 + np.where(disc(x=35)[..., None], 200, 20).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def refined(photo):
    """What is to come out."""
    refined = pnm.Refiner(strength=1)(photo, disc())
    assert (refined != disc()).any()
    return refined


@pytest.fixture
def refine(run_refine):
    def run(*words, **options):
        return run_refine(*words, "--strength", 1, **options)

    return run


def test_a_dark_object_is_refined_as_one(refine, photo, refined, tmp_path):
    Image.fromarray(~disc()).save(tmp_path / "mask.png")
    told = refine(photo, tmp_path / "mask.png", "--invert")
    assert "(mask.png was read as one object, the darker of two values)" in told
    assert np.array_equal(grey(tmp_path / "mask_refined.png") == 0, refined)
    told = refine(photo, tmp_path / "mask.png", "--overwrite")
    assert "(mask.png was read as one object, the brighter of two values)" in told


def test_two_colours(refine, photo, refined, tmp_path):
    Image.fromarray(np.where(disc()[..., None], (90, 0, 0), (250, 250, 0)).astype(np.uint8)).save(tmp_path / "m.png")
    assert "the darker of two values" in refine(photo, tmp_path / "m.png", "--invert")
    assert np.array_equal(grey(tmp_path / "m_refined.png") == 0, refined)


def test_the_object_keeps_its_value(refine, photo, refined, tmp_path):
    Image.fromarray(np.where(disc(), 7, 3).astype(np.uint8)).save(tmp_path / "mask.png")
    refine(photo, tmp_path / "mask.png")
    assert np.array_equal(grey(tmp_path / "mask_refined.png"), np.where(refined, 7, 0))


@pytest.mark.parametrize(
    ("kind", "told"), [("auto", "a label map of 3 labels"), ("object", "one object with soft edges, brighter than")]
)
def test_what_it_is_can_be_said(refine, photo, tmp_path, kind, told):
    labels = np.where(disc(), 200, 0).astype(np.uint8)
    labels[:5] = 130
    Image.fromarray(labels).save(tmp_path / "mask.png")
    assert f"(mask.png was read as {told}" in refine(photo, tmp_path / "mask.png", "--mask-kind", kind)
    assert len(np.unique(grey(tmp_path / "mask_refined.png"))) == (3 if kind == "auto" else 2)


def test_labels_of_two_values_stay_a_partition(refine, photo, tmp_path):
    Image.fromarray(np.where(disc(), 2, 1).astype(np.uint8)).save(tmp_path / "mask.png")
    told = refine(photo, tmp_path / "mask.png", "--mask-kind", "labels", "--details", tmp_path / "details")
    assert "(mask.png was read as a label map of 2 labels)" in told
    assert [row["id"] for row in json.loads((tmp_path / "details/mask.json").read_text("utf-8"))["objects"]] == [1, 2]


def test_what_cannot_be_said_of_it(refine, run_refine, photo, tmp_path):
    Image.fromarray(np.where(disc(), 2, noise()[..., 0] // 128).astype(np.uint8)).save(tmp_path / "mask.png")
    files = photo, tmp_path / "mask.png"
    assert "--mask-kind is 'best', expected one of auto, object" in refine(*files, "--mask-kind", "best", fails=True)
    both = ("--mask-kind", "labels", "--invert")
    assert "--invert is for masks of one object" in refine(*files, *both, fails=True)
    assert "is read as labels, which --invert is not for: add --mask-kind" in refine(*files, "--invert", fails=True)
    assert "a picture has no entries: use --details" in refine(*files, "--details-in-results", fails=True)
    (tmp_path / "results.json").write_text("[]", "utf-8")
    words = ("--images", tmp_path, "--predictions", tmp_path / "results.json", "--output", tmp_path / "out.json")
    assert "--mask-kind, --invert is for pictures of masks" in refine(
        *words, "--mask-kind", "object", "--invert", fails=True
    )


@pytest.mark.parametrize("transparency", [None, 0])
def test_a_palette_stays(refine, photo, tmp_path, transparency):
    labels = (disc() + 2 * disc(y=15, x=60, radius=8)).astype(np.uint8)
    given = Image.fromarray(labels)
    given.putpalette(PALETTE + [0] * (768 - len(PALETTE)))
    given.save(tmp_path / "labels.png", **({} if transparency is None else {"transparency": transparency}))
    assert "a label map of" in refine(photo, tmp_path / "labels.png")
    with Image.open(tmp_path / "labels_refined.png") as after:
        assert after.mode == "P" and after.getpalette("RGB")[:12] == PALETTE
        assert after.info.get("transparency") == transparency
        assert set(np.unique(np.asarray(after))) == set(np.unique(labels))


def folders(tmp_path, names=("a", "b", "c")):
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for name in names:
        Image.fromarray(noise()).save(tmp_path / f"photos/{name}.jpg")
        Image.fromarray(disc()).save(tmp_path / f"masks/{name}.png")
    return tmp_path / "photos", tmp_path / "masks", "--output", tmp_path / "out"


def shortened(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["photos/b.jpg", "masks/b.png"])
def test_a_broken_file_ends_nothing(refine, tmp_path, name):
    words = folders(tmp_path)
    whole = (tmp_path / name).read_bytes()
    shortened(tmp_path / name)
    last = refine(*words, fails=True)
    assert "1 of 3 pairs could not be refined, see above; the others are done" in last and "--resume" in last
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["a.png", "c.png"]
    (tmp_path / name).write_bytes(whole)
    told = refine(*words, "--resume")
    assert "1 masks, of which 0 changed, 2 were there (read as one object, the brighter of two values: 1)" in told


@pytest.mark.parametrize("name", ["photos/b.jpg", "masks/b.png"])
def test_a_broken_file_is_named(refine_tool, tmp_path, capsys, monkeypatch, name):
    words = folders(tmp_path)
    shortened(tmp_path / name)
    monkeypatch.setattr("sys.argv", ["refine.py", *map(str, words)])
    with pytest.raises(SystemExit):
        refine_tool.main()
    lines = capsys.readouterr().err.strip().splitlines()
    assert any(f"{tmp_path / name}" in line and "truncated" in line for line in lines[:-1])


@pytest.mark.parametrize("name", ["photo.png", "mask.png"])
def test_one_broken_file_is_named(refine, photo, tmp_path, name):
    Image.fromarray(disc()).save(tmp_path / "mask.png")
    shortened(tmp_path / name)
    line = refine(photo, tmp_path / "mask.png", fails=True)
    assert f"{tmp_path / name}" in line and "truncated" in line


def test_no_pair_that_can_be_read(refine, tmp_path):
    words = folders(tmp_path, ["a"])
    shortened(tmp_path / "masks/a.png")
    assert "1 pairs can't be refined, see above: mend or remove them" in refine(*words, fails=True)


@pytest.mark.parametrize(("folder", "called"), [("photos", "the photos"), ("masks", "the masks")])
def test_an_output_among_the_inputs_is_told_by_their_name(refine, tmp_path, folder, called):
    words = folders(tmp_path)
    line = refine(*words[:3], tmp_path / folder, fails=True)
    assert f"and {called} {tmp_path / folder} lie one in the other" in line
    assert f"would be taken for {folder}: choose an output folder beside the {folder}'" in line


def test_large_masks_whose_object_is_dark(refine, tmp_path, monkeypatch):
    monkeypatch.setattr("pnm.pictures.tiff_windows.LARGE_PX", 4000)
    tifffile.imwrite(tmp_path / "photo.tif", noise(), photometric="rgb", tile=(16, 16))
    tifffile.imwrite(tmp_path / "mask.tif", (~disc()).astype(np.uint8) * 255, rowsperstrip=20)
    files = tmp_path / "photo.tif", tmp_path / "mask.tif"
    assert "(mask.tif was read as one object, 0)" in refine(*files, "--invert")
    wanted = pnm.Refiner(strength=1)(noise(), disc())
    assert np.array_equal(tifffile.imread(tmp_path / "mask_refined.tif") == 0, wanted)
    line = refine(*files, "--overwrite", "--mask-kind", "labels", fails=True)
    assert "those refined by tiles, are of one object" in line


def test_a_palette_whose_greater_index_is_darker(refine, photo, refined, tmp_path):
    """As programs that count colours make it: the object is white, of index 0."""
    image = Image.fromarray((~disc()).astype(np.uint8), "P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "mask.png")
    told = refine(photo, tmp_path / "mask.png")
    assert "(mask.png was read as one object, the brighter of two values)" in told
    with Image.open(tmp_path / "mask_refined.png") as made:
        assert made.mode == "P" and np.array_equal(np.asarray(made.convert("L")) == 255, refined)
    assert np.array_equal(pnm.Refiner(strength=1)(photo, tmp_path / "mask.png"), refined)
    with Image.open(tmp_path / "mask.png") as opened:
        assert np.array_equal(pnm.Refiner(strength=1)(photo, opened), refined)


@pytest.mark.parametrize("labels", [(0, 15, 255), (0, 1, 255), (0, 128, 255)])
def test_a_class_inside_of_a_void_band_is_no_soft_edge(refine, photo, labels, tmp_path):
    background, inner, void = labels
    values = np.where(disc(radius=17), np.uint8(void), np.uint8(background))
    values[disc()] = inner
    Image.fromarray(values).save(tmp_path / "mask.png")
    told = refine(photo, tmp_path / "mask.png")
    assert "is taken for a label map of 3 labels" in told and "soft" not in told
    made = grey(tmp_path / "mask_refined.png")  # of the band, segments may take what is theirs
    assert {background, inner} <= set(np.unique(made)) <= set(labels)
