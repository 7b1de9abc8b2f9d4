"""tools/refine.py --shard and --merge: eight shards make what one run makes, and what is asked wrongly is told."""

import pytest

from .result_files import WRITERS, content, write_instances, write_labels

OF = 8


@pytest.mark.parametrize("task", WRITERS)
def test_shards_of_result_files(task, numbered_photos, refine_random, tmp_path):
    predictions = WRITERS[task](tmp_path)
    words = ("--images", numbered_photos, "--predictions", predictions)
    name = f"refined{predictions.suffix}"
    refine_random(*words, "--output", tmp_path / "one" / name)
    words = (*words, "--output", tmp_path / "split" / name)
    for number in (5, 1, 2, 8, 7, 6, 3):
        told = refine_random(*words, "--shard", f"{number}/{OF}")
        assert f"{2 if number < 4 else 1} images refined in shard {number}/8; when all are through: --merge 8" in told
    assert "1 of 8 shards are not whole, see above: run the same command with --shard 4/8 in the place of --merge" in (
        refine_random(*words, "--merge", OF, fails=True)
    )
    refine_random(*words, "--shard", "4/8")
    assert f"{name}: 11 images that 8 shards refined" in refine_random(*words, "--merge", OF)
    assert content(tmp_path / "split") == content(tmp_path / "one") and content(tmp_path / "one")
    assert "exists already" in refine_random(*words, "--merge", OF, fails=True)


def test_shards_of_two_folders_need_no_merge(numbered_photos, refine_random, tmp_path):
    masks = write_labels(tmp_path)
    refine_random(numbered_photos, masks, "--output", tmp_path / "one")
    words = (numbered_photos, masks, "--output", tmp_path / "split")
    for number in (2, 1):
        assert f"{7 - number} masks" in refine_random(*words, "--shard", f"{number}/2")
    assert "2 masks" not in refine_random(*words, "--shard", "12/12", "--resume")  # there are eleven
    (tmp_path / "split/004.png").unlink()
    assert "1 masks, of which" in refine_random(*words, "--resume")
    assert content(tmp_path / "split") == content(tmp_path / "one")
    assert "need no --merge: run without --shard, but with --resume" in refine_random(*words, "--merge", 2, fails=True)


def test_details_and_fields_of_shards(numbered_photos, refine_random, tmp_path):
    predictions = write_instances(tmp_path)
    words = ["--images", numbered_photos, "--predictions", predictions, "--details-in-results"]
    refine_random(*words, "--output", tmp_path / "one.json", "--details", tmp_path / "one")
    words += ["--output", tmp_path / "split.json", "--details", tmp_path / "split"]
    for number in (1, 2):
        refine_random(*words, "--shard", f"{number}/2")
    without = [word for word in words if word != "--details-in-results"]
    assert "2 of 2 shards are not whole" in refine_random(*without, "--merge", 2, fails=True)
    refine_random(*words, "--merge", 2)
    assert (tmp_path / "split.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    assert content(tmp_path / "split") == content(tmp_path / "one")


@pytest.mark.parametrize(
    "more, message",
    [
        (["--shard", "9/8"], "--shard is '9/8', expected K/N with K from 1 to N"),
        (["--shard", "0/8"], "--shard is '0/8', expected K/N"),
        (["--shard", "three"], "--shard is 'three', expected K/N"),
        (["--merge", "0"], "--merge is 0, expected the number of shards, from 1 to"),
        (["--merge", "8", "--shard", "1/8"], "--shard and --merge both came: give --shard K/N until"),
        (["--adapt", "1", "--shard", "1/8"], "--adapt would learn something else in each shard"),
        (["--merge", "2"], "2 of 2 shards are not whole"),
    ],
)
def test_what_is_asked_wrongly(more, message, numbered_photos, refine_random, tmp_path):
    words = ["--images", numbered_photos, "--predictions", write_labels(tmp_path), "--output", tmp_path / "out"]
    assert message in refine_random(*words, *more, fails=True)
    assert not (tmp_path / "out").exists()


def test_one_mask_has_no_shards(numbered_photos, refine_random, tmp_path):
    mask = write_labels(tmp_path) / "000.png"
    assert "--shard and --merge are for many images" in refine_random(
        numbered_photos / "000.png", mask, "--shard", "1/2", fails=True
    )
