"""Panoptic PNGs and their JSON alone: registered, checked, trained on and evaluated; no twin files are needed."""

import json
import shlex
import shutil

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluators
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from PIL import Image

from pnm.errors import UserError
from pnm.formats.coco_instances import read_coco_ground_truth, read_coco_results
from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.formats.label_png import read_panoptic_png
from pnm.predictions import open_predictions
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.data.checks import check_data, take_from_data
from pnm.projects.launcher.data.mappers import build_mapper, lacks_twins, mapper_name
from pnm.projects.launcher.data.overview import overview
from pnm.projects.launcher.data.shapes import register_shapes
from pnm.projects.launcher.data.user_data import register_user_data
from pnm.projects.launcher.evaluation.evaluators import build_evaluator
from pnm.projects.launcher.evaluation.instance_results import InstanceEvaluator, InstanceResultsWriter
from pnm.projects.launcher.evaluation.panoptic_evaluator import PanopticEvaluator, named_apart

pytestmark = pytest.mark.usefixtures("forget_data_sets")
CONFIG = "quickstart/panoptic_fpn_R_18"


def entry_of(root, split="val", name="mine"):
    places = {"images": f"images/{split}", "annotations": f"annotations/panoptic_{split}.json"}
    places["panoptic"] = f"panoptic_{split}"
    return {"name": name, "type": "panoptic"} | {key: str(root / place) for key, place in places.items()}


def config(*entries, train=("mine",), test=("mine",), arch="PanopticFPN", more=()):
    cfg = load_config(CONFIG, ["DATASETS.TRAIN", str(train), "DATASETS.TEST", str(test), *more])
    cfg.DATASETS.REGISTER = list(entries)
    cfg.MODEL.META_ARCHITECTURE = arch
    register_user_data(cfg)
    return cfg


@pytest.fixture
def own(shapes_root, tmp_path):
    """A copy of the panoptic files of the shapes, to be changed: ``(folder, change)``."""
    root = tmp_path / "own"
    for place in ("images/val", "panoptic_val"):
        shutil.copytree(shapes_root / "shapes" / place, root / place)
    (root / "annotations").mkdir()
    file = root / "annotations/panoptic_val.json"
    shutil.copyfile(shapes_root / "shapes/annotations/panoptic_val.json", file)

    def change(edit):
        content = json.loads(file.read_text())
        edit(content)
        file.write_text(json.dumps(content))

    return root, change


@pytest.fixture
def learner():
    """An architecture that learns panoptic data in classes of any numbers."""

    class Learner(torch.nn.Module):
        learns_panoptic = True

    META_ARCH_REGISTRY.register(Learner)
    yield "Learner"
    META_ARCH_REGISTRY._obj_map.pop("Learner")


def test_registered_without_twins(shapes_root, caplog):
    root = shapes_root / "shapes"
    with caplog.at_level("INFO"):
        config(entry_of(root))
    assert "stuff: 4 classes: sky, rock, field, water; without instance annotations and stuff labels" in caplog.text
    twins = {"stuff": str(root / "panoptic_stuff_val"), "instances": str(root / "annotations/instances_val.json")}
    config({**entry_of(root, name="with"), **twins}, train=("with",), test=("with",))
    without, beside = MetadataCatalog.get("mine"), MetadataCatalog.get("with")
    assert without.json_file is None and without.sem_seg_root is None and lacks_twins(without)
    assert not lacks_twins(beside)
    for key in ("thing_classes", "stuff_classes", "stuff_dataset_id_to_contiguous_id", "ignore_label"):
        assert without.get(key) == beside.get(key)
    expected = [
        {key: value for key, value in record.items() if key not in ("annotations", "sem_seg_file_name")}
        for record in DatasetCatalog.get("with")
    ]
    assert DatasetCatalog.get("mine") == expected


def test_twins_in_their_usual_place_are_taken(own, shapes_root):
    root, _ = own
    shutil.copytree(shapes_root / "shapes/panoptic_stuff_val", root / "panoptic_val_stuff")
    instances = root / "annotations/panoptic_val_instances.json"
    config(entry_of(root))
    assert lacks_twins(MetadataCatalog.get("mine"))
    shutil.copyfile(shapes_root / "shapes/annotations/instances_val.json", instances)
    config(entry_of(root, name="both"), train=("both",), test=("both",))
    assert MetadataCatalog.get("both").json_file == str(instances)
    with pytest.raises(UserError, match="stuff label folder absent does not exist; make it with: python datasets/prep"):
        config({**entry_of(root, name="named"), "stuff": "absent"})


