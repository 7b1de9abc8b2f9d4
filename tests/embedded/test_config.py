"""Configs: defaults, bases, overrides, refusals, and objects built from them."""

import detectron2
import pytest
import yaml
from detectron2.config import CfgNode, configurable, get_cfg

import pnm  # noqa: F401

embedded_only = pytest.mark.skipif("embedded" not in detectron2.__version__, reason="wording of the embedded engine")


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


def test_get_cfg_returns_independent_copies():
    first, second = get_cfg(), get_cfg()
    first.MODEL.PIXEL_MEAN[0] = -1
    first.SOLVER.BASE_LR = 5.0
    assert second.SOLVER.BASE_LR == 0.001
    assert second.MODEL.PIXEL_MEAN == [103.53, 116.28, 123.675]


def test_dump_reads_back_as_the_same_config(tmp_path):
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.STEPS", "(3, 7)", "MODEL.WEIGHTS", "some/file.pkl", "SOLVER.WEIGHT_DECAY_BIAS", "0.5"])
    again = get_cfg()
    again.merge_from_file(write(tmp_path, "saved.yaml", cfg.dump()))
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())
    assert again.SOLVER.STEPS == (3, 7) and again.SOLVER.WEIGHT_DECAY_BIAS == 0.5


def test_a_file_overrides_its_bases_and_later_bases_override_earlier_ones(tmp_path):
    write(tmp_path, "a.yaml", "SOLVER: {BASE_LR: 0.5, MAX_ITER: 10}\nMODEL: {MASK_ON: True}")
    write(tmp_path, "b.yaml", "SOLVER: {BASE_LR: 0.25, GAMMA: 0.5}")
    (tmp_path / "sub").mkdir()
    top = write(tmp_path, "sub/top.yaml", '_BASE_: ["../a.yaml", "../b.yaml"]\nSOLVER: {GAMMA: 0.125}')
    cfg = get_cfg()
    cfg.merge_from_file(top)
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.GAMMA) == (0.25, 10, 0.125)
    assert cfg.MODEL.MASK_ON is True and "_BASE_" not in cfg


def test_overrides_are_python_literals_and_keep_types():
    cfg = get_cfg()
    cfg.merge_from_list(["DATASETS.TRAIN", "('a', 'b')", "INPUT.MIN_SIZE_TRAIN", "[1, 2]", "MODEL.DEVICE", "cpu"])
    assert cfg.DATASETS.TRAIN == ("a", "b") and cfg.MODEL.DEVICE == "cpu"
    assert cfg.INPUT.MIN_SIZE_TRAIN == (1, 2)  # a list takes the default's type
    with pytest.raises(ValueError, match="SOLVER.MAX_ITER"):
        cfg.merge_from_list(["SOLVER.MAX_ITER", "many"])


def test_unknown_keys_are_refused_everywhere(tmp_path):
    cfg = get_cfg()
    before = cfg.dump()
    with pytest.raises((KeyError, AssertionError)):
        cfg.merge_from_list(["SOLVER.BASE_LRR", 1.0])
    with pytest.raises(KeyError):
        cfg.merge_from_file(write(tmp_path, "bad.yaml", "SOLVER: {BASE_LRR: 1.0}"))
    with pytest.raises(KeyError):
        cfg.merge_from_other_cfg(CfgNode({"NOTHING": {"LIKE": 1}}))
    assert cfg.dump() == before


@embedded_only
def test_the_refusal_names_key_file_and_nearest_key(tmp_path):
    base = write(tmp_path, "base.yaml", "MODEL: {ROI_HEADS: {NUM_CLASES: 3}}")
    top = write(tmp_path, "top.yaml", "_BASE_: base.yaml\nSEED: 1")
    with pytest.raises(KeyError) as refusal:
        get_cfg().merge_from_file(top)
    message = str(refusal.value)
    assert "unknown config key MODEL.ROI_HEADS.NUM_CLASES" in message
    assert "did you mean MODEL.ROI_HEADS.NUM_CLASSES?" in message
    assert base in message and top not in message
    with pytest.raises(KeyError, match="did you mean SOLVER.BASE_LR"):
        get_cfg().merge_from_list(["SOLVER.BASELR", 1.0])


