"""Instance masks of one image: bitmaps, polygons, and small masks relative to boxes."""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import pycocotools.mask as coco_mask
import torch
from detectron2.layers.mask_ops import paste_masks_in_image
from detectron2.layers.roi_align import roi_align
from detectron2.utils.memory import retry_if_cuda_oom

from .boxes import Boxes


def polygon_area(x: np.ndarray, y: np.ndarray) -> float:
    """Area enclosed by a simple polygon (shoelace formula)."""
    return 0.5 * np.abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))


def polygons_to_bitmask(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Union of polygons as a (height, width) boolean array, drawn by COCO's rule.

    Args:
        polygons: each [x0, y0, x1, y1, …] in pixels. An empty list gives an empty mask.
    """
    if not polygons:
        return np.zeros((height, width), dtype=bool)
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return coco_mask.decode(merged).astype(bool)


def rasterize_polygons_within_box(polygons: list[np.ndarray], box: np.ndarray, mask_size: int) -> torch.Tensor:
    """The part of an instance inside ``box`` = (x0, y0, x1, y1), stretched to a (mask_size, mask_size) boolean mask."""
    # A box thinner than a tenth of a pixel counts as that thick.
    scale_xy = np.array([mask_size / max(side, 0.1) for side in box[2:] - box[:2]])
    local = [((polygon.reshape(-1, 2) - box[:2]) * scale_xy).reshape(-1) for polygon in polygons]
    return torch.from_numpy(polygons_to_bitmask(local, mask_size, mask_size))


class BitMasks:
    """N bitmaps of one image.

    Attributes:
        tensor: (N, H, W) booleans.
        image_size: (H, W).
    """

    def __init__(self, tensor: torch.Tensor | np.ndarray):
        tensor = torch.as_tensor(tensor).to(torch.bool)
        if tensor.dim() != 3:
            raise ValueError(f"BitMasks needs an (N, H, W) tensor, got shape {tuple(tensor.shape)}")
        self.tensor = tensor
        self.image_size = tensor.shape[1:]

    def __len__(self) -> int:
        return len(self.tensor)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.tensor)

    def __getitem__(self, item) -> "BitMasks":
        """Selects by integer (one mask), slice, index vector or boolean vector; may share memory."""
        return BitMasks(self.tensor[item][None] if isinstance(item, int) else self.tensor[item])

    def __repr__(self) -> str:
        return f"BitMasks(num_instances={len(self)})"

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def to(self, *args, **kwargs) -> "BitMasks":
        return BitMasks(self.tensor.to(*args, **kwargs))

    def nonempty(self) -> torch.Tensor:
        """(N,) booleans: the mask has a pixel."""
        return self.tensor.flatten(1).any(dim=1)

    @staticmethod
    def from_polygon_masks(
        polygon_masks: "PolygonMasks | list[list[np.ndarray]]", height: int, width: int
    ) -> "BitMasks":
        """Draws each instance's polygons on an image of that size."""
        drawn = [polygons_to_bitmask(polygons, height, width) for polygons in polygon_masks]
        return BitMasks(np.stack(drawn) if drawn else np.zeros((0, height, width), dtype=bool))

    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        """Mask targets: the i-th mask inside the i-th box, as (N, mask_size, mask_size) booleans.

        Each cell averages bilinear samples of the bitmap and is true from 0.5 on.

        Args:
            boxes: (N, 4) corners in pixels.
        """
        _check_one_box_each(self, boxes)
        rows = torch.arange(len(boxes), device=self.device, dtype=boxes.dtype)
        rois = torch.cat([rows[:, None], boxes.to(self.device)], dim=1)
        return roi_align(self.tensor[:, None].float(), rois.float(), mask_size, 1.0, 0, True)[:, 0] >= 0.5

    def get_bounding_boxes(self) -> Boxes:
        """Tight boxes; all zero for an empty mask."""
        corners = torch.zeros(len(self), 4, device=self.device)
        if self.tensor.numel() == 0:
            return Boxes(corners)
        for axis, occupied in enumerate((self.tensor.any(dim=1), self.tensor.any(dim=2))):
            hits = occupied.to(torch.uint8)
            corners[:, axis] = hits.argmax(dim=1).float()
            corners[:, axis + 2] = hits.shape[1] - hits.flip(1).argmax(dim=1).float()
        return Boxes(corners * self.nonempty()[:, None])

    @staticmethod
    def cat(bitmasks_list: Sequence["BitMasks"]) -> "BitMasks":
        return BitMasks(torch.cat([masks.tensor for masks in bitmasks_list]))


class PolygonMasks:
    """N instances as lists of polygons.

    Attributes:
        polygons: per instance a list of float64 vectors [x0, y0, x1, y1, …] in pixels.
    """

    def __init__(self, polygons: list[list[np.ndarray | torch.Tensor | list]]):
        """
        Raises:
            ValueError: when the nesting is wrong or a polygon has fewer than 3 points or an odd count of numbers.
        """
        if not isinstance(polygons, list) or not all(isinstance(instance, list) for instance in polygons):
            raise ValueError(
                f"PolygonMasks needs a list of instances, each a list of polygons; got {type(polygons).__name__} "
                f"of {sorted({type(instance).__name__ for instance in polygons})}"
            )
        self.polygons = [[_as_polygon(polygon) for polygon in instance] for instance in polygons]

    @classmethod
    def _of_checked(cls, polygons: list[list[np.ndarray]]) -> "PolygonMasks":
        """Wraps polygons that another PolygonMasks has already checked."""
        masks = cls.__new__(cls)
        masks.polygons = polygons
        return masks

    def __len__(self) -> int:
        return len(self.polygons)

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        return iter(self.polygons)

    def __repr__(self) -> str:
        return f"PolygonMasks(num_instances={len(self)})"

    def __getitem__(self, item) -> "PolygonMasks":
        """Selects by integer (one instance), slice, list or vector of indices, or boolean vector."""
        if isinstance(item, int):
            chosen = [self.polygons[item]]
        elif isinstance(item, slice):
            chosen = self.polygons[item]
        else:
            item = torch.as_tensor(item)
            if item.dtype.is_floating_point and item.numel():
                raise ValueError(f"PolygonMasks cannot be indexed by {item.dtype}: use integers or booleans")
            indices = item.nonzero()[:, 0] if item.dtype == torch.bool else item
            chosen = [self.polygons[index] for index in indices.tolist()]
        return self._of_checked(chosen)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def to(self, *args, **kwargs) -> "PolygonMasks":
        """Polygons stay on the CPU."""
        return self

    def nonempty(self) -> torch.Tensor:
        """(N,) booleans: the instance has a polygon."""
        return torch.tensor([len(instance) > 0 for instance in self.polygons], dtype=torch.bool)

    def area(self) -> torch.Tensor:
        """(N,) float64 sums of the polygons' areas."""
        areas = [sum(polygon_area(p[0::2], p[1::2]) for p in instance) for instance in self.polygons]
        return torch.tensor(areas, dtype=torch.float64)

    def get_bounding_boxes(self) -> Boxes:
        """Tight boxes, in which no coordinate of the second corner is below 0; (inf, inf, 0, 0) without polygons."""
        corners = torch.zeros(len(self), 4)
        corners[:, :2] = torch.inf
        for row, instance in zip(corners, self.polygons):
            if instance:
                points = torch.from_numpy(np.concatenate(instance).reshape(-1, 2)).float()
                row[:2] = points.amin(dim=0)
                row[2:] = points.amax(dim=0).clamp(min=0)
        return Boxes(corners)

    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        """Mask targets: the i-th instance inside the i-th box, as (N, mask_size, mask_size) booleans.

        Args:
            boxes: (N, 4) corners in pixels.
        """
        _check_one_box_each(self, boxes)
        drawn = [
            rasterize_polygons_within_box(instance, box, mask_size)
            for instance, box in zip(self.polygons, boxes.detach().cpu().numpy())
        ]
        masks = torch.stack(drawn) if drawn else torch.zeros(0, mask_size, mask_size, dtype=torch.bool)
        return masks.to(boxes.device)

    @staticmethod
    def cat(polymasks_list: Sequence["PolygonMasks"]) -> "PolygonMasks":
        return PolygonMasks._of_checked(list(chain.from_iterable(masks.polygons for masks in polymasks_list)))


def _as_polygon(points) -> np.ndarray:
    if isinstance(points, torch.Tensor):
        points = points.cpu().numpy()
    polygon = np.array(points, dtype=np.float64)
    if polygon.ndim != 1 or polygon.size % 2 or polygon.size < 6:
        raise ValueError(
            f"a polygon needs an even count of at least 6 numbers [x0, y0, x1, y1, …], got shape {polygon.shape}"
        )
    return polygon


def _check_one_box_each(masks, boxes: torch.Tensor) -> None:
    if len(masks) != len(boxes):
        raise ValueError(f"{len(masks)} masks need as many boxes, got {len(boxes)}")


class ROIMasks:
    """N small masks, each defined inside a box that is kept elsewhere.

    Attributes:
        tensor: (N, M, M) probabilities or booleans.
    """

    def __init__(self, tensor: torch.Tensor):
        if tensor.dim() != 3:
            raise ValueError(f"ROIMasks needs an (N, M, M) tensor, got shape {tuple(tensor.shape)}")
        self.tensor = tensor

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, item) -> "ROIMasks":
        """Selects by slice, index vector or boolean vector."""
        return ROIMasks(self.tensor[item])

    def __repr__(self) -> str:
        return f"ROIMasks(num_instances={len(self)})"

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def to(self, device: torch.device | str) -> "ROIMasks":
        return ROIMasks(self.tensor.to(device))

    def to_bitmasks(self, boxes: Boxes, height: int, width: int, threshold: float = 0.5) -> BitMasks:
        """Pastes each mask into its box; a pixel belongs to the mask from ``threshold`` on."""
        paste = retry_if_cuda_oom(paste_masks_in_image)
        return BitMasks(paste(self.tensor, boxes.tensor, (height, width), threshold=threshold))