def test_images_without_a_list_are_found_by_name(own):
    root, change = own
    for path in (root / "images/val").glob("*.png"):
        Image.open(path).save(path.with_suffix(".jpeg"))
        path.unlink()
    change(lambda content: content.pop("images"))
    config(entry_of(root))
    records = DatasetCatalog.get("mine")
    assert len(records) == 6
    for record in records:
        assert record["file_name"] == str(root / f"images/val/{record['pan_seg_file_name'][-10:-4]}.jpeg")
        assert (record["height"], record["width"]) == (96, 128)
    for path in (root / "panoptic_val").glob("*.png"):
        shutil.copyfile(path, root / "images/val" / path.name)
    config({**entry_of(root, name="one folder"), "panoptic": str(root / "images/val")})
    beside = DatasetCatalog.get("one folder")
    assert [one["file_name"] for one in beside] == [one["file_name"] for one in records]
    for path in (root / "images/val").glob("*.png"):
        path.unlink()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / "images/val/000001.bmp")
    with pytest.raises(UserError, match="000001.bmp and .*000001.jpeg are of one name: remove or rename one"):
        DatasetCatalog.get("mine")


FAULTS = {
    "image": (
        lambda root, change: [(root / f"images/val/00000{k}.png").unlink() for k in (2, 4)],
        r"2 image\(s\) of .*panoptic_val.json are missing, first .*000002.png: check the folder",
    ),
    "PNG": (
        lambda root, change: (root / "panoptic_val/000003.png").unlink(),
        r"1 panoptic PNG\(s\) of .*panoptic_val.json are missing, first .*panoptic_val/000003.png",
    ),
    "size": (
        lambda root, change: Image.new("RGB", (128, 90)).save(root / "panoptic_val/000002.png"),
        r"000002.png is 90 x 128 \(height x width\), its image 96 x 128 in .*panoptic_val.json: expected one size",
    ),
    "annotation": (
        lambda root, change: change(lambda c: c["annotations"].pop()),
        "panoptic_val.json has no annotation of .*000005.png",
    ),
    "category": (
        lambda root, change: change(lambda c: c["annotations"][1]["segments_info"][0].update(category_id=77)),
        r"segment \d+ in .*panoptic_val.json has category_id 77, which the file's categories don't list",
    ),
    "twice": (
        lambda root, change: change(lambda c: c["images"].append(c["images"][0])),
        "panoptic_val.json lists image .* twice: keep one of them",
    ),
    "row": (
        lambda root, change: change(lambda c: c["images"][2].update(height="96")),
        r"images\[2\] of .*panoptic_val.json is .*, expected an id, and file_name, height and width",
    ),
    "list": (
        lambda root, change: change(lambda c: c.update(images=7)),
        "images of .*panoptic_val.json is no list: correct it, or leave it out",
    ),
    "isthing": (
        lambda root, change: change(lambda c: c["categories"][0].update(isthing=7)),
        r"categories\[0\] has id 1 and isthing 7, expected a whole number, and 0 or 1",
    ),
    "id": (
        lambda root, change: change(lambda c: c["annotations"][0]["segments_info"][0].update(id=0)),
        "has a segment of id 0 and category .*0 is void",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_told_before_a_run(own, name):
    root, change = own
    damage, message = FAULTS[name]
    damage(root, change)
    cfg = config(entry_of(root))
    with pytest.raises(UserError, match=message):
        check_data(cfg)


def test_numbers_of_classes(own, learner):
    root, _ = own
    unset = ["MODEL.ROI_HEADS.NUM_CLASSES", "80", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "54"]
    cfg = config(entry_of(root), more=unset)
    take_from_data(cfg)
    check_data(cfg)
    assert (cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES) == (4, 5)
    cfg = config(arch=learner, more=unset)
    take_from_data(cfg)  # it has a rule of its own
    assert (cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES) == (80, 54)


def test_the_mapper(own, learner, shapes_root, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shapes_root))
    register_shapes()
    mine = config(entry_of(own[0]))
    twins = "shapes_val_panoptic"
    assert mapper_name(mine) == mapper_name(mine, is_train=False) == "panoptic_mapper"
    for arch in ("PNMPanopticFPN", learner):
        assert mapper_name(config(arch=arch)) == "panoptic_mapper"
        assert mapper_name(config(arch=arch, train=("mine", twins))) == "panoptic_mapper"
        assert mapper_name(config(arch=arch, train=(twins,), test=(twins,))) == "default_mapper"
    assert mapper_name(config(train=(twins,))) == "default_mapper"
    assert mapper_name(config(more=["INPUT.MAPPER", "default_mapper"])) == "default_mapper"
    assert mapper_name(config(arch="GeneralizedRCNN")) == "default_mapper"
    assert mapper_name(config(arch="PanopticRefiner")) == "panoptic_map_mapper"
    for whole in ("coco_2017_val_panoptic", "cityscapes_fine_panoptic_val"):
        assert mapper_name(config(arch=learner, train=(whole,))) == "panoptic_mapper"
        with pytest.raises(
            UserError, match="number its classes as PanopticFPN does.*coco_2017_train_panoptic_sep.*REGIS"
        ):
            mapper_name(config(train=(whole,)))
        assert mapper_name(config(train=(whole,), test=(whole,)), is_train=False) == "panoptic_mapper"
    assert mapper_name(config(train=("coco_2017_val_panoptic_separated",))) == "default_mapper"
    with pytest.raises(UserError, match="shapes_val_sem_seg has no panoptic PNGs.*as mine has no stuff labels"):
        mapper_name(config(train=("mine", "shapes_val_sem_seg")))
    with pytest.raises(UserError, match="data set shapes_val has no panoptic PNGs.*: register it as type panoptic"):
        check_data(config(train=("shapes_val",), more=["INPUT.MAPPER", "panoptic_mapper"]))
    for arch in ("PanopticFPN", learner):
        with pytest.raises(UserError, match="mine and coco_2017_val_panoptic_separated have other classes"):
            mapper_name(config(arch=arch, train=("mine", "coco_2017_val_panoptic_separated")))


@pytest.mark.parametrize("source", ["label", "online"])
@pytest.mark.parametrize("labels", ["semantic", "panoptic"])
def test_pixel_weights_are_computed_for_its_samples(own, source, labels):
    more = ["MODEL.PNM.ENABLED", "True", "MODEL.PNM.SOURCE", source, "MODEL.PNM.LABELS", labels]
    cfg = config(entry_of(own[0]), arch="PNMPanopticFPN", more=more)
    sample = build_mapper(cfg, is_train=True)(DatasetCatalog.get("mine")[0])
    assert sample["pixel_weights"].shape == sample["sem_seg"].shape and (sample["pixel_weights"] > 0).all()


def test_what_is_in_the_data(own):
    """Counted anew: a thing of the first image is a crowd, and a corner of it is void."""
    root, change = own
    content = json.loads((root / "annotations/panoptic_val.json").read_text())
    things = {c["id"]: c["name"] for c in content["categories"] if c["isthing"]}
    png = root / "panoptic_val" / content["annotations"][0]["file_name"]
    ids = read_panoptic_png(png)
    ids[:10, :10] = 0
    Image.fromarray(ids_to_rgb(ids)).save(png)
    crowd = next(k for k, s in enumerate(content["annotations"][0]["segments_info"]) if s["category_id"] in things)
    change(lambda c: c["annotations"][0]["segments_info"][crowd].update(iscrowd=1))
    objects, pixels, images, crowds = dict.fromkeys(things.values(), 0), {}, {}, 0
    for n, annotation in enumerate(content["annotations"]):
        ids = read_panoptic_png(root / "panoptic_val" / annotation["file_name"])
        for k, segment in enumerate(annotation["segments_info"]):
            area, category = int((ids == segment["id"]).sum()), segment["category_id"]
            if (n, k) == (0, crowd):
                crowds = area
            elif category not in things:
                pixels[category] = pixels.get(category, 0) + area
                images[category] = images.get(category, 0) + bool(area)
            if category in things:
                objects[things[category]] += bool(area)
    rows = [line.split() for line in overview(config(entry_of(root))).splitlines()]
    for name, number in objects.items():
        row = next(row for row in rows if row[:1] == [name])
        is_crowd = name == things[content["annotations"][0]["segments_info"][crowd]["category_id"]]
        assert row == [name, str(number), str(number - is_crowd), "0", "0", str(int(is_crowd))]
    total = 6 * 96 * 128
    for category, name in ((11, "sky"), (12, "rock"), (13, "field"), (14, "water")):
        assert [name, str(images[category]), f"{100 * pixels[category] / total:.2f}"] in rows
    assert ["void", f"{100 * 100 / total:.2f}"] in rows and ["crowds", f"{100 * crowds / total:.2f}"] in rows


def test_damaged_pngs_are_told_by_the_check(own):
    root, change = own
    cfg = config(entry_of(root))
    change(lambda c: c["annotations"][0]["segments_info"].pop())
    with pytest.raises(UserError, match=r"000000.png has segment ids \d+, which its segments_info doesn't list"):
        overview(cfg)
    (root / "panoptic_val/000001.png").write_bytes(b"no PNG")
    change(lambda c: c["annotations"].pop(0) and c["images"].pop(0))
    with pytest.raises(UserError, match="000001.png is not a PNG"):
        overview(cfg)


def found(size=(96, 128), **scores):
    """Two instances as a model gives them."""
    masks = torch.zeros(2, *size, dtype=torch.bool)
    masks[0, 5:20, 6:30] = masks[1, 40:60, 50:90] = True
    fields = {"pred_boxes": Boxes(torch.tensor([[6.0, 5, 30, 20], [50, 40, 90, 60]])), "pred_masks": masks}
    fields |= {"scores": torch.tensor([0.5, 0.25]), "pred_classes": torch.tensor([1, 3])}
    return Instances(size, **fields, **{name: torch.tensor(values) for name, values in scores.items()})


def test_scores_reach_the_result_files(shapes_root, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shapes_root))
    register_shapes()
    config(entry_of(shapes_root / "shapes"))
    inputs = DatasetCatalog.get("mine")
    given = [found(fcos_scores=[0.75, 0.5], mask_iou_scores=[1.0, 0.5]), found(), *[found()[:0]] * 4]
    outputs = [{"instances": instances} for instances in given]
    writer = InstanceResultsWriter("mine", tmp_path / "written")
    evaluator = InstanceEvaluator("shapes_val", tasks=("bbox", "segm"), output_dir=str(tmp_path / "evaluated"))
    for one in (writer, evaluator):
        one.reset()
        one.process(inputs[:1], outputs[:1])
        one.process(inputs[1:], outputs[1:])
    assert writer.evaluate() is None and set(evaluator.evaluate()) == {"bbox", "segm"}
    files = [tmp_path / folder / "coco_instances_results.json" for folder in ("written", "evaluated")]
    rows = json.loads(files[0].read_text())
    assert rows == json.loads(files[1].read_text())
    assert [row["category_id"] for row in rows] == [2, 4, 2, 4]
    keys = ("score", "fcos_score", "mask_iou_score")
    assert [[row[key] for key in keys] for row in rows[:2]] == [[0.5, 0.75, 1.0], [0.25, 0.5, 0.5]]
    assert not {"fcos_score", "mask_iou_score"} & set(rows[2])
    truth = read_coco_ground_truth(shapes_root / "shapes/annotations/instances_val.json")
    assert sum(read_coco_results(files[0], truth).by_image.values(), []) == rows
    with pytest.raises(UserError, match="the model predicts class 3, but data set few has 2 classes of things"):
        MetadataCatalog.get("few").thing_dataset_id_to_contiguous_id = {1: 0, 2: 1}
        InstanceResultsWriter("few", tmp_path).process(inputs[:1], outputs[:1])
    MetadataCatalog.remove("few")


