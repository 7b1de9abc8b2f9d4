"""Reading images and turning annotations into what models take."""

# ruff: noqa: NPY002 - the global generator is the interface: a seed set for Detectron2 must give the same numbers.

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks, polygons_to_bitmask
from detectron2.utils.file_io import PathManager
from PIL import Image
from pycocotools import mask as mask_util

from . import transforms as T
from .catalog import MetadataCatalog

# BT.601, analogue: rows give Y, U and V from R, G and B in 0–1, and back.
_M_RGB2YUV = np.array([[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]])
_M_YUV2RGB = np.array([[1.0, 0.0, 1.13983], [1.0, -0.39465, -0.58060], [1.0, 2.03211, 0.0]])

_EXIF_ORIENTATION_TAG = 274
# How to undo the EXIF orientations 2 to 8.
_UPRIGHT = dict(
    zip(
        range(2, 9),
        (
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ),
        strict=True,
    )
)


class SizeMismatchError(ValueError):
    """An image is not as large as its data set entry says."""


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> np.ndarray:
    """(H, W, C) array of a PIL image; see :func:`read_image` for ``format``. "L" gives (H, W, 1)."""
    if format is None:
        return np.asarray(image)
    array = np.asarray(image.convert("RGB" if format in ("BGR", "YUV-BT.601") else format))
    if format == "BGR":
        return array[:, :, ::-1]
    if format == "YUV-BT.601":
        return np.dot(array / 255.0, _M_RGB2YUV.T)
    return array[:, :, None] if format == "L" else array


def convert_image_to_rgb(image, format: str) -> np.ndarray:
    """(H, W, 3) RGB in 0–255 from an (H, W, C) array or tensor in ``format``; uint8 except for BGR and YUV inputs."""
    array = image.cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if format == "BGR":
        return array[:, :, [2, 1, 0]]
    if format == "YUV-BT.601":
        return np.dot(array, _M_YUV2RGB.T) * 255.0
    array = np.ascontiguousarray(array.astype(np.uint8))
    size = array.shape[1::-1]
    return np.asarray(Image.frombytes(format, size, array.tobytes()).convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION_TAG)
    except Exception:  # Malformed EXIF blocks raise all kinds of errors; the pixels are fine.
        return image
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def read_image(file_name: str, format: str | None = None) -> np.ndarray:
    """Reads an image, turned upright by its EXIF orientation.

    Args:
        file_name: path or URL that iopath can open.
        format: a PIL mode ("RGB", "L", …), "BGR", "YUV-BT.601" (float, Y in 0–1), or None for the file's own.

    Returns: (H, W, C) array.
    Raises: FileNotFoundError if it is not there, ValueError if it cannot be decoded (truncated, not an image).
    """
    try:
        with PathManager.open(file_name, "rb") as stream, Image.open(stream) as image:
            return convert_PIL_to_numpy(_upright(image), format)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"image {file_name} does not exist: check DETECTRON2_DATASETS and the data set's image folder"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else error
        raise ValueError(f"image {file_name} cannot be read ({reason}): fetch it again, or fix its entry") from error


def check_image_size(dataset_dict: dict, image: np.ndarray) -> None:
    """Compares the image with the entry's "height" and "width", or writes them there where they are missing.

    Raises: SizeMismatchError.
    """
    size = {"height": image.shape[0], "width": image.shape[1]}
    wrong = [side for side, length in size.items() if dataset_dict.get(side, length) != length]
    if wrong:
        expected = " × ".join(str(dataset_dict.get(side, size[side])) for side in size)
        raise SizeMismatchError(
            f"image {dataset_dict.get('file_name', '(no file name)')} is {image.shape[0]} × {image.shape[1]} (h × w) "
            f"but its data set entry says {expected}: correct height and width in the annotation file, or the image"
        )
    for side, length in size.items():
        dataset_dict.setdefault(side, length)


def transform_instance_annotations(annotation: dict, transforms, image_size, *, keypoint_hflip_indices=None) -> dict:
    """Moves one instance's box and mask (polygons or RLE) along with the image.

    Args:
        annotation: with "bbox", "bbox_mode" and optionally "segmentation".
        transforms: TransformList or list of Transform.
        image_size: (h, w) after the transforms.

    Returns: a new dict; the box is an XYXY array inside the image, polygons are flat arrays, an RLE becomes
    an (h, w) array.
    """
    if "keypoints" in annotation:
        raise _keypoints_outside()
    transforms = T.TransformList(transforms) if isinstance(transforms, (list, tuple)) else transforms
    height, width = image_size
    box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
    box = transforms.apply_box(np.array([box]))[0].clip(min=0)
    out = dict(annotation, bbox=np.minimum(box, [width, height, width, height]), bbox_mode=BoxMode.XYXY_ABS)
    if "segmentation" in annotation:
        out["segmentation"] = _transform_segmentation(annotation["segmentation"], transforms, (height, width))
    return out


