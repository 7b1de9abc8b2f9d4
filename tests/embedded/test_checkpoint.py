"""Checkpoints: round trips, foreign names, refusals, and files that are whole or absent."""

import http.server
import pickle
import threading

import detectron2
import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer, PeriodicCheckpointer
from detectron2.checkpoint.c2_model_loading import (
    align_and_update_state_dicts,
    convert_basic_c2_names,
    convert_c2_detectron_names,
)
from detectron2.checkpoint.catalog import ModelCatalog
from detectron2.utils.file_io import PathManager
from torch import nn

import pnm  # noqa: F401

embedded_only = pytest.mark.skipif("embedded" not in detectron2.__version__, reason="a promise of the embedded engine")


def equal_states(first, second):
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def write_pickle(path, content):
    with open(path, "wb") as file:
        pickle.dump(content, file, protocol=2)
    return str(path)


def test_model_checkpointables_and_extras_come_back(tmp_path):
    model, optimizer_of = nn.Linear(3, 2), lambda m: torch.optim.SGD(m.parameters(), lr=0.5, momentum=0.9)
    optimizer = optimizer_of(model)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    DetectionCheckpointer(model, str(tmp_path), optimizer=optimizer).save("one", iteration=4, note="x")

    other = nn.Linear(3, 2)
    other_optimizer = optimizer_of(other)
    checkpointer = DetectionCheckpointer(other, str(tmp_path), optimizer=other_optimizer)
    assert checkpointer.has_checkpoint() and checkpointer.get_checkpoint_file() == str(tmp_path / "one.pth")
    extras = checkpointer.resume_or_load("", resume=True)
    assert extras["iteration"] == 4 and extras["note"] == "x"
    assert equal_states(model, other)
    momentum = [state["momentum_buffer"] for state in other_optimizer.state_dict()["state"].values()]
    assert torch.equal(momentum[0], torch.ones(2, 3))

    # loading without resuming takes the weights only
    third = nn.Linear(3, 2)
    third_optimizer = optimizer_of(third)
    DetectionCheckpointer(third, str(tmp_path), optimizer=third_optimizer).resume_or_load(
        str(tmp_path / "one.pth"), resume=False
    )
    assert equal_states(model, third) and not third_optimizer.state_dict()["state"]


def test_only_the_given_process_writes(tmp_path):
    DetectionCheckpointer(nn.Linear(1, 1), str(tmp_path), save_to_disk=False).save("one")
    assert list(tmp_path.iterdir()) == []