def test_panoptic_files_keep_the_scores_of_things(shapes_root, tmp_path):
    root = shapes_root / "shapes"
    config(entry_of(root))
    evaluator = PanopticEvaluator("mine", tmp_path)
    evaluator.reset()
    for entry in DatasetCatalog.get("mine"):
        rows = [{**s, "score": np.float32(0.5)} if s["isthing"] else dict(s) for s in entry["segments_info"]]
        ids = torch.from_numpy(read_panoptic_png(entry["pan_seg_file_name"]))
        evaluator.process([entry], [{"panoptic_seg": (ids, rows)}])
    assert evaluator.evaluate()["panoptic_seg"]["PQ"] == pytest.approx(100)
    annotations = json.loads((tmp_path / "predictions.json").read_text())["annotations"]
    for entry, annotation in zip(DatasetCatalog.get("mine"), annotations, strict=True):
        expected = [0.5 if s["isthing"] else None for s in entry["segments_info"]]
        assert [s.get("score") for s in annotation["segments_info"]] == expected
    predictions = open_predictions(tmp_path / "predictions.json")
    assert len(predictions.keys) == 6 and predictions.read(annotations[0]["image_id"]).segments


def test_evaluators(own, caplog, tmp_path):
    cfg = config(entry_of(own[0]))
    with caplog.at_level("INFO"):
        evaluator = build_evaluator(cfg, "mine", str(tmp_path))
    assert isinstance(evaluator, DatasetEvaluators)
    assert [type(one) for one in evaluator._evaluators] == [InstanceResultsWriter, PanopticEvaluator]
    assert "mine: mask AP needs instance annotations and mIoU needs stuff labels, which datasets/prep" in caplog.text


