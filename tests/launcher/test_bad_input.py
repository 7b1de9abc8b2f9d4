"""Each thing that a user can get wrong has one line that says what came and what to do."""

import json
import os
import pickle
import random
import re
import shutil
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg

from pnm.errors import UserError
from pnm.formats.atomic_files import check_folder_writable
from pnm.formats.safe_checkpoint import CheckpointError, UnsafeCheckpointError
from pnm.projects.launcher.arguments import parse_args
from pnm.projects.launcher.checkpoint import SafeCheckpointer, read_checkpoint
from pnm.projects.launcher.config import add_launcher_config, load_config
from pnm.projects.launcher.data.user_data import register_user_data
from pnm.projects.launcher.run_setup import check_processes
from pnm.projects.launcher.trainer import Trainer

QUICKSTART = "configs/quickstart/mask_rcnn_R_18_FPN.yaml"
SMALL = "SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 2 INPUT.MIN_SIZE_TRAIN (96,) DATASETS.TEST ()"


@pytest.mark.parametrize(
    ("file", "overrides", "message"),
    [
        (
            "configs/quickstart/mask_rcnn_R_18.yaml",
            [],
            "does not exist; did you mean configs/quickstart/mask_rcnn_R_18",
        ),
        (QUICKSTART, ["SOLVER.BASE_RL", "1"], "unknown config key SOLVER.BASE_RL; did you mean SOLVER.BASE_LR?"),
        (QUICKSTART, ["MODEL.BASE_LR", "1"], "unknown config key MODEL.BASE_LR; did you mean"),
        (QUICKSTART, ["SOLVER.BASE_LR"], "overrides are KEY VALUE pairs, got an odd number: SOLVER.BASE_LR"),
        (QUICKSTART, ["SOLVER.MAX_ITER", "many"], "command line: SOLVER.MAX_ITER takes int, got str"),
    ],
)
def test_configs(file, overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        load_config(file, overrides)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL:\n  MASK_OM: True\n", "x.yaml: unknown config key MODEL.MASK_OM; did you mean MODEL.MASK_ON?"),
        ("MODEL: [\n", "x.yaml is not valid YAML"),
        ("_BASE_: nowhere.yaml\n", "nowhere.yaml"),
        ("OUTPUT_DIR: !!python/object/apply:os.mkdir [made]\n", "x.yaml.*could not determine a constructor"),
        ("SOLVER: 3\n", "x.yaml: SOLVER takes CfgNode, got int"),
        ("- 1\n", "x.yaml holds a list, expected config keys"),
        ("_BASE_: x.yaml\n", "x.yaml: _BASE_ leads back to the file itself"),
        ("_BASE_: http://127.0.0.1:9/x.yaml\n", "_BASE_ http://127.0.0.1:9/x.yaml does not exist; it must be a file"),
        ("_BASE_: {a: 1}\n", "_BASE_ is {'a': 1}, expected the name of a file"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", r"alias \*a within what another anchor names"),
        ("a: &a [*a]\n", r"alias \*a within what another anchor names"),
        ("a: " + "[" * 3000 + "]" * 3000, "more than 30 lists or mappings in one another"),
        ("- " * 20000, "more than 30 lists or mappings in one another"),
        ("SEED: 2001-99-99\n", "x.yaml"),
        ("#" * (1 << 21), "has more than 1048576 bytes: it is no config"),
    ],
)
def test_config_files(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises((UserError, FileNotFoundError), match=message):
        load_config(str(tmp_path / "x.yaml"), [])


@pytest.mark.parametrize("value", ["[" * 3000 + "]" * 3000, "(" * 20000, "-" * (1 << 21), "1\0"])
def test_hostile_values(value):
    with pytest.raises(UserError, match="command line: DATASETS.REGISTER .* is no value"):
        load_config("", ["DATASETS.REGISTER", value])


def test_mutated_configs_end_in_one_line(tmp_path):
    """``PNM_MUTATIONS=2000`` for more: the text of a config with pieces changed is a config or a UserError."""
    whole = Path("configs/quickstart/Base-shapes.yaml").read_text()
    register = "[{'name': 'a', 'type': 'semantic', 'images': 'x', 'labels': 'y', 'classes': ['a']}]"
    chance, refused = random.Random(0), 0
    for _ in range(int(os.environ.get("PNM_MUTATIONS", "60"))):
        (tmp_path / "x.yaml").write_text(mutated(whole, chance))
        overrides = ["DATASETS.REGISTER", mutated(register, chance)] if chance.random() < 0.5 else []
        try:
            cfg = load_config(str(tmp_path / "x.yaml"), overrides)
            register_user_data(cfg)
        except UserError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
    assert refused > 10


def mutated(text, chance):
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(text))
        piece = chance.choice(
            ["", "[", "]", "{", "&a ", "*a", ": ", "\n", "- ", "'", "null", "1e999", "-1", "\t", "!!int "]
        )
        text = text[:at] + piece + text[at + chance.randrange(3) :]
    return text


