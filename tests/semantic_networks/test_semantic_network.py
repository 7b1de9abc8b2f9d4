"""Every architecture of PNMSemanticNetwork through one tester; and the configs of the paper's tables."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.utils.events import EventStorage

from pnm.errors import UserError
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.run_setup import use_last_checkpoint

pytest.importorskip("segmentation_models_pytorch")
QUICKSTART = "configs/quickstart/segformer_B0.yaml"
CLASSES = 8
NETWORK = "MODEL.SEMANTIC_NETWORK."


def network(arch, encoder="resnet18", stride=32, **changes):
    """A small network from scratch, without dropout."""
    options = {"ARCH": arch, "ENCODER": encoder, "OUTPUT_STRIDE": stride, "DECODER_CHANNELS": 16, "DROPOUT": 0.0}
    options = {NETWORK + key: value for key, value in options.items()}
    options |= {"MODEL." + key.replace("__", "."): value for key, value in changes.items()}
    torch.manual_seed(0)
    return build_model(load_config(QUICKSTART, [part for pair in options.items() for part in pair]))


def sample(rows, columns, **more):
    torch.manual_seed(rows)
    labels = torch.randint(0, CLASSES, ((rows + 7) // 8, (columns + 7) // 8))
    labels = labels.repeat_interleave(8, 0).repeat_interleave(8, 1)[:rows, :columns].clone()
    labels[:5, :9] = 255
    return {"image": torch.randint(0, 255, (3, rows, columns), dtype=torch.uint8), "sem_seg": labels, **more}


BATCH = (sample(64, 96), sample(50, 71))


def losses(model, batch=BATCH):
    with EventStorage():
        return model(list(batch))


def frozen_statistics(model):
    """Training mode in which a forward pass repeats itself: BatchNorm and stochastic depth as in evaluation."""
    model.eval()
    model.training = model.sem_seg_head.training = True
    return model


class NetworkTester:
    """What every architecture does."""

    arch = ""
    encoder = "resnet18"
    stride = 32

    def model(self, **changes):
        return network(self.arch, self.encoder, self.stride, **changes)

    @pytest.mark.parametrize("pnm", [False, True])
    def test_trains_on_images_of_different_sizes(self, pnm):
        model = self.model(SEMANTIC_NETWORK__AUX_LOSS_WEIGHT=0.4, PNM__ENABLED=pnm).train()
        found = losses(model)
        assert set(found) == {"loss_sem_seg", "loss_sem_seg_aux"}
        sum(found.values()).backward()
        without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not without
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        assert any(p.grad.abs().sum() > 0 for p in model.backbone.parameters() if p.grad is not None)

    def test_evaluates_at_odd_sizes(self):
        model = self.model().eval()
        with torch.no_grad():
            found = model([sample(33, 47, height=66, width=94), sample(1, 70)])
        assert [x["sem_seg"].shape for x in found] == [(CLASSES, 66, 94), (CLASSES, 1, 70)]
        assert all(torch.isfinite(x["sem_seg"]).all() for x in found)

    def test_without_labelled_pixels_losses_are_differentiable_zeros(self):
        batch = [{**x, "sem_seg": torch.full_like(x["sem_seg"], 255)} for x in BATCH]
        found = losses(self.model(SEMANTIC_NETWORK__AUX_LOSS_WEIGHT=0.4, PNM__ENABLED=True).train(), batch)
        assert [float(value.detach()) for value in found.values()] == [0.0, 0.0]
        sum(found.values()).backward()

    def test_without_weights_it_is_torch_cross_entropy_of_its_own_logits(self):
        model = frozen_statistics(self.model())
        loss = losses(model, BATCH[:1])["loss_sem_seg"]
        model.eval()
        with torch.no_grad():
            logits = model(list(BATCH[:1]))[0]["sem_seg"]
        expected = F.cross_entropy(logits[None], BATCH[0]["sem_seg"][None], ignore_index=255)
        torch.testing.assert_close(loss.detach(), expected)

    def test_unit_weights_equal_unweighted(self):
        """By a locality of one pixel, and by weights of 1 from the mapper."""
        model = frozen_statistics(self.model(SEMANTIC_NETWORK__AUX_LOSS_WEIGHT=0.4))
        unweighted = losses(model)
        model = frozen_statistics(self.model(SEMANTIC_NETWORK__AUX_LOSS_WEIGHT=0.4, PNM__ENABLED=True, PNM__LOCALITY=1))
        ones = [{**x, "pixel_weights": torch.ones(x["sem_seg"].shape)} for x in BATCH]
        for found in (losses(model), losses(model, ones)):
            for name, value in unweighted.items():
                torch.testing.assert_close(found[name], value)

    def test_weights_of_the_mapper_reach_both_losses(self):
        model = frozen_statistics(self.model(SEMANTIC_NETWORK__AUX_LOSS_WEIGHT=0.4, PNM__ENABLED=True))
        once, twice = (
            losses(model, [{**x, "pixel_weights": torch.full(x["sem_seg"].shape, w)} for x in BATCH])
            for w in (1.0, 2.0)
        )
        for name, value in once.items():
            torch.testing.assert_close(twice[name], 2 * value)
        online = losses(model)
        assert all(online[name] > value for name, value in once.items())


class TestFCN(NetworkTester):
    arch, stride = "fcn", 16


class TestFCNOnHRNet(NetworkTester):
    arch, encoder = "fcn", "tu-hrnet_w18_small"


class TestNLNet(NetworkTester):
    arch, stride = "nlnet", 8


class TestCCNet(NetworkTester):
    arch, stride = "ccnet", 8


class TestOCRNet(NetworkTester):
    """Its auxiliary head is part of it."""

    arch, encoder = "ocrnet", "tu-hrnet_w18_small"

    def model(self, **changes):
        return super().model(**{"SEMANTIC_NETWORK__AUX_LOSS_WEIGHT": 0.4, **changes})


class TestOCRNetOnResNet(TestOCRNet):
    encoder, stride = "resnet18", 8


class TestPSPNet(NetworkTester):
    arch, stride = "pspnet", 8


class TestDeepLabV3(NetworkTester):
    arch, stride = "deeplabv3", 8


class TestDeepLabV3Plus(NetworkTester):
    arch, stride = "deeplabv3plus", 16


class TestUPerNet(NetworkTester):
    arch = "upernet"


class TestSegFormer(NetworkTester):
    arch, encoder = "segformer", "mit_b0"


@pytest.mark.parametrize("stride", [8, 16])
def test_dilation_keeps_the_resolution(stride):
    backbone = network("fcn", stride=stride).backbone.eval()
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, 64, 96))
    for name, shape in backbone.output_shape().items():
        assert features[name].shape == (1, shape.channels, 64 // shape.stride, 96 // shape.stride)
    assert backbone.output_shape()["res5"].stride == stride


def test_hrnet_joins_its_own_widths():
    model = network("fcn", "tu-hrnet_w18_small")
    assert model.sem_seg_head.decoder.out_channels == sum((16, 32, 64, 128))


def test_synchronised_norm_computes_the_same():
    plain, synchronised = (
        network("fcn", "tu-hrnet_w18_small", SEMANTIC_NETWORK__NORM=norm).eval() for norm in ("BN", "SyncBN")
    )
    kinds = {type(m) for m in synchronised.modules()}
    assert any(issubclass(kind, torch.nn.SyncBatchNorm) for kind in kinds)
    assert not any(issubclass(kind, torch.nn.BatchNorm2d) for kind in kinds)
    synchronised.load_state_dict(plain.state_dict())
    with torch.no_grad():
        first, second = (model([BATCH[0]])[0]["sem_seg"] for model in (plain, synchronised))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"arch": "fnc"}, "ARCH is 'fnc', expected one of fcn, nlnet, ccnet, ocrnet, pspnet, deeplabv3, deeplabv3plus"),
        ({"arch": "ocrnet"}, "AUX_LOSS_WEIGHT is 0.0, but it trains the regions that ocrnet looks at: set it above 0"),
        ({"arch": "segformer", "stride": 8}, "OUTPUT_STRIDE is 8, segformer takes 32"),
        ({"arch": "deeplabv3plus"}, "OUTPUT_STRIDE is 32, deeplabv3plus takes 8 or 16"),
        ({"arch": "fcn", "encoder": "resnet19"}, "ENCODER 'resnet19' is no encoder.*did you mean .*resnet1"),
        ({"arch": "fcn", "encoder": "tu-qqqqqqqqqqq"}, "'tu-qqqqqqqqqqq' is no encoder.*resnet50, mit_b2"),
        (
            {"arch": "fcn", "encoder": "densenet121", "stride": 8},
            "densenet121 cannot be built at output stride 8; set .* 32",
        ),
        ({"arch": "fcn", "encoder": "tu-hrnet_w18_small", "stride": 8}, "cannot be built at output stride 8"),
        ({"arch": "fcn", "encoder": "tu-vit_tiny_patch16_224"}, "output stride 32; take another encoder"),
        ({"arch": "upernet", "encoder": "tu-swin_tiny_patch4_window7_224"}, "does not give four stages .* match model"),
        ({"arch": "fcn", "SEMANTIC_NETWORK__NORM": "GN"}, "NORM is 'GN', expected BN or SyncBN"),
    ],
)
def test_messages(options, message):
    with pytest.raises(UserError, match=message):
        network(**options)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_a_failed_download_says_what_to_do(encoder, monkeypatch):
    import segmentation_models_pytorch.encoders as encoders

    build = encoders.get_encoder

    def without_network(name, weights=None, **options):
        if weights:
            raise OSError("no network")
        return build(name, weights=weights, **options)

    monkeypatch.setattr(encoders, "get_encoder", without_network)
    message = f"weights 'imagenet' of .*ENCODER {encoder} cannot be had.*no network.*HF_HOME"
    with pytest.raises(UserError, match=message) as caught:
        network("fcn", encoder, SEMANTIC_NETWORK__ENCODER_WEIGHTS="imagenet")
    assert "\n" not in str(caught.value)
    # A checkpoint of the whole network makes the encoder's own weights needless.
    network("fcn", encoder, SEMANTIC_NETWORK__ENCODER_WEIGHTS="imagenet", WEIGHTS="model_final.pth")


def test_a_run_that_goes_on_needs_no_encoder_weights(tmp_path):
    cfg = load_config(QUICKSTART, ["OUTPUT_DIR", str(tmp_path), NETWORK + "ENCODER_WEIGHTS", "imagenet"])
    cfg.freeze()
    use_last_checkpoint(cfg)
    assert cfg.MODEL.WEIGHTS == ""
    last = tmp_path / "model_0000001.pth"
    torch.save({"model": {}}, last)
    use_last_checkpoint(cfg)
    assert Path(cfg.MODEL.WEIGHTS) == last and cfg.is_frozen()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = "other.pth"
    use_last_checkpoint(cfg)
    assert cfg.MODEL.WEIGHTS == "other.pth"


def test_missing_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(UserError, match="pip install segmentation-models-pytorch timm"):
        network("fcn")


def test_pooling_cannot_train_on_one_image():
    with pytest.raises(UserError, match="two images or more"):
        losses(network("deeplabv3").train(), BATCH[:1])


def test_ocrnet_takes_one_class_and_features_of_two_strides():
    auxiliary = {"SEMANTIC_NETWORK__AUX_LOSS_WEIGHT": 0.4}
    with pytest.raises(UserError, match="two images or more"):
        losses(network("ocrnet", **auxiliary, SEM_SEG_HEAD__NUM_CLASSES=1).train(), BATCH[:1])
    batch = [{**x, "sem_seg": x["sem_seg"].where(x["sem_seg"] == 255, 0)} for x in BATCH]
    found = losses(network("ocrnet", **auxiliary, SEM_SEG_HEAD__NUM_CLASSES=1, stride=32).train(), batch)
    assert found["loss_sem_seg"] == 0  # one class is always right
    assert losses(network("ocrnet", **auxiliary, stride=32).train())["loss_sem_seg"] > 0


CONFIGS = sorted(path for path in Path("configs").rglob("*.yaml") if not path.name.startswith("Base-"))
TABLES = [path for path in CONFIGS if any(part in path.name for part in ("R_101", "160k", "segformer", "HR_48"))]


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_config_loads(path):
    cfg = load_config(str(path), [])
    assert cfg.MODEL.META_ARCHITECTURE in META_ARCH_REGISTRY
    assert ("_PNM" in path.name) == cfg.MODEL.PNM.ENABLED
    assert cfg.MODEL.PNM.LOCALITY == 35 and cfg.MODEL.PNM.ROI_LOCALITY == 5


WEIGHTED = [path for path in TABLES if path.stem.endswith("_PNM") and "COCO" not in str(path)]


@pytest.mark.parametrize("path", WEIGHTED, ids=str)
def test_twin_differs_in_the_flag_alone(path):
    """Of COCO's the file with weights gives the paper's schedule: its twin is itself with the flag off."""
    weighted = load_config(str(path), ["OUTPUT_DIR", ""])
    plain = load_config(str(path).replace("_PNM", ""), ["OUTPUT_DIR", "", "MODEL.PNM.ENABLED", True])
    assert weighted == plain


@pytest.mark.parametrize(
    "folder, crop, batch, iterations",
    [("Cityscapes", (512, 1024), 8, {40000, 160000}), ("ADE20K", (512, 512), 16, {160000})],
)
def test_settings_of_the_paper(folder, crop, batch, iterations):
    """Sec. V-A: crop, images a GPU times 4 GPUs, iterations, seed; SegFormer on Cityscapes has square crops."""
    paths = [path for path in TABLES if path.parent.name == f"{folder}-SemanticSegmentation"]
    assert len(paths) == {"Cityscapes": 28, "ADE20K": 20}[folder]
    found = set()
    for path in paths:
        cfg = load_config(str(path), [])
        square = "segformer" in path.name and folder == "Cityscapes"
        assert tuple(cfg.INPUT.CROP.SIZE) == ((1024, 1024) if square else crop)
        assert (batch, 0) == (cfg.SOLVER.IMS_PER_BATCH, cfg.SEED)
        assert (40000 if "40k" in path.name else 160000) == cfg.SOLVER.MAX_ITER
        found.add(cfg.SOLVER.MAX_ITER)
    assert found == iterations


@pytest.mark.parametrize("name", ["segformer_B2_160k_PNM", "pspnet_R_50_160k_PNM", "deeplabv3_R_50_160k_PNM"])
def test_paper_networks_build(name):
    path = f"configs/ADE20K-SemanticSegmentation/{name}.yaml"
    model = build_model(load_config(path, ["MODEL.DEVICE", "cpu", NETWORK + "ENCODER_WEIGHTS", ""]))
    head = model.sem_seg_head
    assert head.predictor[-1].weight.shape == (150, 768 if "segformer" in name else 512, 1, 1)
    assert hasattr(head, "aux_head") == ("segformer" not in name)
    if "segformer" in name:  # 27.5 million: SegFormer's paper, Table 1
        assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 27.5


def conv(channels, width, size=1):
    """Parameters of a convolution with BatchNorm."""
    return channels * width * size**2 + 2 * width


# Parameters of the heads as their papers describe them: 2048 and 720 channels in, 512 wide, 19 classes.
AROUND_ATTENTION = conv(2048, 512, 3) + conv(512, 512, 3) + conv(2048 + 512, 512, 3)
CLASSIFIER = 512 * 19 + 19
HEADS = {
    "ccnet_R_101_40k": AROUND_ATTENTION + 2 * (512 * 64 + 64) + 512 * 512 + 512 + 1 + CLASSIFIER,
    "nlnet_R_101_40k": AROUND_ATTENTION + 3 * (512 * 256 + 256) + conv(256, 512) + CLASSIFIER,
    "ocrnet_HR_48_40k": conv(720, 720)  # regions
    + (720 * 19 + 19)
    + conv(720, 512, 3)  # pixels
    + 2 * (conv(512, 256) + conv(256, 256))  # query and key
    + conv(512, 256)  # value
    + conv(256, 512)  # context
    + conv(2 * 512, 512)
    + CLASSIFIER,
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_have_the_layers_of_their_papers(name):
    path = f"configs/Cityscapes-SemanticSegmentation/{name}.yaml"
    model = build_model(load_config(path, ["MODEL.DEVICE", "cpu", NETWORK + "ENCODER_WEIGHTS", ""]))
    parameters = sum(p.numel() for p in model.sem_seg_head.parameters())
    if "ocrnet" not in name:  # whose auxiliary head is part of it
        parameters -= conv(1024, 256, 3) + 256 * 19 + 19
    assert parameters == HEADS[name]
