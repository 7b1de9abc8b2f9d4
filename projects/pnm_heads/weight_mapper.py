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
from pnm.formats.label_png import read_panoptic_png
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.pixel_weights import pixel_weights
from pnm.null_model.settings import PNMSettings
from pnm.null_model.stored.maps import WeightMapParameters, WeightMaps, default_weight_root, weight_folder
from pnm.null_model.stored.surprisal import encode_surprisal, weights_of_surprisal

from ..dataset_mappers import MappedSample, PanopticMapper
from ..dataset_mappers.label_files import PANOPTIC, SEMANTIC, LabelFiles
from ..dataset_mappers.panoptic_mapper import moved_ids
from ..refining import refiner_class
from ..semantic_networks.weight_settings import semantic_settings

VOID = 0  # id of the pixels that are no segment's


def move_surprisal(encoded: np.ndarray, transforms: T.TransformList, labels_are_floats: bool = False) -> np.ndarray:
    """A weight map (H, W) uint16 after the geometric transforms of its label, resampled as the label is.

    Transforms treat 8-bit label images and others differently; as two images of 8 bits the map takes the label's way,
    pixel for pixel.

    Args:
        labels_are_floats: the label has values above 255 and goes through the transforms as float32.
    """
    if labels_are_floats:
        return transforms.apply_segmentation(encoded.astype(np.float32)).astype(np.uint16)
    high, low = (transforms.apply_segmentation(half.astype(np.uint8)) for half in (encoded >> 8, encoded & 255))
    return (high.astype(np.uint16) << 8) | low


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
            metadata = MetadataCatalog.get(name)
            label_files = LabelFiles([metadata])
            ignored = metadata.get("ignore_label", cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE)
            ignored = VOID if node.LABELS == PANOPTIC else ignored
            parameters = WeightMapParameters(name, node.LOCALITY, node.BORDER, ignored, node.LABELS)
            maps[name] = WeightMaps(weight_folder(root, parameters), parameters)
            of_records = (label_files.of(record, node.LABELS) for record in DatasetCatalog.get(name))
            files[name] = [file for file in of_records if file is not None]
        return cls(maps, files)

    def read(self, label_file: str) -> np.ndarray:
        """The map of a label file, (H, W) uint16."""
        return self._maps[self._of_file[label_file]].read(label_file)


