"""``catalog://`` addresses: networks published with Detectron2's predecessor, in its Caffe2 format."""

from typing import IO, Any

from detectron2.utils.file_io import PathHandler, PathManager

__all__ = ["ModelCatalog"]

_SERVER = "https://dl.fbaipublicfiles.com/detectron"

# Batch norm is folded into a scale and a shift: use them with FrozenBN and PIXEL_STD = [1, 1, 1].
# STRIDE_IN_1X1 is True for MSRA's and False for the others.
_IMAGENET = {
    "MSRA/R-50": "MSRA/R-50",
    "MSRA/R-101": "MSRA/R-101",
    "FAIR/R-50-GN": "47261647/R-50-GN",
    "FAIR/R-101-GN": "47592356/R-101-GN",
    "FAIR/X-101-32x8d": "20171220/X-101-32x8d",
    "FAIR/X-101-64x4d": "FBResNeXt/X-101-64x4d",
    "FAIR/X-152-32x8d-IN5k": "25093814/X-152-32x8d-IN5k",
}

# name of the network -> folder of its training run
_COCO = {
    "35858933/e2e_mask_rcnn_R-50-FPN_1x": "{}/12_2017_baselines/{}.yaml.01_48_14.DzEQe4wC",
    "35861795/e2e_mask_rcnn_R-101-FPN_1x": "{}/12_2017_baselines/{}.yaml.02_31_37.KqyEK4tT",
    "36761843/e2e_mask_rcnn_X-101-32x8d-FPN_1x": "{}/12_2017_baselines/{}.yaml.06_35_59.RZotkLKI",
    "48616381/e2e_mask_rcnn_R-50-FPN_2x_gn": "GN/{}/04_2018_gn_baselines/{}_0416.13_23_38.bTlTI97Q",
}
_COCO_OUTPUT = "output/train/coco_2014_train%3Acoco_2014_valminusminival/generalized_rcnn/model_final.pkl"


class ModelCatalog:
    """Names of published networks, such as ``ImageNetPretrained/MSRA/R-50``."""

    @staticmethod
    def get(name: str) -> str:
        """The address of the network's file.

        Raises:
            KeyError: no such name; the message lists all names.
        """
        group, _, rest = name.partition("/")
        if group == "ImageNetPretrained" and rest in _IMAGENET:
            return f"{_SERVER}/ImageNetPretrained/{_IMAGENET[rest]}.pkl"
        run = rest.removeprefix("COCO/")
        if group == "Caffe2Detectron" and run in _COCO:
            return f"{_SERVER}/{_COCO[run].format(*run.split('/'))}/{_COCO_OUTPUT}"
        known = [f"ImageNetPretrained/{key}" for key in _IMAGENET] + [f"Caffe2Detectron/COCO/{key}" for key in _COCO]
        raise KeyError(f"catalog://{name} is not in the catalog; it has {', '.join(known)}")


class _CatalogHandler(PathHandler):
    """``catalog://NAME``."""

    def _get_supported_prefixes(self) -> list[str]:
        return ["catalog://"]

    def _get_local_path(self, path: str, **kwargs: Any) -> str:
        return PathManager.get_local_path(ModelCatalog.get(path.removeprefix("catalog://")), **kwargs)

    def _open(self, path: str, mode: str = "r", **kwargs: Any) -> IO:
        return PathManager.open(self._get_local_path(path), mode, **kwargs)


PathManager.register_handler(_CatalogHandler())
