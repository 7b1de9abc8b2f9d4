"""SE-PSNet on real photographs: COCO's panoptic images and Cityscapes frames, in one process and in two."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import detectron2
import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.cityscapes_panoptic import load_cityscapes_panoptic
from detectron2.data.datasets.coco_panoptic import load_coco_panoptic_json
from detectron2.modeling import build_model
from PIL import Image

from pnm.cityscapes_classes import CITYSCAPES_CLASSES, CITYSCAPES_INSTANCE_CLASSES
from pnm.formats.coco_panoptic import ids_to_rgb, write_predictions
from pnm.formats.label_png import read_panoptic_png
from pnm.masks.crops import crop_array
from pnm.panoptic_fusion.fusion import FusionSettings, fuse
from pnm.projects.dataset_mappers import PanopticMapper
from pnm.projects.dataset_mappers.panoptic_classes import classes_of
from pnm.projects.launcher.config import load_config
from pnm.scoring.panoptic_files import evaluate_panoptic_files

ROOT = Path(__file__).resolve().parents[2]
COCO = "configs/COCO-PanopticSegmentation/se_psnet_R_50_1x.yaml"
INSTANCES_ONLY = "configs/COCO-InstanceSegmentation/se_psnet_R_101_3x.yaml"
CITYSCAPES = "configs/Cityscapes-PanopticSegmentation/se_psnet_R_50.yaml"
SMALL = (
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", '""', "MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS"),
    *("64", "MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.FPN.OUT_CHANNELS", "64"),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "64", "MODEL.SE_PSNET.BASES.WIDTH", "64", "MODEL.SE_PSNET.CONFIDENCE.WIDTH"),
    *("32", "MODEL.SE_PSNET.CONFIDENCE.FC_DIM", "64", "INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.MAX_SIZE_TRAIN", "256"),
    *("INPUT.MIN_SIZE_TEST", "128", "INPUT.MAX_SIZE_TEST", "256"),
)
# Hardly trained, it shall predict something: boxes that aren't empty, and whatever their scores.
EAGER = (
    *("MODEL.SE_PSNET.FCOS.PRIOR_PROB", "0.3", "MODEL.SE_PSNET.FCOS.BOX_BIAS", "2.0"),
    *("MODEL.SE_PSNET.FCOS.SCORE_THRESH", "0.0", "MODEL.SE_PSNET.FCOS.DETECTIONS", "12"),
    *("MODEL.SE_PSNET.FUSION.SCORE_THRESH", "0.1", "MODEL.SE_PSNET.FUSION.STUFF_AREA_LIMIT", "64"),
)
SHORT = ("SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2", "SOLVER.BASE_LR", "0.001", "SOLVER.CHECKPOINT_PERIOD")
SETTINGS = " ".join((*SMALL, *EAGER, *SHORT, "100"))


@pytest.fixture(scope="module")
def coco(prepared_data, tmp_path_factory):
    """COCO's folders, named as Detectron2 knows them; the two panoptic images are both splits."""
    root = tmp_path_factory.mktemp("coco")
    given, made = prepared_data / "coco", root / "coco"
    (made / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        for target, link in (
            ("panoptic_images", f"{split}2017"),
            ("panoptic_val2017", f"panoptic_{split}2017"),
            ("panoptic_val2017_stuff", f"panoptic_stuff_{split}2017"),
            ("annotations/panoptic_val2017.json", f"annotations/panoptic_{split}2017.json"),
            ("annotations/panoptic_val2017_instances.json", f"annotations/instances_{split}2017.json"),
        ):
            (made / link).symlink_to(given / target)
    return root


def data_sets(root):
    return {"DETECTRON2_DATASETS": str(root)}


def tool(name, *arguments):
    """Runs a program of ``tools`` on files."""
    command = [sys.executable, f"tools/{name}", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def fresh_weights(name, folder):
    """Of a refiner: what matters is that result files are read, and written with all that is in them."""
    torch.manual_seed(0)
    network = build_model(load_config(f"configs/quickstart/{name}.yaml", []))
    torch.save({"model": network.state_dict()}, folder / f"{name}.pth")
    return folder / f"{name}.pth"


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text().splitlines()[-1])


def assert_panoptic_files(folder, truth_json):
    """Maps and lists of segments agree, with the truth's category ids; both things and stuff are among them."""
    content = json.loads((folder / "predictions.json").read_text())
    isthing = {c["id"]: c["isthing"] for c in json.loads(truth_json.read_text())["categories"]}
    kinds = set()
    for annotation in content["annotations"]:
        ids = read_panoptic_png(folder / "panoptic" / annotation["file_name"])
        segments = annotation["segments_info"]
        assert set(np.unique(ids).tolist()) - {0} == {s["id"] for s in segments}
        assert all(("score" in s) == bool(isthing[s["category_id"]]) for s in segments)
        kinds |= {isthing[s["category_id"]] for s in segments}
    assert len(content["annotations"]) == 2 and kinds == {0, 1}


def assert_instances(file, truth_json):
    """COCO results with the category ids of its truth and all scores."""
    rows = json.loads(file.read_text())
    known = {c["id"] for c in json.loads(truth_json.read_text())["categories"] if c.get("isthing", 1)}
    assert len(rows) > 10 and {row["category_id"] for row in rows} <= known
    for row in rows:
        mixed = 0.8 * row["fcos_score"] + 0.2 * row["mask_iou_score"]
        assert row["score"] == pytest.approx(mixed, abs=1e-5) and 0 <= row["score"] <= 1


@pytest.mark.parametrize(("processes", "kind"), [("1", "_separated"), ("2", "_separated"), ("1", "")])
def test_coco(train_net, coco, tmp_path, processes, kind):
    """The separated data sets, and the whole ones, in which the numbers of stuff go on where those of things end."""
    data = "".join(f" DATASETS.{part} \"('coco_2017_{part.lower()}_panoptic{kind}',)\"" for part in ("TRAIN", "TEST"))
    done = train_net("--num-gpus", processes, SETTINGS + data.replace("test", "val"), config=COCO, **data_sets(coco))
    assert done.returncode == 0, done.stdout[-3000:]
    folder = tmp_path / f"run/inference/coco_2017_val_panoptic{kind}"
    truth = coco / "coco/annotations/panoptic_val2017.json"
    assert_panoptic_files(folder, truth)
    assert_instances(folder / "coco_instances_results.json", truth)
    assert {"bbox/AP", "segm/AP", "segm_metrics/AP", "panoptic_seg/PQ"} <= set(metrics_of(tmp_path / "run"))
    assert ("sem_seg/mIoU" in metrics_of(tmp_path / "run")) == bool(kind)
    if kind:
        labels = json.loads((folder / "sem_seg_predictions.json").read_text())
        metadata = MetadataCatalog.get("coco_2017_val_panoptic_separated")
        assert {row["category_id"] for row in labels} <= set(metadata.stuff_dataset_id_to_contiguous_id)
    if (processes, kind) == ("1", "_separated"):
        tools_read(coco / "coco", folder, tmp_path)


def tools_read(root, folder, output):
    """Scored and refined without the network that made them; of instances, all scores come through."""
    panoptic, instances = folder / "predictions.json", folder / "coco_instances_results.json"
    for task, file, truth in (("panoptic", panoptic, "panoptic"), ("instance", instances, "instances")):
        places = ["--pred", file, "--gt", root / f"annotations/{truth}_val2017.json"]
        tool("evaluate.py", task, *places, *(["--gt-folder", root / "panoptic_val2017"] * (task == "panoptic")))
    for name, file in (("bpr_instance", instances), ("segfix", panoptic)):
        config, weights = f"configs/quickstart/{name}.yaml", fresh_weights(name, output)
        places = ["--images", root / "val2017", "--predictions", file, "--output", output / f"new_{file.name}"]
        tool("refine.py", "--config-file", config, *places, "MODEL.WEIGHTS", weights)
    before, after = (json.loads(path.read_text()) for path in (instances, output / f"new_{instances.name}"))
    scores = ("score", "fcos_score", "mask_iou_score")
    assert [[row[key] for key in scores] for row in before] == [[row[key] for key in scores] for row in after]


def test_coco_without_twin_files(train_net, coco, tmp_path):
    """Panoptic PNGs and their JSON alone, as one's own data."""
    root = coco / "coco"
    truth = root / "annotations/panoptic_val2017.json"
    entry = {"name": "photos", "type": "panoptic", "images": str(root / "val2017"), "annotations": str(tmp_path / "a")}
    Path(entry["annotations"]).write_text(truth.read_text())  # elsewhere, so that no instances lie beside it
    (tmp_path / "png").symlink_to(root / "panoptic_val2017")
    entry["panoptic"] = str(tmp_path / "png")
    names = "DATASETS.TRAIN \"('photos',)\" DATASETS.TEST \"('photos',)\""
    done = train_net(f'{SETTINGS} DATASETS.REGISTER "[{entry}]" {names}', config=COCO)
    assert done.returncode == 0, done.stdout[-3000:]
    folder = tmp_path / "run/inference/photos"
    assert_panoptic_files(folder, truth)
    assert_instances(folder / "coco_instances_results.json", truth)


def test_coco_instances_only(train_net, prepared_data, tmp_path):
    done = train_net(SETTINGS, config=INSTANCES_ONLY, **data_sets(prepared_data))
    assert done.returncode == 0, done.stdout[-3000:]
    folder = tmp_path / "run/inference/coco_2017_val"
    truth = prepared_data / "coco/annotations/instances_val2017.json"
    assert_instances(folder / "coco_instances_results.json", truth)
    assert not (folder / "predictions.json").exists()
    assert {"bbox/AP", "segm/AP"} <= set(metrics_of(tmp_path / "run"))


def test_cityscapes(train_net, prepared_data, tmp_path):
    """Two processes, each with a frame; the scores are those of Cityscapes' own scripts."""
    pytest.importorskip("cityscapesscripts")
    if Path(detectron2.__file__).parents[1].name != "embedded":
        pytest.importorskip("deeplearning", reason="where Detectron2's own evaluators look for Cityscapes' scripts")
    done = train_net("--num-gpus", "2", SETTINGS, config=CITYSCAPES, **data_sets(prepared_data))
    assert done.returncode == 0, done.stdout[-3000:]
    wanted = {"sem_seg/IoU", "segm/AP", "segm_metrics/AP", "panoptic_seg/PQ"}
    assert wanted <= set(metrics_of(tmp_path / "run"))
    folder = tmp_path / "run/inference/cityscapes_fine_panoptic_val"
    assert_panoptic_files(folder, prepared_data / "cityscapes/gtFine/cityscapes_panoptic_val.json")
    files = list(folder.glob("*_pred.txt"))
    lines = [line.split() for file in files for line in file.read_text().splitlines()]
    assert len(files) == 2 and {int(label) for _, label, _ in lines} <= set(CITYSCAPES_INSTANCE_CLASSES)
    assert len(lines) > 10
    classes_agree(prepared_data, tmp_path / "run")


def classes_agree(root, run):
    """Things are 11 to 18 of Cityscapes' 19 classes, which both maps number alike."""
    from detectron2.checkpoint import DetectionCheckpointer

    model = build_model(load_config(str(run / "config.yaml"), [])).eval()
    DetectionCheckpointer(model).load(str(run / "model_final.pth"))
    image = Image.open(next((root / "cityscapes/leftImg8bit/val").rglob("*.png"))).resize((256, 128))
    pixels = torch.from_numpy(np.asarray(image)[:, :, ::-1].transpose(2, 0, 1).copy())
    with torch.no_grad():
        result = model([{"image": pixels, "height": 257, "width": 513}])[0]
    instances, (ids, segments) = result["instances"], result["panoptic_seg"]
    things = {k for k, label in enumerate(CITYSCAPES_CLASSES) if label in CITYSCAPES_INSTANCE_CLASSES}
    assert things == set(range(11, 19))
    assert len(instances) > 5 and set(instances.pred_classes.tolist()) <= things
    assert result["sem_seg"].shape == (19, 257, 513) and ids.shape == (257, 513)
    labels = result["sem_seg"].argmax(0)
    for segment in segments:
        assert (segment["category_id"] in things) == segment["isthing"]
        assert (labels[ids == segment["id"]] == segment["category_id"]).all()
    assert {segment["isthing"] for segment in segments} == {False, True}


def coco_entries(root):
    places = root / "coco/annotations/panoptic_val2017.json", root / "coco/panoptic_val2017"
    metadata = MetadataCatalog.get("coco_2017_val_panoptic")
    images = str(root / "coco/panoptic_images")
    return metadata, places, load_coco_panoptic_json(str(places[0]), images, str(places[1]), metadata.as_dict())


def cityscapes_entries(root):
    folder = root / "cityscapes/gtFine/cityscapes_panoptic_val"
    metadata, images = MetadataCatalog.get("cityscapes_fine_panoptic_val"), str(root / "cityscapes/leftImg8bit/val")
    places = folder.with_suffix(".json"), folder
    return metadata, places, load_cityscapes_panoptic(images, str(folder), str(places[0]), metadata.as_dict())


@pytest.mark.parametrize("entries_of", [coco_entries, cityscapes_entries])
def test_fused_truth_is_perfect(prepared_data, tmp_path, entries_of):
    """What the mapper gives, given as the network's results: nothing is lost between them."""
    metadata, (truth, folder), entries = entries_of(prepared_data)
    classes = classes_of(metadata.name, metadata)
    mapper = PanopticMapper(True, classes=classes, augmentations=[], image_format="BGR", labels=(len(classes), 255))
    records, segments = [], 0
    for entry in entries:
        sample = mapper(entry)
        instances, stuff = sample["instances"], sample["sem_seg"].numpy()
        crops = [crop_array(mask.numpy()) for mask in instances.gt_masks.tensor]
        labels = np.where(stuff == 255, 0, stuff)
        settings = FusionSettings(min_stuff_area_px=0)
        fused = fuse(crops, np.ones(len(crops)), instances.gt_classes.numpy(), labels, settings)
        png = io.BytesIO()
        Image.fromarray(ids_to_rgb(fused.ids)).save(png, format="PNG")
        tables = [[category for category, _ in table] for table in (classes.things, [(0, 0), *classes.stuff])]
        rows = [{"id": s.id, "category_id": tables[not s.isthing][s.category]} for s in fused.segments]
        name = Path(entry["file_name"]).stem + ".png"
        records.append({"image_id": entry["image_id"], "file_name": name, "segments_info": rows, "png": png.getvalue()})
        segments += len(rows)
    predictions = write_predictions(tmp_path, records, str(truth))
    quality = evaluate_panoptic_files(str(truth), str(folder), predictions, str(tmp_path / "panoptic"))
    assert quality["All"]["pq"] == 1 and segments > 30
