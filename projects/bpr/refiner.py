"""The meta-architecture of boundary patch refinement (BPR: Hu et al., IJCV 2022)."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import get_event_storage
from torch import nn

from pnm.boundary_patches.reassembly import reassembled, reassembled_partition
from pnm.errors import UserError
from pnm.masks.crops import MaskCrop, crop_segments
from pnm.network_backends.onnx_models import Exportable
from pnm.object_refinement.decision import decision_of
from pnm.object_refinement.refining import RefinedMask
from pnm.predictions.certain_changes import CertainLabels

from ..refining import RefiningModel
from ..refining.mapper import IGNORED
from .config import InferenceSettings, LightSettings, PatchSettings
from .light_network import Colours, load_light_network
from .networks import LayeredNetwork, build_auxiliary_heads, build_network, check_auxiliary
from .patch_probabilities import Cascade, PatchNetwork, resize
from .patches import Patches, cut_image, network_input, patches_of

_PATCHES_HELD = 2048  # from which on they go through the network, so that large images take no more memory

Foreground = tuple[np.ndarray, np.ndarray]  # corners (N, 2) of a mask's patches, and probabilities (N, size, size)


def _mean_loss(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of logits (N, H, W) and labels 0, 1 or ``IGNORED``: the mean over pixels that are counted,
    or a zero that can be differentiated if there are none."""
    counted = wanted != IGNORED
    loss = F.binary_cross_entropy_with_logits(logits, (wanted == 1).float(), counted.float(), reduction="sum")
    return loss / counted.sum().clamp(min=1)