def test_periodic_names_and_deletion(tmp_path):
    checkpointer = DetectionCheckpointer(nn.Linear(1, 1), str(tmp_path))
    periodic = PeriodicCheckpointer(checkpointer, period=2, max_iter=7, max_to_keep=2)
    for iteration in range(7):
        periodic.step(iteration)
    names = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert names == ["model_0000003.pth", "model_0000005.pth", "model_final.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_prefixes_of_wrapped_models_are_stripped(tmp_path):
    model, wrapped = nn.Linear(2, 2), nn.DataParallel(nn.Linear(2, 2))
    torch.save({"model": wrapped.state_dict()}, tmp_path / "a.pth")
    DetectionCheckpointer(model).load(str(tmp_path / "a.pth"))
    assert torch.equal(model.weight, wrapped.module.weight)


def test_model_zoo_pickles_hold_arrays(tmp_path):
    model = nn.Linear(3, 2)
    weights = {"weight": np.full((2, 3), 2, np.float32), "bias": np.ones(2, np.float32)}
    path = write_pickle(tmp_path / "zoo.pkl", {"model": weights, "__author__": "somebody"})
    DetectionCheckpointer(model).load(path)
    assert model.weight.eq(2).all() and model.bias.eq(1).all()


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.ModuleDict(
            {"stem": nn.ModuleDict({"conv1": nn.Linear(2, 3)}), "res2": nn.ModuleList([nn.Linear(3, 3)])}
        )


def test_names_are_matched_by_their_longest_ending(tmp_path):
    model = Backbone()
    weights = {
        "stem.conv1.weight": np.full((3, 2), 1, np.float32),
        "conv1.weight": np.full((3, 2), 9, np.float32),
        "res2.0.bias": np.full(3, 2, np.float32),
        "unused": np.zeros(1, np.float32),
    }
    zoo = write_pickle(tmp_path / "zoo.pkl", {"model": weights, "__author__": "x", "matching_heuristics": True})
    DetectionCheckpointer(model).load(zoo)
    assert model.body["stem"]["conv1"].weight.eq(1).all() and model.body["res2"][0].bias.eq(2).all()

    plain = Backbone()
    torch.save({key: torch.from_numpy(value) for key, value in weights.items()}, tmp_path / "plain.pth")
    DetectionCheckpointer(plain).load(f"{tmp_path}/plain.pth?matching_heuristics=True")
    assert plain.body["res2"][0].bias.eq(2).all()
    untouched = Backbone()
    DetectionCheckpointer(untouched).load(f"{tmp_path}/plain.pth")
    assert not untouched.body["res2"][0].bias.eq(2).any()
    with pytest.raises(ValueError, match="wrong"):
        DetectionCheckpointer(untouched).load(f"{tmp_path}/plain.pth?wrong=1")


def test_ambiguous_endings_are_refused():
    with pytest.raises(ValueError):
        align_and_update_state_dicts(
            {"a.w": torch.zeros(1), "b.w": torch.zeros(1)}, {"w": torch.zeros(1)}, c2_conversion=False
        )


CAFFE2_NAMES = {
    "conv1_w": "stem.conv1.weight",
    "conv1_gn_s": "stem.conv1.norm.weight",
    "res_conv1_bn_s": "stem.conv1.norm.weight",
    "res_conv1_bn_b": "stem.conv1.norm.bias",
    "res2_0_branch1_w": "res2.0.shortcut.weight",
    "res2_0_branch1_bn_beta": "res2.0.shortcut.norm.bias",
    "res4_22_branch2a_bn_s": "res4.22.conv1.norm.weight",
    "res4_22_branch2b_bn_running_mean": "res4.22.conv2.norm.running_mean",
    "res4_22_branch2b_bn_rm": "res4.22.conv2.norm.running_mean",
    "res5_2_branch2c_bn_riv": "res5.2.conv3.norm.running_var",
    "res5_2_branch2c_gn_b": "res5.2.conv3.norm.bias",
    "pred_w": "linear.weight",
    "pred_b": "linear.bias",
}
CAFFE2_DETECTOR_NAMES = {
    "fpn_inner_res5_2_sum_w": "fpn_lateral5.weight",
    "fpn_inner_res2_2_sum_lateral_b": "fpn_lateral2.bias",
    "fpn_inner_res2_2_sum_lateral_gn_s": "fpn_lateral2.norm.weight",
    "fpn_res4_22_sum_gn_b": "fpn_output4.norm.bias",
    "fpn_res3_3_sum_w": "fpn_output3.weight",
    "conv_rpn_fpn2_w": "proposal_generator.rpn_head.conv.weight",
    "rpn_bbox_pred_fpn2_b": "proposal_generator.rpn_head.anchor_deltas.bias",
    "rpn_cls_logits_fpn2_w": "proposal_generator.rpn_head.objectness_logits.weight",
    "fc6_w": "box_head.fc1.weight",
    "fc7_b": "box_head.fc2.bias",
    "head_conv3_gn_s": "box_head.conv3.norm.weight",
    "_[mask]_fcn4_w": "mask_head.mask_fcn4.weight",
    "conv5_mask_b": "mask_head.deconv.bias",
}


def test_caffe2_names():
    assert convert_basic_c2_names(list(CAFFE2_NAMES)) == list(CAFFE2_NAMES.values())
    for old, new in (CAFFE2_NAMES | CAFFE2_DETECTOR_NAMES).items():
        if not old.startswith("pred_"):
            weights, origin = convert_c2_detectron_names({old: torch.zeros(3)})
            assert (list(weights), origin) == ([new], {new: old})


def test_caffe2_background_moves_to_the_end_or_goes():
    sizes = {"cls_score_w": 3, "bbox_pred_b": 12, "mask_fcn_logits_w": 3}
    weights = {name: torch.arange(float(size)) for name, size in sizes.items()}
    converted, _ = convert_c2_detectron_names(weights)
    assert converted["cls_score.weight"].tolist() == [1, 2, 0]
    assert converted["bbox_pred.bias"].tolist() == list(range(4, 12))
    assert converted["mask_head.predictor.weight"].tolist() == [1, 2]


def test_a_caffe2_file_loads_into_a_model_with_longer_names(tmp_path):
    model = Backbone()
    blobs = {
        "conv1_w": np.full((3, 2), 5, np.float32),
        "conv1_b": np.full(3, 6, np.float32),
        "conv1_w_momentum": np.full((3, 2), 7, np.float32),
    }
    DetectionCheckpointer(model).load(write_pickle(tmp_path / "c2.pkl", {"blobs": blobs, "cfg": "text"}))
    assert model.body["stem"]["conv1"].weight.eq(5).all() and model.body["stem"]["conv1"].bias.eq(6).all()


def test_the_catalog_knows_imagenet_networks():
    assert ModelCatalog.get("ImageNetPretrained/MSRA/R-50").endswith("/ImageNetPretrained/MSRA/R-50.pkl")
    with pytest.raises((KeyError, RuntimeError)):
        ModelCatalog.get("Nowhere/R-50")


def test_what_does_not_fit_is_reported(tmp_path, caplog):
    state = {"weight": torch.zeros(2, 4), "extra.deep": torch.zeros(1)}
    torch.save({"model": state}, tmp_path / "a.pth")
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    DetectionCheckpointer(model).load(str(tmp_path / "a.pth"))
    assert torch.equal(model.weight, before)
    for word in ("weight", "(2, 4)", "(2, 3)", "bias", "extra.deep"):
        assert word in caplog.text


class Pixels(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("pixel_mean", torch.zeros(3))
        self.fc = nn.Linear(1, 1)


def test_pixel_statistics_and_old_anchors_are_no_complaint(tmp_path, caplog):
    state = nn.ModuleDict({"fc": nn.Linear(1, 1)}).state_dict()
    state["rpn.anchor_generator.cell_anchors.0"] = torch.zeros(1)
    torch.save({"model": state}, tmp_path / "a.pth")
    DetectionCheckpointer(Pixels()).load(str(tmp_path / "a.pth"))
    assert "pixel_mean" not in caplog.text and "cell_anchors" not in caplog.text


def test_a_missing_checkpoint_is_an_error(tmp_path):
    with pytest.raises((FileNotFoundError, AssertionError)):
        DetectionCheckpointer(nn.Linear(1, 1)).load(str(tmp_path / "none.pth"))


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@embedded_only
@pytest.mark.parametrize("ending", ["pkl", "pth"])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, ending):
    path = tmp_path / f"bad.{ending}"
    content = {"model": {"weight": Malicious(tmp_path / "owned")}, "__author__": "x"}
    if ending == "pkl":
        write_pickle(path, content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match="bad"):
        DetectionCheckpointer(nn.Linear(1, 1)).load(str(path))
    assert not (tmp_path / "owned").exists()


@embedded_only
@pytest.mark.parametrize("ending", ["pkl", "pth"])
def test_a_truncated_file_is_a_clear_error(tmp_path, ending):
    path = tmp_path / f"cut.{ending}"
    path.write_bytes(b"\x80\x02}q\x00" if ending == "pkl" else b"PK\x03\x04 and then nothing")
    with pytest.raises(ValueError, match="cut"):
        DetectionCheckpointer(nn.Linear(1, 1)).load(str(path))


@embedded_only
def test_a_failure_while_saving_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    model = nn.Linear(2, 2)
    checkpointer = DetectionCheckpointer(model, str(tmp_path))
    checkpointer.save("same")
    whole = (tmp_path / "same.pth").read_bytes()

    def half(data, file):
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save("same")
    assert (tmp_path / "same.pth").read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "same.pth"]


class Server(http.server.BaseHTTPRequestHandler):
    """``/whole.bin`` is sent whole; ``/cut.bin`` announces more than it sends."""

    def do_GET(self):
        body = b"0123456789"
        self.send_response(200 if self.path != "/none.bin" else 404)
        self.send_header("Content-Length", str(len(body) * (2 if "cut" in self.path else 1)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def address(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def cached(tmp_path):
    return [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_downloads_are_cached(address, tmp_path):
    first = PathManager.get_local_path(f"{address}/whole.bin")
    assert PathManager.get_local_path(f"{address}/whole.bin") == first
    with PathManager.open(f"{address}/whole.bin", "rb") as file:
        assert file.read() == b"0123456789"
    assert cached(tmp_path) == ["whole.bin"]


@embedded_only
@pytest.mark.parametrize("name", ["cut.bin", "none.bin"])
def test_failed_downloads_leave_nothing_in_the_cache(address, tmp_path, name):
    with pytest.raises(OSError):
        PathManager.get_local_path(f"{address}/{name}")
    assert cached(tmp_path) == []