def run(train_net, entries, config="panoptic_fpn_R_18", more="", **environment):
    names = " ".join(f"DATASETS.{part} \"('{part.lower()}',)\"" for part in ("TRAIN", "TEST"))
    short = "SOLVER.MAX_ITER 2 SOLVER.IMS_PER_BATCH 2 INPUT.MIN_SIZE_TRAIN (96,) INPUT.MIN_SIZE_TEST 96"
    return train_net(
        f"{short} {names} DATASETS.REGISTER {shlex.quote(str(entries))} {more}", config=config, **environment
    )


def assert_is_evaluated(done, folder, images):
    assert done.returncode == 0, done.stdout[-3000:]
    assert "copypaste: Task: panoptic_seg" in done.stdout and "mask AP needs instance annotations" in done.stdout
    assert "Task: segm" not in done.stdout and "Task: sem_seg" not in done.stdout
    assert isinstance(json.loads((folder / "coco_instances_results.json").read_text()), list)
    assert len(json.loads((folder / "predictions.json").read_text())["annotations"]) == images
    assert len(list((folder / "panoptic").glob("*.png"))) == images


def test_a_run(train_net, shapes_root, tmp_path):
    entries = [entry_of(shapes_root / "shapes", split, name) for split, name in (("train", "train"), ("val", "test"))]
    assert_is_evaluated(run(train_net, entries), tmp_path / "run/inference/test", 6)