@META_ARCH_REGISTRY.register()
class BoundaryPatchRefiner(RefiningModel):
    """Refines coarse masks of an image in small patches along their boundaries.

    In training, an input has the patches of :class:`.patch_mapper.BoundaryPatchMapper`; for inference see
    :class:`..refining.RefiningModel`.
    """

    dataset_mapper = "boundary_patch_mapper"
    backend_key = "MODEL.BPR.BACKEND"
    has_strength = True

    @configurable
    def __init__(
        self,
        network: nn.Module,
        *,
        aux_heads: nn.ModuleList | None = None,
        aux_loss_weight: float = 0.0,
        settings: PatchSettings,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        num_classes: int = 0,
        inference: InferenceSettings | None = None,
        light_network: nn.Module | None = None,
        light_sure: float = 1.0,
        strength: float = 1.0,
    ):
        """
        Args:
            network: see :func:`.networks.build_network`.
            aux_heads: on its inner features in training, see :func:`.networks.build_auxiliary_heads`.
            aux_loss_weight: of the loss of each of them.
            settings: of inference; patches in training come as the mapper cuts them.
            pixel_mean, pixel_std: of the image's channels.
            num_classes: of the one-hot "sem_seg".
            inference: how networks are run.
            light_network: trained, before ``network`` in inference; it is no part of the model and its checkpoints.
            light_sure: see :class:`.patch_probabilities.Cascade`.
            strength: 0 changes nothing, see :func:`pnm.object_refinement.decision.decision_of`.
        """
        super().__init__(task=settings.task, pixel_mean=pixel_mean, pixel_std=pixel_std, num_classes=num_classes)
        self.network, self.aux_heads = network, aux_heads
        self.aux_loss_weight = aux_loss_weight
        self.settings, self.inference = settings, inference or InferenceSettings()
        if self.inference.channels_last:
            self.to(memory_format=torch.channels_last)
        heavy, light = PatchNetwork(network, settings, self.inference), None
        if light_network is not None:
            light = PatchNetwork(light_network, settings, self.inference)
        self.cascade = Cascade(heavy, light, light_sure)
        self.least_probability = decision_of(strength, "MODEL.REFINING_STRENGTH").pixel

    @classmethod
    def task_of(cls, cfg: CfgNode) -> str:
        return cfg.MODEL.BPR.TASK

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.BPR
        pretrained = node.PRETRAINED and not cfg.MODEL.WEIGHTS
        check_auxiliary(node.NETWORK, node.AUX_LOSS_WEIGHT)
        network = build_network(node.NETWORK, pretrained, node.NORM)
        light = LightSettings.from_config(cfg)
        colours = Colours(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.INPUT.FORMAT)
        return {
            "network": network,
            "aux_heads": build_auxiliary_heads(network, node.NORM) if node.AUX_LOSS_WEIGHT else None,
            "aux_loss_weight": node.AUX_LOSS_WEIGHT,
            "settings": PatchSettings.from_config(cfg, is_train=False),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "inference": InferenceSettings.from_config(cfg),
            "light_network": load_light_network(light, colours) if light.network else None,
            "light_sure": light.sure,
            "strength": cfg.MODEL.REFINING_STRENGTH,
        }

    @classmethod
    def further_weights(cls, cfg: CfgNode) -> Sequence[str]:
        return [cfg.MODEL.BPR.LIGHT_WEIGHTS] if cfg.MODEL.BPR.LIGHT_WEIGHTS else []

    def prepare_inference(self) -> None:
        """On a CPU, from now on until the next training, see :meth:`.patch_probabilities.PatchNetwork.prepare`."""
        if self.device.type == "cpu":
            for network in self.cascade.networks:
                network.prepare()

    def exportable(self) -> Exportable:
        own, side = self.settings, self.settings.input_size
        description = {
            "refiner": "BPR",
            "inputs": {
                "patches": {
                    "is": f"image patches of {own.side} x {own.side} px ({own.size} and {own.padding} around them) "
                    f"along the mask's boundary, colours resized bilinearly to {side}, the mask nearest",
                    "channels": ["color 1", "color 2", "color 3", "mask"],
                    "normalization": self.normalization(),
                    "outside_of_the_image": 0,
                    "mask": {"foreground": 1, "background": -1},
                }
            },
            "outputs": {
                "logits": "of foreground, smaller than the input: resize bilinearly (no aligned corners) to the patch; "
                "sigmoid is the probability; averaged where patches overlap, over 0.5 is foreground"
            },
            "patch_px": own.size,
            "padding_px": own.padding,
            "nms_threshold": own.threshold,
        }
        inputs = {"patches": torch.zeros(2, 4, side, side)}
        return Exportable(self.network.eval().cpu(), inputs, ("logits",), 0, {}, description)

    def train(self, mode: bool = True) -> "BoundaryPatchRefiner":
        if mode:
            for network in self.cascade.networks:
                network.release()
        super().train(mode)
        return self

    def _network_input(self, images: torch.Tensor, inside: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """See :func:`.patches.network_input`."""
        return network_input(images, inside, masks, self.pixel_mean, self.pixel_std, self.settings.input_size)

    def _training_logits(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits of the network and of each auxiliary head, (N, 1, h, w) of sizes of their own."""
        try:
            if not self.aux_heads:
                return self.network(x), []
            assert isinstance(self.network, LayeredNetwork)  # heads are made for no others
            logits, features = self.network.logits_and_features(x)
            return logits, [head(feature) for head, feature in zip(self.aux_heads, features, strict=True)]
        except ValueError as error:
            if len(x) > 1:
                raise
            raise UserError(
                "a training step had one patch, and MODEL.BPR.NETWORK pools it to one value, on which BatchNorm cannot "
                "train: give each process more images (SOLVER.IMS_PER_BATCH) or patches (MODEL.BPR.PATCHES_PER_IMAGE), "
                "or set MODEL.BPR.NORM SyncBN on several processes"
            ) from error

    def losses(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor]:
        """``loss_patch`` and, with auxiliary heads, ``loss_patch_aux``, the weighted sum of theirs.

        Each loss is a mean over the pixels of this process's patches at the network's input size.
        """
        images, inside, masks, targets = (
            torch.cat([x[name] for x in batched_inputs]).to(self.device)
            for name in ("patches", "inside_patches", "mask_patches", "target_patches")
        )
        side = self.settings.input_size
        wanted = F.interpolate(targets[:, None], (side, side), mode="nearest")[:, 0]
        x = self._network_input(images, inside, masks)
        x = x.contiguous(memory_format=torch.channels_last) if self.inference.channels_last else x
        logits, of_heads = self._training_logits(x)
        logits, *of_heads = (resize(each.float(), side) for each in (logits, *of_heads))
        losses = {"loss_patch": _mean_loss(logits, wanted)}
        if of_heads:
            each = torch.stack([_mean_loss(of_head, wanted) for of_head in of_heads])
            losses["loss_patch_aux"] = each.sum() * self.aux_loss_weight
        self._log_accuracy(logits.detach() > 0, masks, targets, wanted)
        return losses

    @staticmethod
    def _log_accuracy(refined, masks, targets, wanted) -> None:
        """Shares of patch pixels that are right, before and after."""
        before = (masks == (targets == 1))[targets != IGNORED].float().mean()
        after = (refined == (wanted == 1))[wanted != IGNORED].float().mean()
        storage = get_event_storage()
        storage.put_scalar("bpr/coarse_accuracy", before)
        storage.put_scalar("bpr/refined_accuracy", after)

    def _foreground(self, image: torch.Tensor, corners: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Probabilities of foreground (N, size, size) float32 for boxes and their coarse masks."""

        def seen(chosen: np.ndarray) -> torch.Tensor:
            patches, inside = cut_image(image, corners[chosen], self.settings)
            return self._network_input(patches, inside, torch.from_numpy(masks[chosen]).to(self.device))

        return self.cascade(seen, len(corners))

    def _choose(self, crop: MaskCrop, height: int, width: int) -> Patches:
        return patches_of(crop, height, width, self.settings)

    def _refine_patches(self, image: torch.Tensor, crops: Iterable[MaskCrop]) -> Iterator[Foreground]:
        """Corners and probabilities of each mask, in order; patches of some masks at a time are held."""
        height, width = image.shape[1:]
        image = image.to(self.device)
        waiting: list[Patches] = []
        for crop in crops:
            waiting.append(self._choose(crop, height, width))
            if sum(len(corners) for corners, _ in waiting) >= _PATCHES_HELD:
                yield from self._through_network(image, waiting)
                waiting = []
        yield from self._through_network(image, waiting)

    def _through_network(self, image: torch.Tensor, patches: list[Patches]) -> Iterator[Foreground]:
        if not patches:
            return
        corners, masks = (np.concatenate(part) for part in zip(*patches, strict=True))
        foreground = self._foreground(image, corners, masks)
        end = 0
        for of_one, _ in patches:
            start, end = end, end + len(of_one)
            yield of_one, foreground[start:end]

    def refine_objects(self, image: torch.Tensor, crops: Sequence[MaskCrop]) -> list[MaskCrop]:
        return [one.crop for one in self.object_confidences(image, crops)]

    def object_confidences(self, image: torch.Tensor, crops: Sequence[MaskCrop]) -> list[RefinedMask]:
        """See :func:`pnm.boundary_patches.reassembly.reassembled`."""
        height, width = image.shape[1:]
        refined = zip(crops, self._refine_patches(image, crops), strict=True)
        least = self.least_probability
        return [RefinedMask(*reassembled(crop, *patches, height, width, least)) for crop, patches in refined]

    def refine_partition(self, image: torch.Tensor, labels: np.ndarray, segments: Sequence[int]) -> np.ndarray:
        return self.partition_certainties(image, labels, segments).refined  # type: ignore[return-value]

    def partition_certainties(self, image: torch.Tensor, labels: np.ndarray, segments: Sequence[int]) -> CertainLabels:
        """See :func:`pnm.boundary_patches.reassembly.reassembled_partition`."""
        patches = self._refine_patches(image, crop_segments(labels, segments))
        return CertainLabels(*reassembled_partition(labels, segments, patches, self.least_probability))
