"""The meta-architecture of PRN (Sun et al., "PRN: Panoptic Refinement Network", WACV 2023)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList
from detectron2.utils.events import get_event_storage
from torch import nn

from pnm.errors import UserError
from pnm.network_backends.onnx_models import Exportable
from pnm.network_backends.precision import is_bfloat16
from pnm.null_model.weighted_losses import pixel_cross_entropy, weighted_mean
from pnm.object_refinement.decision import decision_of
from pnm.predictions import Partition
from pnm.predictions.certain_changes import CertainLabels, sure_changes
from pnm.predictions.relisting import with_kept_ids

from ..dataset_mappers.panoptic_classes import PanopticClasses, classes_of
from ..refining import RefiningModel
from ..refining.mapper import IGNORED
from .encoder import load_imagenet
from .exporting import exportable_network
from .grid_mask import hide_squares
from .inference import InferenceSettings, Predicted, merged_map
from .label_probabilities import label_probabilities
from .losses import center_loss, distance_loss, foreground_loss
from .mapper import class_labels, encoded, moved_ids, panoptic_map
from .networks import FIRST_STRIDE, SIZE_DIVISIBILITY, Fields, NetworkInput, PanopticRefinementNetwork

_TERMS = ("semantic", "center", "offset", "box", "foreground")


@META_ARCH_REGISTRY.register()
class PanopticRefiner(RefiningModel):
    """Predicts a panoptic map anew from an image and the map of another model: it may add, delete, join, split and
    re-class segments.

    In training, an input has what :class:`.mapper.PanopticMapMapper` gives; for inference see
    :class:`..refining.RefiningModel`.
    """

    dataset_mapper = "panoptic_map_mapper"
    relists_segments = True
    has_strength = True
    takes_pixel_weights = True
    thing_categories: torch.Tensor
    stuff_categories: torch.Tensor

    @configurable
    def __init__(
        self,
        network: PanopticRefinementNetwork,
        *,
        classes: PanopticClasses | tuple[int, int],
        inference: InferenceSettings,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        loss_weights: dict[str, float] | None = None,
        loss_stride: int = 1,
        small_instance_weight: float = 1.0,
        grid_mask_prob: float = 0.0,
        max_iter: int = 1,
    ):
        """
        Args:
            network: for as many classes.
            classes: or the numbers of things and stuff, where checkpoints say the rest.
            pixel_mean, pixel_std: of the image's channels.
            loss_weights: of the terms "semantic", "center", "offset", "box", "foreground"; lambda 0 to 4 of Eq. 1.
            loss_stride: of the pixels that the semantic loss looks at.
            small_instance_weight: of pixels of small instances in the semantic loss.
            grid_mask_prob: that GridMask changes an image at the end of ``max_iter`` iterations, 0 at their start.
        """
        super().__init__(task="panoptic", pixel_mean=pixel_mean, pixel_std=pixel_std)
        self.network, self.inference = network, inference
        self.in_bfloat16 = is_bfloat16(inference.precision, "MODEL.PRN.PRECISION_TEST") or inference.amp
        self.least_probability = decision_of(inference.strength, "MODEL.REFINING_STRENGTH").pixel
        self.loss_weights = loss_weights or dict(zip(_TERMS, (1.0, 200.0, 0.02, 0.02, 5.0)))
        self.loss_stride, self.small_instance_weight = loss_stride, small_instance_weight
        self.grid_mask_prob, self.max_iter = grid_mask_prob, max_iter
        # Checkpoints hold the classes, so that result files can be refined where the data set is not at hand.
        for name, k in (("thing_categories", 0), ("stuff_categories", 1)):
            rows = (classes.things, classes.stuff)[k] if isinstance(classes, PanopticClasses) else [(0, 0)] * classes[k]
            self.register_buffer(name, torch.tensor(rows, dtype=torch.int64).view(-1, 2))
        assert network.classes == len(self.thing_categories) + len(self.stuff_categories)

    @classmethod
    def task_of(cls, cfg: CfgNode) -> str:
        return "panoptic"

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.PRN
        classes = _classes(cfg)
        network = PanopticRefinementNetwork(
            node.ENCODER,
            len(classes) if isinstance(classes, PanopticClasses) else sum(classes),
            encoder_width=node.ENCODER_WIDTH,
            input_width=node.INPUT_WIDTH,
            decoder_width=node.DECODER_WIDTH,
            head_width=node.HEAD_WIDTH,
            head_conv=node.HEAD_CONV,
            coord_encoder=node.COORD_ENCODER,
            coord_decoder=node.COORD_DECODER,
            unit_px=node.UNIT,
        )
        if node.PRETRAINED and not cfg.MODEL.WEIGHTS:
            load_imagenet(network.encoder, node.ENCODER)
        return {
            "network": nn.SyncBatchNorm.convert_sync_batchnorm(network) if node.NORM == "SyncBN" else network,
            "classes": classes,
            "inference": InferenceSettings.from_config(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "loss_weights": {term: node[f"{term.upper()}_LOSS_WEIGHT"] for term in _TERMS},
            "loss_stride": node.LOSS_STRIDE,
            "small_instance_weight": node.SMALL_INSTANCE_WEIGHT,
            "grid_mask_prob": node.GRID_MASK_PROB,
            "max_iter": cfg.SOLVER.MAX_ITER,
        }

    @property
    def classes(self) -> PanopticClasses:
        """What the checkpoint, or the data set, says they are."""
        things, stuff = (
            tuple((int(id_), int(category)) for id_, category in rows.tolist())
            for rows in (self.thing_categories, self.stuff_categories)
        )
        return PanopticClasses(things, stuff)

    @property
    def category_of_id(self) -> dict[int, int]:
        return self.classes.by_category_id

    def exportable(self) -> Exportable:
        classes = [
            {"category": k, "is_thing": n < len(self.thing_categories)} for n, k in enumerate(self.classes.categories)
        ]
        return exportable_network(self.network.eval().cpu(), self.normalization(), self.inference, classes)

    def _network_input(self, images: Sequence[torch.Tensor], instances: Any, classes: Any) -> NetworkInput:
        """A batch of (3, h, w) uint8 images with (7, h, w) and (h, w) of the maps to refine."""
        normalised = [(image.to(self.device).float() - self.pixel_mean) / self.pixel_std for image in images]
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        padded = self._batch(classes, IGNORED)
        cells = class_shares(padded.long(), self.network.classes)
        return NetworkInput(self._batch(normalised), self._batch(instances), cells, sizes)

    def _batch(self, tensors: Sequence[torch.Tensor], pad_value: float = 0.0) -> torch.Tensor:
        return ImageList.from_tensors([x.to(self.device) for x in tensors], SIZE_DIVISIBILITY, pad_value).tensor

    def losses(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor]:
        inputs = {key: [x[key] for x in batched_inputs] for key in ("image", "coarse", "coarse_classes")}
        batch = self._network_input(inputs["image"], inputs["coarse"], inputs["coarse_classes"])
        probability = self.grid_mask_prob * min(1.0, get_event_storage().iter / self.max_iter)
        batch = batch._replace(images=hide_squares(batch.images, list(batch.sizes), probability))
        features, coordinates = self.network.features(batch)
        class_logits, fields = self.network.class_logits(features).float(), self.network.fields(features, coordinates)
        targets = {
            key: self._batch([x[key] for x in batched_inputs], pad)
            for key, pad in (("target", 0), ("sem_seg", IGNORED), ("foreground", IGNORED), ("small", 0))
        }
        weights = None
        if "pixel_weights" in batched_inputs[0]:
            weights = self._batch([x["pixel_weights"] for x in batched_inputs])
        counted, inside = targets["foreground"] != IGNORED, targets["foreground"] == 1
        terms = {
            "semantic": self._semantic_loss(class_logits, targets["sem_seg"], targets["small"], weights),
            "center": center_loss(fields.heat, targets["target"][:, 0], counted),
            "offset": distance_loss(fields.offsets[:, :2], targets["target"][:, 1:3], inside),
            "box": distance_loss(fields.offsets[:, 2:], targets["target"][:, 3:], inside),
            "foreground": foreground_loss(fields.foreground_logits, inside, counted, weights),
        }
        self._log_accuracy(fields, inside, counted)
        return {f"loss_prn_{name}": loss * self.loss_weights[name] for name, loss in terms.items()}

    def _semantic_loss(
        self, logits: torch.Tensor, labels: torch.Tensor, small: torch.Tensor, weights: torch.Tensor | None
    ) -> torch.Tensor:
        stride = self.loss_stride
        if self.small_instance_weight != 1:
            weights = (1.0 if weights is None else weights) * torch.where(small, self.small_instance_weight, 1.0)
        if stride == 1:
            logits = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
        else:  # cells of the logits' own size; the label is that of a pixel at the middle
            labels = labels[:, stride // 2 :: stride, stride // 2 :: stride]
            weights = None if weights is None else weights[:, stride // 2 :: stride, stride // 2 :: stride]
        losses, valid = pixel_cross_entropy(logits, labels, ignore_label=IGNORED)
        return weighted_mean(losses, weights, valid, 1.0)

    @staticmethod
    @torch.no_grad()
    def _log_accuracy(fields: Fields, inside: torch.Tensor, counted: torch.Tensor) -> None:
        """IoU of the foreground."""
        found = (fields.foreground_logits > 0) & counted
        storage = get_event_storage()
        storage.put_scalar("prn/foreground_iou", (found & inside).sum() / (found | inside).sum().clamp(min=1))

    def refine_segments(self, image: torch.Tensor, prediction: Partition) -> Partition:
        """A panoptic map anew, see :class:`..refining.RefiningModel`."""
        if self.inference.strength == 1:  # probabilities need not be known
            return self.merged(self.predict(self.network_input(image, prediction)), prediction)
        refined = self.relisted_certainties(image, prediction).refined
        assert isinstance(refined, Partition)
        return refined

    def relisted_certainties(self, image: torch.Tensor, prediction: Partition) -> CertainLabels:
        """As :meth:`refine_segments`, with the probabilities of :func:`.label_probabilities.label_probabilities`.

        With a strength below 1 a pixel changes only if its new label is probable enough, see
        :func:`pnm.predictions.certain_changes.sure_changes`.
        """
        predicted = self.predict(self.network_input(image, prediction))
        refined = with_kept_ids(prediction, self.merged(predicted, prediction))
        things = len(self.thing_categories)
        probs = label_probabilities(predicted, self._class_indices(refined), things, self.inference)
        if self.inference.strength == 1:
            return CertainLabels(refined, probs)
        return sure_changes(prediction, refined, probs, self.least_probability)

    def _class_indices(self, prediction: Partition) -> np.ndarray:
        """(H, W) int64: the network's index of each pixel's class, -1 for void."""
        index_of = {category: k for k, category in enumerate(self.classes.categories)}
        of_label = {label: index_of[kind] for label, kind in zip(prediction.segments, prediction.categories)}
        labels, places = np.unique(prediction.labels, return_inverse=True)
        table = np.array([of_label.get(label, -1) for label in labels.tolist()], np.int64)
        return table[places].reshape(prediction.labels.shape)

    def predict(self, given: NetworkInput) -> Predicted:
        """What the network says of one image."""
        with self.inference_network(self.inference.amp) as network:
            features, coordinates = network.features(given)
            logits = network.class_logits(features).float()[0]
            fields = network.fields(features, coordinates, self.inference.strip_rows)
        return Predicted(fields, logits, given.sizes[0])

    def network_input(self, image: torch.Tensor, prediction: Partition) -> NetworkInput:
        """An image and the map that is refined, at the size that the network takes."""
        array = np.ascontiguousarray(image.cpu().numpy().transpose(1, 2, 0))
        transform = self.inference.resize.get_transform(array)
        small = torch.from_numpy(transform.apply_image(array).transpose(2, 0, 1).copy())
        indices = self.classes.indices(prediction.categories, "the prediction")
        coarse = panoptic_map(moved_ids(prediction.labels, transform), prediction.segments, indices)
        instances = torch.from_numpy(encoded(coarse, len(self.thing_categories), self.inference.sigma_px))
        return self._network_input([small], [instances], [torch.from_numpy(class_labels(coarse))])

    def merged(self, predicted: Predicted, prediction: Partition) -> Partition:
        """The panoptic map at the size of the one that is refined; that one, if there is no segment in it."""
        was_segment = np.isin(prediction.labels, prediction.segments)
        merged = merged_map(predicted, was_segment, len(self.thing_categories), self.inference)
        if not merged.classes and self.inference.fill_holes:
            return prediction
        categories, numbers = self.classes.categories, tuple(range(1, len(merged.classes) + 1))
        return Partition(merged.labels, numbers, tuple(categories[k] for k in merged.classes))


def class_shares(classes: torch.Tensor, count: int) -> torch.Tensor:
    """Share of each class in cells of 4 x 4 px, (N, count, H / 4, W / 4) float32, of (N, H, W) int64 labels whose sides
    are multiples of 4; other labels, as void, are none."""
    number, height, width = classes.shape
    rows, columns = height // FIRST_STRIDE, width // FIRST_STRIDE
    cells = (
        classes.view(number, rows, FIRST_STRIDE, columns, FIRST_STRIDE)
        .permute(0, 2, 4, 1, 3)
        .reshape(number, -1, rows, columns)
    )
    shares = torch.zeros(number, count + 1, rows, columns, device=classes.device)
    shares.scatter_add_(1, cells.clamp(max=count), torch.full(cells.shape, 1 / FIRST_STRIDE**2, device=classes.device))
    return shares[:, :count]


def _classes(cfg: CfgNode) -> PanopticClasses | tuple[int, int]:
    """Classes of the data sets that are registered, else their numbers.

    Raises:
        UserError: neither is known.
    """
    node = cfg.MODEL.PRN
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        metadata = MetadataCatalog.get(name)
        if metadata.get("thing_dataset_id_to_contiguous_id", None) is not None:
            classes = classes_of(name, metadata)
            numbers = len(classes.things), len(classes.stuff)
            if (node.NUM_THINGS or numbers[0], node.NUM_STUFF or numbers[1]) == numbers:
                return classes
    if not node.NUM_THINGS:
        raise UserError(
            "MODEL.PRN.NUM_THINGS and NUM_STUFF are 0 and no data set says them: give config.yaml of the folder that "
            "the refiner was trained into, or set them"
        )
    return node.NUM_THINGS, node.NUM_STUFF
