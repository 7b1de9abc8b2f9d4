"""Pixel weights beside the labels that a dataset mapper gives."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T

from pnm.errors import UserError
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.pixel_weights import pixel_weights
from pnm.null_model.settings import PNMSettings
from pnm.null_model.stored.maps import WeightMapParameters, WeightMaps, default_weight_root, weight_folder
from pnm.null_model.stored.surprisal import weights_of_surprisal

from ..dataset_mappers import PanopticMapper
from ..semantic_networks.weight_settings import semantic_settings


def move_surprisal(encoded: np.ndarray, transforms: T.TransformList) -> np.ndarray:
    """A weight map (H, W) uint16 after the geometric transforms of its label, resampled as a label is.

    Transforms treat 8-bit label images and 16-bit ones differently; as two 8-bit channels the map takes the label's
    way, pixel for pixel.
    """
    channels = np.stack([encoded >> 8, encoded & 255, np.zeros_like(encoded)], axis=-1).astype(np.uint8)
    moved = transforms.apply_segmentation(channels)
    return (moved[..., 0].astype(np.uint16) << 8) | moved[..., 1]


class OfflineWeights:
    """The weight maps of the training data sets."""

    def __init__(self, maps: dict[str, WeightMaps], label_files: Mapping[str, Iterable[str]]):
        """
        Args:
            maps: by data set.
            label_files: of each data set.

        Raises:
            UserError: a label file has no map.
        """
        self._maps = list(maps.values())
        self._of_file: dict[str, int] = {}
        for number, (name, stored) in enumerate(maps.items()):
            files = list(label_files[name])
            stored.check_complete(files)
            self._of_file |= dict.fromkeys(files, number)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "OfflineWeights":
        """The maps of ``DATASETS.TRAIN`` under ``MODEL.PNM.MAPS_ROOT``."""
        node, maps, files = cfg.MODEL.PNM, {}, {}
        root = Path(node.MAPS_ROOT).expanduser() if node.MAPS_ROOT else default_weight_root()
        for name in cfg.DATASETS.TRAIN:
            ignored = MetadataCatalog.get(name).get("ignore_label", cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE)
            parameters = WeightMapParameters(name, node.LOCALITY, node.BORDER, ignored)
            maps[name] = WeightMaps(weight_folder(root, name), parameters)
            files[name] = [str(x["sem_seg_file_name"]) for x in DatasetCatalog.get(name) if "sem_seg_file_name" in x]
        return cls(maps, files)

    def read(self, label_file: str) -> np.ndarray:
        """The map of a label file, (H, W) uint16."""
        return self._maps[self._of_file[label_file]].read(label_file)


class PixelWeightMapper:
    """Adds "pixel_weights", an (H, W) float32 tensor, to the samples of a Detectron2 ``DatasetMapper``.

    Weights are those of the null model of the sample's label after augmentation, or of the stored map moved through the
    same augmentation. They are 0 on ignored pixels.
    """

    def __init__(self, mapper: Callable, pnm: PNMSettings, ignore_label: int, offline: OfflineWeights | None = None):
        """
        Args:
            mapper: gives "sem_seg"; for offline weights it needs ``map_with_transforms``, see
                :class:`..dataset_mappers.CheckedDatasetMapper`.
            ignore_label: label without weight.
            offline: stored maps; None computes the weights.

        Raises:
            UserError: offline weights for a mapper that keeps its transforms to itself.
        """
        self.mapper: Any = mapper
        self.pnm, self.ignore_label, self.offline = pnm, ignore_label, offline
        if offline is not None and not callable(getattr(mapper, "map_with_transforms", None)):
            raise UserError(
                f"mapper {type(mapper).__name__} has no map_with_transforms, by which offline weight maps could follow "
                "its augmentations; set MODEL.PNM.SOURCE online"
            )

    @property
    def coarse(self) -> Any:
        """The predictions that a refiner's mapper starts from."""
        return self.mapper.coarse

    @classmethod
    def from_config(cls, cfg: CfgNode, mapper: Callable) -> "PixelWeightMapper":
        """As ``MODEL.PNM`` says, for training on ``DATASETS.TRAIN``."""
        pnm = semantic_settings(cfg)
        assert pnm is not None
        is_offline = cfg.MODEL.PNM.SOURCE == "offline"
        if is_offline and isinstance(mapper, PanopticMapper):
            raise UserError(
                "MODEL.PNM.SOURCE is offline, but labels are taken from panoptic PNGs, which have no stored weight "
                "maps: set MODEL.PNM.SOURCE online"
            )
        offline = OfflineWeights.from_config(cfg) if is_offline else None
        return cls(mapper, pnm, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE, offline)

    def __call__(self, dataset_dict: dict) -> dict | None:
        if self.offline is None:
            sample, transforms = self.mapper(dataset_dict), None
        else:
            sample, transforms = self.mapper.map_with_transforms(dataset_dict)
        if sample is None:
            return None
        if "sem_seg" not in sample:
            raise UserError(
                f"{dataset_dict.get('file_name', 'a sample')} has no semantic labels to weight; "
                "train on a semantic or panoptic data set, or set MODEL.PNM.SEMANTIC_LOSS False"
            )
        labels = np.asarray(sample["sem_seg"])
        weights = self._computed(labels) if transforms is None else self._stored(dataset_dict, labels, transforms)
        weights[labels == self.ignore_label] = 0
        return {**sample, "pixel_weights": torch.from_numpy(weights)}

    def _computed(self, labels: np.ndarray) -> np.ndarray:
        null_model = pixel_null_model(labels, self.pnm.locality, ignore_label=self.ignore_label, border=self.pnm.border)
        return pixel_weights(null_model, self.pnm.transform, overwrite_pnm=True)

    def _stored(self, dataset_dict: dict, labels: np.ndarray, transforms: T.TransformList) -> np.ndarray:
        assert self.offline is not None
        encoded = self.offline.read(str(dataset_dict["sem_seg_file_name"]))
        weights = weights_of_surprisal(move_surprisal(encoded, transforms), self.pnm.transform)
        if weights.shape != labels.shape:
            raise UserError(
                f"the weight map of {dataset_dict['sem_seg_file_name']} is {weights.shape} after augmentation and the "
                f"label {labels.shape}; an augmentation treats them differently: set MODEL.PNM.SOURCE online"
            )
        return weights


def add_pixel_weights(cfg: CfgNode, mapper: Callable) -> Callable:
    """The training mapper, with pixel weights in its samples if ``MODEL.PNM`` weights a semantic loss."""
    if semantic_settings(cfg) is None or cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN":
        return mapper
    return PixelWeightMapper.from_config(cfg, mapper)
