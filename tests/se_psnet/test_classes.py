"""Numbers and names of classes: of the data, of the network, of the results."""

import pytest
from detectron2.data import MetadataCatalog
from drawn_batch import small_config

from pnm.errors import UserError
from pnm.projects.se_psnet.config import take_numbers_of_classes
from pnm.projects.se_psnet.output_classes import OutputClasses

OWN = ("MODEL.SE_PSNET.NUM_THINGS", 0, "MODEL.SE_PSNET.NUM_STUFF", 0)


@pytest.fixture
def data(forget_data_sets):
    """``data(name, things, stuff)`` registers classes ``{contiguous id: name}``; stuff None for instances alone."""
    names = []

    def register(name, things, stuff=None):
        thing_names = [things.get(k, "-") for k in range(max(things, default=-1) + 1)]
        facts = {"thing_classes": thing_names, "thing_dataset_id_to_contiguous_id": {10 + k: k for k in things}}
        if stuff is not None:
            facts["stuff_classes"] = [stuff.get(k, "things") for k in range(max(stuff, default=0) + 1)]
            facts["stuff_dataset_id_to_contiguous_id"] = {50 + k: k for k in stuff}
        names.append(name)
        return {name: MetadataCatalog.get(name).set(**facts)}

    yield register
    for name in names:
        MetadataCatalog.remove(name)


def config(train="()", test="()", *more):
    return small_config(*OWN, "DATASETS.TRAIN", train, "DATASETS.TEST", test, *more)


def test_numbers_are_the_datas(data):
    metadata = data("a", {0: "cat", 1: "dog"}, {1: "sky"})
    cfg = config("('a',)")
    take_numbers_of_classes(cfg, metadata)
    assert (cfg.MODEL.SE_PSNET.NUM_THINGS, cfg.MODEL.SE_PSNET.NUM_STUFF, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES) == (
        2,
        1,
        2,
    )
    assert OutputClasses.from_config(cfg) == OutputClasses.plain(2, 1)


def test_results_have_the_ids_of_the_data_set(data):
    """As in Cityscapes: things and stuff share one list, stuff first."""
    metadata = data("city", {2: "car", 4: "bus"}, {0: "road", 1: "sky", 3: "wall"})
    cfg = config("()", "('city',)")
    take_numbers_of_classes(cfg, metadata)
    assert OutputClasses.from_config(cfg) == OutputClasses((2, 4), (-1, 0, 1, 3), 5)


def test_a_panoptic_network_may_be_tested_on_instances(data):
    metadata = data("a", {0: "cat", 1: "dog"}, {1: "sky"}) | data("b", {0: "cat", 1: "dog"})
    cfg = config("('a',)", "('b',)")
    take_numbers_of_classes(cfg, metadata)
    assert cfg.MODEL.SE_PSNET.NUM_STUFF == 1
    with pytest.raises(UserError, match="no panoptic annotations"):
        take_numbers_of_classes(config("('b',)"), metadata)


@pytest.mark.parametrize(
    ("other", "more", "message"),
    [
        (({0: "dog", 1: "cat"}, {1: "sky"}), (), "0 is cat in one and dog in the other"),
        (({0: "cat", 1: "dog"}, {1: "sea"}), (), "2 is sky in one and sea"),
        (({0: "cat"}, {1: "sky"}), (), "NUM_THINGS is 2, but data set b has 1"),
        (({0: "cat", 1: "dog"}, {2: "sky"}), (), "two ways"),
        (({}, None), (), "no things"),
        (({0: "cat", 1: "dog"}, {1: "sky"}), ("MODEL.SE_PSNET.PANOPTIC", False), "set it True"),
        (({0: "cat", 1: "dog"}, {1: "sky"}), ("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", 1), "leave it at 255"),
    ],
)
def test_data_that_do_not_fit(data, other, more, message):
    metadata = data("a", {0: "cat", 1: "dog"}, {1: "sky"}) | data("b", *other)
    with pytest.raises(UserError, match=message):
        take_numbers_of_classes(config("()", "('a', 'b')", *more), metadata)