@embedded_only
@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("MODEL: {KEYPOINT_ON: True}", ValueError, "MODEL.KEYPOINT_ON is True .*install Detectron2 itself"),
        ("MODEL: {RETINANET: {NUM_CLASSES: 3}}", ValueError, "MODEL.RETINANET.NUM_CLASSES.*install Detectron2"),
        ("VERSION: 1", ValueError, "VERSION 1, expected 2"),
        ("", ValueError, "must hold a mapping"),
        ("- 1\n- 2", ValueError, "must hold a mapping"),
        ("SOLVER: {BASE_LR: [1", ValueError, "not valid YAML"),
        ("_BASE_: it.yaml", ValueError, "its own base"),
        ("_BASE_: nowhere.yaml", FileNotFoundError, "nowhere.yaml does not exist"),
    ],
)
def test_files_that_cannot_be_used_say_why(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        get_cfg().merge_from_file(write(tmp_path, "it.yaml", text))
    # a failed load leaves nothing behind
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path, "good.yaml", "SEED: 3"))
    assert cfg.SEED == 3


def test_settings_out_of_scope_may_be_stated_at_their_default(tmp_path):
    text = "MODEL: {KEYPOINT_ON: False, RETINANET: {NUM_CLASSES: 80}, MASK_ON: True}\nTEST: {KEYPOINT_OKS_SIGMAS: []}"
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path, "it.yaml", text))
    cfg.merge_from_list(["MODEL.LOAD_PROPOSALS", "False"])
    assert cfg.MODEL.MASK_ON


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises((FileNotFoundError, AssertionError), match="not exist"):
        get_cfg().merge_from_file(str(tmp_path / "none.yaml"))


def test_frozen_nodes_and_new_keys():
    cfg = get_cfg()
    cfg.OWN = CfgNode({"A": 1})
    cfg.OWN.set_new_allowed(True)
    cfg.merge_from_other_cfg(CfgNode({"OWN": {"B": {"C": 2}}, "SEED": 7}))
    assert cfg.OWN.B.C == 2 and cfg.SEED == 7
    cfg.freeze()
    with pytest.raises(AttributeError):
        cfg.SEED = 8
    assert cfg.clone().is_frozen()


class Part:
    @configurable
    def __init__(self, a, *, b=2, c=3):
        self.values = (a, b, c)

    @classmethod
    def from_config(cls, cfg, scale=1):
        return {"a": cfg.A * scale, "b": cfg.B}


class Derived(Part):
    @configurable
    def __init__(self, d, **kwargs):
        super().__init__(**kwargs)
        self.d = d

    @classmethod
    def from_config(cls, cfg, *args, **kwargs):
        return {"d": 9, **super().from_config(cfg), **kwargs}


def test_configurable_constructors():
    cfg = CfgNode({"A": 10, "B": 20})
    assert Part(1).values == (1, 2, 3)
    assert Part(a=1, b=5).values == (1, 5, 3)
    assert Part(cfg).values == (10, 20, 3)
    assert Part(cfg=cfg).values == (10, 20, 3)
    assert Part(cfg, b=4, c=5).values == (10, 4, 5)
    assert Part(cfg, scale=3).values == (30, 20, 3)
    assert Derived(cfg, c=1).values == (10, 20, 1) and Derived(cfg).d == 9


def test_configurable_functions():
    @configurable(from_config=lambda cfg, extra=0: {"a": cfg.A + extra, "b": cfg.B})
    def add(a, b=1):
        return a + b

    cfg = CfgNode({"A": 10, "B": 20})
    assert (add(1), add(cfg), add(cfg, b=1), add(cfg, extra=5)) == (2, 30, 11, 35)


def test_configurable_misuse():
    class NoTranslation:
        @configurable
        def __init__(self, a):
            pass

    class NotAClassmethod:
        @configurable
        def __init__(self, a):
            pass

        def from_config(self, cfg):
            return {}

    class WrongName:
        @configurable
        def __init__(self, a):
            pass

        @classmethod
        def from_config(cls, config):
            return {"a": config}

    with pytest.raises(AttributeError):
        NoTranslation(1)
    with pytest.raises(TypeError):
        NotAClassmethod(1)
    with pytest.raises(TypeError, match="cfg"):
        WrongName(get_cfg())