def _transform_segmentation(segmentation, transforms, image_size):
    if isinstance(segmentation, list):
        points = [np.asarray(polygon).reshape(-1, 2) for polygon in segmentation]
        return [moved.reshape(-1) for moved in transforms.apply_polygons(points)]
    if isinstance(segmentation, dict):
        mask = transforms.apply_segmentation(mask_util.decode(segmentation))
        if tuple(mask.shape[:2]) != tuple(image_size):
            raise ValueError(
                f"an RLE mask of {segmentation['size']} (h, w) became {mask.shape[:2]}, the image {tuple(image_size)}: "
                "the RLE's size must be the image's"
            )
        return mask
    raise _unknown_segmentation(segmentation)


def _keypoints_outside() -> ImportError:
    return ImportError("key points are outside the embedded engine: install Detectron2 itself to train on them")


def _unknown_segmentation(segmentation) -> ValueError:
    kind = type(segmentation).__name__
    return ValueError(f"a segmentation is a list of polygons, a COCO RLE dict or an (H, W) array, got {kind}")


def annotations_to_instances(annos: list[dict], image_size, mask_format: str = "polygon") -> Instances:
    """Instances with gt_boxes, gt_classes and (if annotated) gt_masks, as models take them in training.

    Args:
        annos: transformed annotations of one image.
        image_size: (h, w).
        mask_format: "polygon" (PolygonMasks) or "bitmask" (BitMasks).
    """
    target = Instances(image_size)
    boxes = [BoxMode.convert(obj["bbox"], obj["bbox_mode"], BoxMode.XYXY_ABS) for obj in annos]
    target.gt_boxes = Boxes(np.stack(boxes) if boxes else np.zeros((0, 4)))
    target.gt_classes = torch.tensor([int(obj["category_id"]) for obj in annos], dtype=torch.int64)
    if annos and "segmentation" in annos[0]:
        segmentations = [obj["segmentation"] for obj in annos]
        if mask_format == "polygon":
            target.gt_masks = _polygon_masks(segmentations)
        elif mask_format == "bitmask":
            # Decoded masks are in column order: each is turned into rows and booleans in one go.
            masks = np.empty((len(annos), *image_size), dtype=bool)
            for mask, segmentation in zip(masks, segmentations, strict=True):
                mask[:] = _to_bitmask(segmentation, image_size)
            target.gt_masks = BitMasks(torch.from_numpy(masks))
        else:
            raise ValueError(f'mask_format must be "polygon" or "bitmask", got {mask_format!r}')
    return target


def _polygon_masks(segmentations: list) -> PolygonMasks:
    if not all(isinstance(segmentation, list) for segmentation in segmentations):
        raise ValueError("the annotations hold RLE or bitmap masks, not polygons: set INPUT.MASK_FORMAT to bitmask")
    return PolygonMasks(segmentations)


def _to_bitmask(segmentation, image_size) -> np.ndarray:
    if isinstance(segmentation, list):
        return polygons_to_bitmask(segmentation, *image_size)
    if isinstance(segmentation, dict):
        return mask_util.decode(segmentation)
    if isinstance(segmentation, np.ndarray) and segmentation.ndim == 2:
        return segmentation
    raise _unknown_segmentation(segmentation)


def filter_empty_instances(
    instances: Instances,
    by_box: bool = True,
    by_mask: bool = True,
    box_threshold: float = 1e-5,
    return_mask: bool = False,
):
    """Drops instances whose box has a side ≤ ``box_threshold`` pixels or whose mask is empty.

    Returns: Instances, and with ``return_mask`` also the boolean (N,) tensor of those kept.
    """
    if not (by_box or by_mask):
        raise ValueError("filter_empty_instances needs by_box, by_mask or both")
    kept = torch.ones(len(instances), dtype=torch.bool, device=instances.gt_boxes.device)
    if by_box:
        kept &= instances.gt_boxes.nonempty(threshold=box_threshold)
    if by_mask and instances.has("gt_masks"):
        kept &= instances.gt_masks.nonempty()
    return (instances[kept], kept) if return_mask else instances[kept]


def check_metadata_consistency(key: str, dataset_names) -> None:
    """ValueError unless all data sets have the same metadata ``key``; AttributeError where it is missing."""
    values = {name: getattr(MetadataCatalog.get(name), key) for name in dataset_names}
    first, *others = values or [None]
    odd = [name for name in others if values[name] != values[first]]
    if odd:
        raise ValueError(
            f"data sets used together must have equal {key}: {', '.join(odd)} differ{'s' * (len(odd) == 1)} from "
            f"{first}; train on one of them, or register them with the same categories"
        )


def build_augmentation(cfg, is_train: bool) -> list[T.Augmentation]:
    """Resizing and flipping as the config's INPUT says."""
    if not is_train:
        return [T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice")]
    sizes, style = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    augmentations: list[T.Augmentation] = [T.ResizeShortestEdge(sizes, cfg.INPUT.MAX_SIZE_TRAIN, style)]
    flip = cfg.INPUT.RANDOM_FLIP
    if flip not in ("none", "horizontal", "vertical"):
        raise ValueError(f"INPUT.RANDOM_FLIP must be horizontal, vertical or none, got {flip!r}")
    if flip != "none":
        augmentations.append(T.RandomFlip(horizontal=flip == "horizontal", vertical=flip == "vertical"))
    return augmentations


build_transform_gen = build_augmentation