class PixelWeightMapper:
    """Adds "pixel_weights", an (H, W) float32 tensor, to the samples of a Detectron2 ``DatasetMapper``.

    Weights are those of the null model of the original label, computed or stored, and moved through the label's
    augmentation; or of the label after augmentation ("online"). They are 0 on ignored pixels, and at least 1 elsewhere:
    of panoptic ids, a labelled pixel that is no segment's weighs 1, and counts in no other pixel's window.
    """

    def __init__(
        self,
        mapper: Callable,
        pnm: PNMSettings,
        ignore_label: int,
        source: str = "label",
        labels: str = SEMANTIC,
        offline: OfflineWeights | None = None,
        label_files: LabelFiles | None = None,
    ):
        """
        Args:
            mapper: gives "sem_seg"; but for online weights of semantic labels it needs ``map_with_transforms``, see
                :class:`..dataset_mappers.CheckedDatasetMapper`.
            ignore_label: label without weight.
            source, labels: ``MODEL.PNM.SOURCE`` and ``LABELS``.
            offline: the stored maps, for source "offline".
            label_files: finds the panoptic PNGs of the samples.

        Raises:
            UserError: a mapper that keeps its transforms to itself, although weights are to go through them.
        """
        self.mapper: Any = mapper
        self.pnm, self.ignore_label, self.source, self.labels = pnm, ignore_label, source, labels
        self.offline, self.label_files = offline, label_files or LabelFiles([])
        self._only_sample = source == "online" and labels == SEMANTIC
        if not self._only_sample and not callable(getattr(mapper, "map_with_transforms", None)):
            raise UserError(
                f"mapper {type(mapper).__name__} has no map_with_transforms, by which weights could follow its "
                "augmentations; set MODEL.PNM.SOURCE online and MODEL.PNM.LABELS semantic"
            )

    @property
    def coarse(self) -> Any:
        """The predictions that a refiner's mapper starts from."""
        return self.mapper.coarse

    @classmethod
    def from_config(cls, cfg: CfgNode, mapper: Callable) -> "PixelWeightMapper":
        """As ``MODEL.PNM`` says, for training on ``DATASETS.TRAIN``."""
        pnm, node = semantic_settings(cfg), cfg.MODEL.PNM
        assert pnm is not None
        # A refiner's mapper makes labels of its own, which have no original.
        source = "online" if refiner_class(cfg) is not None else node.SOURCE
        if source == "offline" and node.LABELS == SEMANTIC and isinstance(mapper, PanopticMapper):
            raise UserError(
                "MODEL.PNM.SOURCE is offline, but labels are taken from panoptic PNGs, of whose classes there are no "
                "stored weight maps: set MODEL.PNM.SOURCE label"
            )
        metadata = {name: MetadataCatalog.get(name) for name in cfg.DATASETS.TRAIN}
        check_labels(cfg, metadata)
        offline = OfflineWeights.from_config(cfg) if source == "offline" else None
        ignored, files = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE, LabelFiles(metadata.values())
        return cls(mapper, pnm, ignored, source, node.LABELS, offline, files)

    def __call__(self, dataset_dict: dict) -> dict | None:
        if self._only_sample:
            mapped = MappedSample(self.mapper(dataset_dict), T.TransformList([]))
        else:
            mapped = self.mapper.map_with_transforms(dataset_dict)
        if mapped.sample is None:
            return None
        if "sem_seg" not in mapped.sample:
            raise UserError(
                f"{dataset_dict.get('file_name', 'a sample')} has no semantic labels to weight; "
                "train on a semantic or panoptic data set, or set MODEL.PNM.SEMANTIC_LOSS False"
            )
        labels = np.asarray(mapped.sample["sem_seg"])
        weights = self._weights(dataset_dict, mapped, labels)
        if weights.shape != labels.shape:
            raise UserError(
                f"the weights of {dataset_dict.get('file_name')} are {weights.shape} after augmentation and the label "
                f"{labels.shape}; an augmentation treats them differently: set MODEL.PNM.SOURCE online"
            )
        weights[weights == 0] = 1
        weights[labels == self.ignore_label] = 0
        return {**mapped.sample, "pixel_weights": torch.from_numpy(weights)}

    def _weights(self, entry: dict, mapped: MappedSample, labels: np.ndarray) -> np.ndarray:
        """(H, W) float32, of the sample's ``labels`` or of whatever they were made of."""
        # Labels above 255 are floats, which Detectron2 resizes in another way: what goes with them goes as they do.
        are_floats = mapped.labels is not None and mapped.labels.dtype == np.float32
        if self.source == "online":
            if self.labels == PANOPTIC:
                labels = _moved(self._original(entry, mapped), mapped.transforms, are_floats)
            return pixel_weights(self._null_model(labels), self.pnm.transform, overwrite_pnm=True)
        if self.offline is not None:
            encoded = self.offline.read(self._file(entry))
        else:
            original = self._original(entry, mapped)
            encoded = encode_surprisal(self._null_model(original), original == self._ignored)
        return weights_of_surprisal(move_surprisal(encoded, mapped.transforms, are_floats), self.pnm.transform)

    @property
    def _ignored(self) -> int:
        return VOID if self.labels == PANOPTIC else self.ignore_label

    def _null_model(self, labels: np.ndarray) -> np.ndarray:
        return pixel_null_model(labels, self.pnm.locality, ignore_label=self._ignored, border=self.pnm.border)

    def _file(self, entry: dict) -> str:
        file = self.label_files.of(entry, self.labels)
        if file is None:
            raise UserError(
                f"{entry.get('file_name', 'a sample')} has no {self.labels} label file, which MODEL.PNM.LABELS asks for"
            )
        return file

    def _original(self, entry: dict, mapped: MappedSample) -> np.ndarray:
        """The labels before augmentation, semantic ones or ids of segments."""
        if self.labels == SEMANTIC:
            assert mapped.labels is not None
            return mapped.labels.astype(np.int32) if mapped.labels.dtype == np.float32 else mapped.labels
        if mapped.segments is not None:
            return mapped.segments
        file = self._file(entry)
        ids = read_panoptic_png(file)
        if mapped.labels is not None and ids.shape != mapped.labels.shape:
            raise UserError(
                f"{entry['file_name']} is {' x '.join(map(str, mapped.labels.shape))}, its panoptic PNG {file} is "
                f"{' x '.join(map(str, ids.shape))}: expected one size"
            )
        return ids


def _moved(ids: np.ndarray, transforms: T.TransformList, are_floats: bool) -> np.ndarray:
    """Ids of segments after the transforms, as their labels go."""
    if are_floats:  # ids have 24 bits, which single precision holds
        return transforms.apply_segmentation(ids.astype(np.float32)).astype(np.int32)
    return moved_ids(ids, transforms)


def _weights_samples(cfg: CfgNode) -> bool:
    """Whether a semantic loss is weighted."""
    return semantic_settings(cfg) is not None and cfg.MODEL.META_ARCHITECTURE != "GeneralizedRCNN"


def check_labels(cfg: CfgNode, metadata: Mapping[str, Any]) -> None:
    """A UserError unless the training data sets among ``metadata`` have the labels that are to be weighted."""
    if not _weights_samples(cfg) or cfg.MODEL.PNM.LABELS != PANOPTIC:
        return
    for name in (name for name in cfg.DATASETS.TRAIN if name in metadata):
        if not any(metadata[name].get(key, None) for key in ("panoptic_json", "segments_root")):
            raise UserError(
                f"MODEL.PNM.LABELS is panoptic, but data set {name} has no panoptic PNGs: train on a panoptic data "
                "set such as cityscapes_fine_panoptic_train, name the PNGs' folder as segments in DATASETS.REGISTER, "
                "or set MODEL.PNM.LABELS semantic"
            )


def add_pixel_weights(cfg: CfgNode, mapper: Callable) -> Callable:
    """The training mapper, with pixel weights in its samples if ``MODEL.PNM`` weights a semantic loss."""
    if not _weights_samples(cfg):
        return mapper
    return PixelWeightMapper.from_config(cfg, mapper)
