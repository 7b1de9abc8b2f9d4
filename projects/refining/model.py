"""The base of every refiner's meta-architecture, and the refiners that are registered."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from torch import nn

from pnm.errors import UserError
from pnm.masks.crops import MaskCrop, crop_array, paste
from pnm.network_backends.onnx_models import Exportable
from pnm.network_backends.prepared_network import PreparedNetwork
from pnm.object_refinement.refining import RefinedMask
from pnm.predictions import Partition
from pnm.predictions.certain_changes import CertainLabels
from pnm.predictions.refinement import Step
from pnm.predictions.relisting import with_kept_ids

from .truths import category_of, segment_info

TASKS = ("instance", "semantic", "panoptic")


class ImageStore(Protocol):
    """What a model makes of images alone, on disk: made once, used for all predictions."""

    def has(self, image_file: Path) -> bool:
        """Whether it is there already."""

    def make(self, image_file: Path, image: torch.Tensor) -> None:
        """Predicts and stores it, the image being (3, H, W) uint8."""

    def step(self) -> Step:
        """Refines with what is stored."""


class RefiningModel(nn.Module):
    """Refines coarse masks of images: a meta-architecture.

    A refiner derives from it, names its mapper in ``dataset_mapper`` and its task in :meth:`task_of`, and defines
    :meth:`losses`, and :meth:`refine_objects` or :meth:`refine_partition` or both; or, if it may change the list of
    segments, :meth:`refine_segments`, and says so by ``relists_segments``.

    For inference an input has an "image", (3, H, W) uint8, and coarse predictions of the same size: "instances" with
    ``pred_masks``, (N, H, W) bool or a list of :class:`pnm.masks.crops.MaskCrop`; or "sem_seg" (H, W); or
    "panoptic_seg" ((H, W), segments_info). The output has the same, refined, as Detectron2's evaluators want it;
    "sem_seg" one-hot (K, H, W).
    """

    dataset_mapper: str
    refines_any_task = False  # whether predictions of all tasks may be given, whatever `task_of` says
    relists_segments = False  # whether segments may come, go and change class
    backend_key = ""  # of the config, says what it runs on; "" if there is no choice
    has_strength = False  # whether it reads ``MODEL.REFINING_STRENGTH``
    takes_pixel_weights = False  # whether its losses are weighted by "pixel_weights", see ``MODEL.PNM``
    in_bfloat16: bool | None = None  # of the prepared network on CPUs; None: it isn't prepared in the common way
    network: Any  # the nn.Module that is prepared
    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def __init__(self, *, task: str, pixel_mean: Sequence[float], pixel_std: Sequence[float], num_classes: int = 0):
        """
        Args:
            task: "instance", "semantic" or "panoptic".
            pixel_mean, pixel_std: of the image's channels.
            num_classes: K of the one-hot "sem_seg".
        """
        super().__init__()
        self._prepared: PreparedNetwork | None = None
        self.task, self.num_classes = task, num_classes
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def task_of(cls, cfg: CfgNode) -> str:
        """What the refiner of a config refines: "instance", "semantic" or "panoptic"."""
        raise NotImplementedError

    @classmethod
    def further_weights(cls, cfg: CfgNode) -> Sequence[str]:
        """Files and addresses of weights that the refiner of a config loads besides ``MODEL.WEIGHTS``."""
        return ()

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def image_store(self, cfg: CfgNode, folder: Path, weights: str) -> "ImageStore":
        """What the model makes of images alone, kept in a folder.

        Args:
            weights: digest of the model's weights.

        Raises:
            UserError: the model looks at masks, too; or the folder has what another model made.
        """
        raise UserError(
            f"--offsets is for refiners that predict from the image alone; {cfg.MODEL.META_ARCHITECTURE} does not"
        )

    def prepare_inference(self) -> None:
        """Makes calls fast that are no training; called when weights were loaded and no more will be.

        On a CPU, from now on until the next training a model that has ``in_bfloat16`` runs a copy of its network, see
        :class:`pnm.network_backends.prepared_network.PreparedNetwork`.
        """
        if self.in_bfloat16 is not None and self.device.type == "cpu":
            self._prepared = PreparedNetwork(self.network, self.in_bfloat16)

    def train(self, mode: bool = True) -> "RefiningModel":
        self._prepared = None if mode else self._prepared
        return super().train(mode)

    @contextmanager
    def inference_network(self, amp: bool) -> Iterator[Any]:
        """The network without gradients, prepared if it is: its outputs may be of lower precision.

        Args:
            amp: mixed precision where it isn't prepared.
        """
        if self._prepared is not None:
            with self._prepared.running() as network:
                yield network
            return
        with torch.no_grad(), torch.autocast(self.device.type, enabled=amp):
            yield self.network

    def exportable(self) -> Exportable:
        """The network for other programs, see :mod:`pnm.network_backends.onnx_models`."""
        raise NotImplementedError

    def normalization(self) -> dict[str, list[float]]:
        """Of colours, for a description: (value - mean) / std, values being 0 to 255."""
        named = {"mean": self.pixel_mean, "std": self.pixel_std}
        return {name: [round(v, 4) for v in values.flatten().tolist()] for name, values in named.items()}

    def losses(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor]:
        """Losses by name of what the mapper gives for training."""
        raise NotImplementedError

    def refine_objects(self, image: torch.Tensor, crops: Sequence[MaskCrop]) -> list[MaskCrop]:
        """Refined masks, in order, of masks that may overlap.

        Args:
            image: (3, H, W) uint8, channels as ``INPUT.FORMAT`` says.
            crops: coarse masks of that image.
        """
        raise NotImplementedError

    def object_confidences(self, image: torch.Tensor, crops: Sequence[MaskCrop]) -> list[RefinedMask] | None:
        """As :meth:`refine_objects`, with how sure the model is of each; None if it doesn't say."""
        return None

    def partition_certainties(
        self, image: torch.Tensor, labels: np.ndarray, segments: Sequence[int]
    ) -> CertainLabels | None:
        """As :meth:`refine_partition`, with the probabilities of changed pixels' labels; None if it doesn't say."""
        return None

    def relisted_certainties(self, image: torch.Tensor, prediction: Partition) -> CertainLabels | None:
        """As :meth:`refine_segments`, with the probabilities of changed pixels' labels; None if it doesn't say."""
        return None

    def refine_partition(self, image: torch.Tensor, labels: np.ndarray, segments: Sequence[int]) -> np.ndarray:
        """Refined label map, (H, W) of the same type.

        Args:
            image: (3, H, W) uint8.
            labels: (H, W) integers.
            segments: the labels that are refined.
        """
        raise NotImplementedError

    def refine_segments(self, image: torch.Tensor, prediction: Partition) -> Partition:
        """A panoptic map anew. Ids need not be those of before: whoever calls sees to that.

        Args:
            image: (3, H, W) uint8.
            prediction: the coarse map, categories as in dataset dicts (:func:`.truths.category_of`).
        """
        raise NotImplementedError

    @property
    def category_of_id(self) -> dict[int, int]:
        """Categories as :meth:`refine_segments` takes them, by category id of files; of models that relist segments."""
        raise NotImplementedError

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        if self.training:
            return self.losses(batched_inputs)
        refine = {"instance": self._instances, "semantic": self._semantic, "panoptic": self._panoptic}
        return [refine[self.task](x) for x in batched_inputs]

    def _instances(self, x: dict) -> dict[str, Any]:
        coarse: Instances = x["instances"]
        height, width = x["image"].shape[1:]
        crops = [mask if isinstance(mask, MaskCrop) else crop_array(mask.cpu().numpy()) for mask in coarse.pred_masks]
        masks, boxes = np.zeros((len(crops), height, width), np.bool_), np.zeros((len(crops), 4), np.float32)
        for mask, box, crop in zip(masks, boxes, self.refine_objects(x["image"], crops), strict=True):
            mask[:], box[:] = paste(crop, height, width), box_xyxy(crop)
        refined = Instances((height, width), scores=coarse.scores, pred_classes=coarse.pred_classes)
        refined.pred_masks, refined.pred_boxes = torch.from_numpy(masks), Boxes(torch.from_numpy(boxes))
        return {"instances": refined}

    def _semantic(self, x: dict) -> dict[str, Any]:
        labels = np.asarray(x["sem_seg"])
        classes = [k for k in np.unique(labels).tolist() if k < self.num_classes]
        refined = torch.from_numpy(self.refine_partition(x["image"], labels, classes)).long()
        one_hot = torch.zeros(self.num_classes + 1, *refined.shape, dtype=torch.uint8)
        one_hot.scatter_(0, refined.clamp(max=self.num_classes)[None], 1)
        return {"sem_seg": one_hot[:-1]}

    def _panoptic(self, x: dict) -> dict[str, Any]:
        labels, segments = x["panoptic_seg"]
        if self.relists_segments:
            coarse = Partition(np.asarray(labels), tuple(s["id"] for s in segments), tuple(map(category_of, segments)))
            anew = with_kept_ids(coarse, self.refine_segments(x["image"], coarse))
            rows = [segment_info(*pair) for pair in zip(anew.segments, anew.categories, strict=True)]
            return {"panoptic_seg": (torch.from_numpy(anew.labels), rows)}
        refined = self.refine_partition(x["image"], np.asarray(labels), [s["id"] for s in segments])
        present = set(np.unique(refined).tolist())
        return {"panoptic_seg": (torch.from_numpy(refined), [s for s in segments if s["id"] in present])}


def box_xyxy(crop: MaskCrop) -> tuple[int, int, int, int]:
    """The tight box of a mask, whose rectangle may be larger; zeros of an empty one."""
    pixels, top, left = crop_array(crop.pixels)
    if not pixels.size:
        return 0, 0, 0, 0
    top, left = top + crop.top, left + crop.left
    return left, top, left + pixels.shape[1], top + pixels.shape[0]


def refiner_class(cfg: CfgNode) -> type[RefiningModel] | None:
    """The class of ``MODEL.META_ARCHITECTURE`` if that is a refiner."""
    name = cfg.MODEL.META_ARCHITECTURE
    registered = META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else None
    is_refiner = isinstance(registered, type) and issubclass(registered, RefiningModel)
    return registered if is_refiner else None


def refiner_names() -> list[str]:
    """Meta-architectures that refine."""
    return sorted(n for n, arch in META_ARCH_REGISTRY if isinstance(arch, type) and issubclass(arch, RefiningModel))


def refined_task(cfg: CfgNode) -> str | None:
    """ "instance", "semantic" or "panoptic" if the model is a refiner, else None."""
    refiner = refiner_class(cfg)
    return None if refiner is None else refiner.task_of(cfg)