def test_processes_and_folders(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"--num-gpus is 4096, but this machine has \d+ "):
        check_processes(4096)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_processes(2)
    with pytest.raises(UserError, match=r"--num-gpus is 3, but this machine has 2 GPU\(s\)"):
        check_processes(3)
    assert parse_args([]).dist_url == "auto", "two runs on one machine must not want the same port"
    with pytest.raises(UserError, match="several machines need --dist-url tcp://HOST:PORT"):
        parse_args(["--num-machines", "2"])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="OUTPUT_DIR .*file/out is not writable .* choose another"):
        check_folder_writable(tmp_path / "file/out", "OUTPUT_DIR")


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


def test_checkpoints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "attack.pkl").write_bytes(pickle.dumps({"model": Attack()}))
    torch.save({"model": Attack()}, tmp_path / "attack.pth")
    for name in ("attack.pkl", "attack.pth"):
        with pytest.raises(UnsafeCheckpointError, match="was refused"):
            SafeCheckpointer(torch.nn.Linear(1, 1)).load(str(tmp_path / name))
    assert not (tmp_path / "attacked").exists()
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list, expected a dict of weights"):
        read_checkpoint(str(tmp_path / "list.pth"))
    with pytest.raises(CheckpointError, match=r"absent.pth does not exist; check MODEL.WEIGHTS"):
        SafeCheckpointer(torch.nn.Linear(1, 1)).load(str(tmp_path / "absent.pth"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("my_train", "is not a mapping with a name and a type"),
        ({"type": "voc"}, "is not a mapping with a name and a type"),
        ({"name": "x", "type": "vocc"}, "x: there is no type 'vocc'; did you mean voc"),
        ({"name": "x", "type": "coco", "image": "a"}, "missing annotations, images; unknown image; type coco takes"),
        (
            {"name": "x", "type": "coco", "annotations": "no.json", "images": "."},
            "annotation file no.json does not exist",
        ),
        (
            {"name": "x", "type": "coco", "annotations": "bad.json", "images": "."},
            "bad.json is not JSON .*: expected COCO annotations",
        ),
        ({"name": "x", "type": "semantic", "images": ".", "labels": ".", "classes": 3}, "classes must be a list"),
        (
            {"name": "x", "type": "panoptic", "images": ".", "annotations": "bad.json", "panoptic": ".", "stuff": "no"},
            r"does not exist; make it with: python datasets/prepare_panoptic_fpn.py --panoptic-json bad.json",
        ),
    ],
)
def test_user_data(tmp_path, monkeypatch, entry, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text('{"images": []')
    cfg = get_cfg()
    add_launcher_config(cfg)
    cfg.DATASETS.REGISTER = [entry]
    with pytest.raises(UserError, match=message):
        register_user_data(cfg)


def error_of(done) -> str:
    """The one line that a failed run ends with."""
    assert done.returncode == 2, done.stdout[-3000:]
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("error: "), done.stdout[-3000:]
    return last


def change_annotations(root, change) -> None:
    path = root / "shapes/annotations/instances_train.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


DAMAGES = {
    "no data": (lambda root: shutil.rmtree(root / "shapes"), "make it with: python datasets/make_shapes.py"),
    "no annotations": (lambda root: (root / "shapes/annotations/instances_train.json").unlink(), "does not exist"),
    "unknown category": (
        lambda root: change_annotations(root, lambda c: c["annotations"][5].update(category_id=77)),
        "category 77, which the file",
    ),
    "missing images": (lambda root: [p.unlink() for p in (root / "shapes/images/train").glob("*")], r"\.png"),
    "truncated images": (
        lambda root: [p.write_bytes(p.read_bytes()[:500]) for p in (root / "shapes/images/train").glob("*")],
        r"(cannot read .*\.png: .*; restore the file|\.png cannot be read .*: fetch it again)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_data(train_net, shapes_root, tmp_path, damage):
    shutil.copytree(shapes_root, tmp_path / "data")
    spoil, message = DAMAGES[damage]
    spoil(tmp_path / "data")
    workers = "DATALOADER.NUM_WORKERS 1" if damage == "truncated images" else ""
    done = train_net(f"{SMALL} {workers}", DETECTRON2_DATASETS=str(tmp_path / "data"))
    assert re.search(message, error_of(done)), error_of(done)


def test_checkpoint_of_another_architecture(train_net, tmp_path):
    torch.save(
        {"model": {"backbone.fpn_lateral2.weight": torch.ones(3), "head.weight": torch.ones(1)}}, tmp_path / "w.pth"
    )
    done = train_net("--eval-only", f"MODEL.WEIGHTS {tmp_path / 'w.pth'}")
    assert "does not fit the model" in error_of(done)
    table = done.stdout
    assert re.search(
        r"other shape +backbone.fpn_lateral2.weight +\(3,\) in checkpoint, \(64, 64, 1, 1\) in model", table
    )
    assert "missing in checkpoint" in table and "and 0 more" not in table


def test_evaluation_without_weights(train_net):
    assert "--eval-only needs weights; add: MODEL.WEIGHTS" in error_of(train_net("--eval-only"))


def test_a_run_has_an_iteration():
    with pytest.raises(UserError, match="SOLVER.MAX_ITER is 0, expected at least one"):
        Trainer(load_config(QUICKSTART, ["SOLVER.MAX_ITER", "0"]))
