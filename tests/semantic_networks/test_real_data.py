"""The attention networks of the paper's tables on real photographs, with small encoders and crops."""

import json
import math

import pytest

SMALL = """MODEL.DEVICE cpu MODEL.SEMANTIC_NETWORK.ENCODER_WEIGHTS "" MODEL.SEMANTIC_NETWORK.DECODER_CHANNELS 32
    MODEL.SEMANTIC_NETWORK.NORM BN DATASETS.TEST () SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 2 INPUT.CROP.SIZE (64,96)
    INPUT.MIN_SIZE_TRAIN (96,128) DATALOADER.NUM_WORKERS 0"""
NETWORKS = {
    "Cityscapes": {
        "ocrnet_HR_48_40k": "tu-hrnet_w18_small",
        "ccnet_R_101_40k": "resnet18",
        "nlnet_R_101_40k": "resnet18",
    },
    "ADE20K": {"ocrnet_HR_18_160k": "tu-hrnet_w18_small", "ccnet_R_50_160k": "resnet18"},
}
CASES = [(data, name, encoder) for data, networks in NETWORKS.items() for name, encoder in networks.items()]


@pytest.mark.parametrize(("data", "name", "encoder"), CASES)
def test_networks_of_the_tables_train_with_weights(train_net, prepared_data, tmp_path, data, name, encoder):
    train = {"Cityscapes": "cityscapes_fine_sem_seg_train", "ADE20K": "ade20k_sem_seg_val"}[data]
    settings = f"{SMALL} MODEL.SEMANTIC_NETWORK.ENCODER {encoder} DATASETS.TRAIN \"('{train}',)\""
    config = f"configs/{data}-SemanticSegmentation/{name}_PNM.yaml"
    done = train_net(settings, config=config, DETECTRON2_DATASETS=str(prepared_data))
    assert done.returncode == 0, done.stdout[-3000:]
    logged = json.loads((tmp_path / "run/metrics.json").read_text().splitlines()[-1])
    assert logged["pnm/sem_seg_mean_weight"] > 1
    assert all(math.isfinite(logged[key]) for key in ("loss_sem_seg", "loss_sem_seg_aux", "total_loss"))
