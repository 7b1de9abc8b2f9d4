"""A run that is killed goes on where it was; several processes write one output; outputs are replaced whole."""

import logging
import os
import random
import shutil
import signal

import pytest

from pnm.predictions import open_predictions, prediction_writer, records
from pnm.predictions.records import Record, RecordFile, find_records, read_record


def run(predictions, output, refine, *, overwrite=False, fingerprint="f", most=None):
    """What a program does, its number of images limited if asked."""
    with predictions.writer(output, fingerprint, overwrite=overwrite) as writer:
        waiting = [key for key in predictions.keys if key not in writer.done]
        for key in waiting[:most]:
            writer.write(key, refine(predictions.read(key)))
        if most is None:
            writer.finish()
    return len(waiting)


def unchanged(coarse):
    return coarse.masks if hasattr(coarse, "masks") else coarse.labels


@pytest.fixture
def undisturbed(kind, make, moved, output_name, content_of, tmp_path):
    """Predictions, and what refining them in one go gives."""
    path, options = make(kind)
    predictions = open_predictions(path, **options)
    run(predictions, tmp_path / "whole" / output_name, moved)
    return predictions, content_of(tmp_path / "whole" / output_name)


def test_killed_at_any_moment(undisturbed, moved, output_name, content_of, tmp_path, monkeypatch):
    predictions, wanted = undisturbed
    output, chance, steps, replace = tmp_path / output_name, random.Random(1), [0], os.replace

    def step():
        steps[0] -= 1
        if steps[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def piecewise_append(self, key, record):
        frame = records._frame(key, record)
        for at in range(0, len(frame), 1 + len(frame) // 4):
            self._opened().write(frame[at : at + 1 + len(frame) // 4])
            self._opened().flush()
            step()

    def replace_between_steps(*paths):
        step()
        replace(*paths)
        step()

    monkeypatch.setattr(RecordFile, "append", piecewise_append)
    monkeypatch.setattr(prediction_writer.os, "replace", replace_between_steps)
    ends = []
    while not output.exists() or partial(output).exists():
        steps[0] = chance.randrange(1, 12) + len(ends) // 2
        child = os.fork()
        if child == 0:
            try:
                run(predictions, output, moved)
                os._exit(0)
            finally:
                os._exit(1)
        ends.append(os.waitpid(child, 0)[1])
    assert set(ends) <= {0, signal.SIGKILL} and ends.count(signal.SIGKILL) > 1
    assert content_of(output) == wanted


def partial(output):
    return output.with_name(output.name + ".partial")


def test_killed_in_each_step_of_replacing(undisturbed, moved, output_name, content_of, tmp_path, monkeypatch):
    predictions, wanted = undisturbed
    replace, steps = os.replace, 2 + len(predictions.targets(tmp_path / output_name))
    for overwrite in (False, True):
        for step in range(2 * steps):
            folder = tmp_path / f"{overwrite}{step}"
            output, left = folder / output_name, [step]
            if overwrite:
                run(predictions, output, unchanged)

            def failing(*paths, left=left):
                for moment in ("before", "after"):
                    if left[0] == 0:
                        raise SystemError(moment)
                    left[0] -= 1
                    if moment == "before":
                        replace(*paths)

            monkeypatch.setattr(prediction_writer.os, "replace", failing)
            try:
                run(predictions, output, moved, overwrite=overwrite)
            except SystemError:
                monkeypatch.undo()
                if partial(output).exists():
                    assert run(predictions, output, moved, overwrite=overwrite) == 0
            monkeypatch.undo()
            assert content_of(output) == wanted, (overwrite, step)
            assert not partial(output).exists()
            shutil.rmtree(folder)


def test_goes_on(undisturbed, moved, output_name, content_of, tmp_path):
    predictions, wanted = undisturbed
    output = tmp_path / output_name
    assert run(predictions, output, moved, most=1) == len(predictions)
    assert not output.exists()
    assert run(predictions, output, moved, most=1) == len(predictions) - 1
    assert run(predictions, output, moved) == len(predictions) - 2
    assert content_of(output) == wanted


def test_processes_share_the_work(undisturbed, moved, output_name, content_of, tmp_path):
    predictions, wanted = undisturbed
    output = tmp_path / output_name
    children = []
    for rank in range(3):
        children.append(os.fork())
        if children[-1] == 0:
            try:
                with predictions.writer(output, "f") as writer:
                    for key in predictions.keys[rank::3]:
                        writer.write(key, moved(predictions.read(key)))
                os._exit(0)
            finally:
                os._exit(1)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert len(list(partial(output).glob("*.records"))) == len(predictions.keys[:3])
    with predictions.writer(output, "f") as writer:
        assert writer.done == set(predictions.keys)
        writer.finish()
    assert content_of(output) == wanted


HEADER = {"model or settings": "f", "predictions": "p"}


def some_records(folder):
    file = RecordFile(folder, HEADER)
    written = {5: Record([1, None]), "é": Record({"a": 2}, (b"", b"\0\xff", b"xyz")), 6: Record(None, (b"k",))}
    for key, record in written.items():
        file.append(key, record)
    file.close()
    return written


def test_every_cut_of_a_file_of_records(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    written = some_records(tmp_path)
    path = next(tmp_path.glob("*.records"))
    whole, numbers = path.read_bytes(), []
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        found = find_records(tmp_path, HEADER)
        assert list(found) == list(written)[: len(found)]
        assert {key: read_record(place) for key, place in found.items()} == {key: written[key] for key in found}
        numbers.append(len(found))
    assert numbers == sorted(numbers) and set(numbers) == {0, 1, 2, 3} and numbers.count(3) == 1
    assert "are no whole record" in caplog.text


def test_a_damaged_record_and_what_follows_are_not_used(tmp_path):
    some_records(tmp_path)
    path = next(tmp_path.glob("*.records"))
    whole = path.read_bytes()
    for at in range(len(whole) - 30, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert len(find_records(tmp_path, HEADER)) == 2


def test_of_records_of_one_image_the_first_counts(tmp_path):
    for number, name in enumerate("ba"):
        file = RecordFile(tmp_path, HEADER)
        file.append(1, Record(number))
        file.close()
        next(tmp_path.glob(f"{os.getpid()}-*")).rename(tmp_path / f"{name}.records")
    assert read_record(find_records(tmp_path, HEADER)[1]).meta == 1


def test_full_disk(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"can't be written \(.*make room and run the same command again"):
        RecordFile(tmp_path / "file" / "x", HEADER).append(1, Record(None))


def test_other_settings(undisturbed, moved, output_name, tmp_path):
    predictions, _ = undisturbed
    output = tmp_path / output_name
    run(predictions, output, moved, most=1)
    with pytest.raises(ValueError, match="beginning of a run of other model or settings: delete it to start anew, or"):
        predictions.writer(output, "g")
    shutil.rmtree(partial(output))
    assert run(predictions, output, moved, fingerprint="g") == len(predictions)


def test_other_predictions(kind, make, moved, output_name, tmp_path):
    for seed in (0, 1):
        path, options = make(kind, seed)
        predictions = open_predictions(path, **options)
        if seed == 0:
            run(predictions, tmp_path / output_name, moved, most=1)
    with pytest.raises(ValueError, match="beginning of a run of other predictions: delete it"):
        predictions.writer(tmp_path / output_name, "f")


def test_output_that_exists(undisturbed, output_name, content_of, tmp_path):
    predictions, wanted = undisturbed
    output = tmp_path / "whole" / output_name
    with pytest.raises(ValueError, match=r"refined.* exists already: choose another output, or overwrite it"):
        predictions.writer(output, "f")
    assert content_of(output) == wanted
    run(predictions, output, unchanged, overwrite=True)
    again = content_of(output)
    assert again.keys() == wanted.keys() and again != wanted


def test_output_that_came_into_being_meanwhile(make, moved, tmp_path):
    predictions = open_predictions(make("labels")[0])
    with predictions.writer(tmp_path / "refined", "f") as writer:
        (tmp_path / "refined").mkdir()
        with pytest.raises(ValueError, match="exists already"):
            writer.finish(keep_missing=True)


def test_folders_that_are_no_output_are_not_overwritten(make, moved, tmp_path):
    labels, (coco, options) = open_predictions(make("labels")[0]), make("coco")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(ValueError, match="mine can't be overwritten, as .*notes.txt is no file of such an output: ch"):
        labels.writer(tmp_path / "mine", "f", overwrite=True)
    with pytest.raises(ValueError, match="notes.txt can't be overwritten, as it is no folder"):
        labels.writer(tmp_path / "mine" / "notes.txt", "f", overwrite=True)
    (tmp_path / "x.json").mkdir()
    with pytest.raises(ValueError, match="x.json can't be overwritten, as it is a folder"):
        open_predictions(coco, **options).writer(tmp_path / "x.json", "f", overwrite=True)


def test_output_that_cannot_be_made(make, tmp_path):
    path, _ = make("panoptic")
    predictions = open_predictions(path)
    with predictions.writer(tmp_path / "out.json", "f") as writer:
        (path.parent / "panoptic/b.png").unlink()
        with pytest.raises(ValueError, match=r"out.json can't be made \(.*b.png: No such file or directory\): mend"):
            writer.finish(keep_missing=True)


def test_remains_of_a_run_that_was_killed_at_its_end(make, tmp_path):
    for name in ("out.partial-" + "0af9" * 8, "out.partial-mine", "out.partial"):
        (tmp_path / name / "new").mkdir(parents=True)
    open_predictions(make("labels")[0]).writer(tmp_path / "out", "f")
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.partial", "out.partial-mine"]


def test_output_apart_from_the_input(make, tmp_path):
    coco, options = make("coco")
    panoptic, labels = make("panoptic")[0], make("labels")[0]
    for predictions, output in (
        (open_predictions(coco, **options), coco),
        (open_predictions(coco, **options), coco.parent / ".." / coco.parent.name / coco.name),
        (open_predictions(panoptic), panoptic.with_name("panoptic.json")),
        (open_predictions(panoptic), panoptic.parent / "panoptic" / "refined.json"),
        (open_predictions(labels), labels),
        (open_predictions(labels), labels / "refined"),
        (open_predictions(labels), labels.parent),
    ):
        with pytest.raises(ValueError, match="overlap: choose another output"):
            predictions.writer(output, "f", overwrite=True)


@pytest.mark.parametrize(
    "kind, name, message",
    [
        ("panoptic", "out", r"out should be named \*.json; its PNGs go into the folder of that name"),
        ("labels", "out.png", "out.png should be a folder, as .*labels is"),
        ("cityscapes", "out.txt", "out.txt should be a folder, as .*instances is"),
    ],
)
def test_output_of_the_wrong_kind(kind, name, message, make, tmp_path):
    with pytest.raises(ValueError, match=message):
        open_predictions(make(kind)[0]).writer(tmp_path / name, "f")


def test_what_cannot_be_written(make, moved, tmp_path):
    predictions = open_predictions(make("labels")[0])
    key = predictions.keys[0]
    with predictions.writer(tmp_path / "out", "f") as writer:
        writer.write(key, moved(predictions.read(key)))
        with pytest.raises(ValueError, match="has been written before: write only images that aren't in `done`"):
            writer.write(key, moved(predictions.read(key)))
        with pytest.raises(ValueError, match="image x.png isn't in .*labels"):
            writer.write("x.png", None)