def test_a_run_on_photographs(train_net, prepared_data, tmp_path):
    coco = prepared_data / "coco"
    shutil.copyfile(coco / "annotations/panoptic_val2017.json", tmp_path / "photos.json")  # without twins beside it
    places = {"images": f"{coco}/panoptic_images", "panoptic": f"{coco}/panoptic_val2017"}
    entries = [
        {"name": name, "type": "panoptic", "annotations": f"{tmp_path}/photos.json", **places}
        for name in ("train", "test")
    ]
    more = "MODEL.ROI_HEADS.NUM_CLASSES 80 MODEL.SEM_SEG_HEAD.NUM_CLASSES 54"
    assert_is_evaluated(run(train_net, entries, more=more), tmp_path / "run/inference/test", 2)


def test_images_of_one_name_get_files_of_their_own():
    names = ["1.png", "2.png", "1.png", "1_1.png", "1.png"]
    records = [{"image_id": n, "file_name": name} for n, name in enumerate(names)]
    apart = [record["file_name"] for record in named_apart(records)]
    assert apart == ["1_2.png", "2.png", "1_3.png", "1_1.png", "1_4.png"]
    assert [record["file_name"] for record in records] == names


def test_categories_say_what_is_a_thing(own):
    root, change = own
    change(lambda content: content["categories"][2].pop("isthing"))
    with pytest.raises(UserError, match="category 3 of .*panoptic_val.json has no isthing: add it"):
        config(entry_of(root))
