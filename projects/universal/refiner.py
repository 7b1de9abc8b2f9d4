"""The meta-architecture of the universal refiner."""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import get_event_storage

from pnm.errors import UserError
from pnm.masks.crops import MaskCrop
from pnm.network_backends.choice import check_backend
from pnm.network_backends.onnx_models import Exportable
from pnm.network_backends.precision import is_bfloat16
from pnm.object_refinement.decision import decision_of
from pnm.object_refinement.exporting import exportable_network
from pnm.object_refinement.network import ARCHITECTURES, RefinementNetwork, foreground_logits
from pnm.object_refinement.prediction import PIXEL_MEAN, PIXEL_STD, network_prediction
from pnm.object_refinement.refiner import Refiner
from pnm.object_refinement.refining import Predict
from pnm.object_refinement.training_windows import refinement_loss

from ..refining import TASKS, RefiningModel

STRENGTH_KEY = "MODEL.REFINING_STRENGTH"


@META_ARCH_REGISTRY.register()
class UniversalRefiner(RefiningModel):
    """Refines coarse masks of an image, each seen whole and then in parts, see :mod:`pnm.object_refinement`.

    In training, an input has the windows of :class:`.window_mapper.WindowMapper`; for inference see
    :class:`..refining.RefiningModel`.
    """

    dataset_mapper = "window_mapper"
    backend_key = "MODEL.UNIVERSAL.BACKEND"
    refines_any_task = True
    has_strength = True

    @configurable
    def __init__(
        self,
        network: RefinementNetwork,
        *,
        task: str,
        strength: float = 1.0,
        error_weight: float = 1.0,
        bfloat16: bool = False,
        num_classes: int = 0,
        precision: str = "float32",
        backend: str = "torch",
    ):
        """
        Args:
            network: of :mod:`pnm.object_refinement.network`.
            task: "instance", "semantic" or "panoptic".
            strength: see :func:`pnm.object_refinement.decision.decision_of`.
            error_weight: in training, see :func:`pnm.object_refinement.training_windows.refinement_loss`.
            bfloat16: train in mixed precision, on CPUs, too.
            num_classes: of the one-hot "sem_seg".
            precision, backend: of inference on the CPU, see
                :func:`pnm.object_refinement.prediction.network_prediction`.
        """
        if not 1 <= error_weight < 1000:
            raise UserError(f"MODEL.UNIVERSAL.ERROR_WEIGHT is {error_weight}, expected a number from 1 on, like 5")
        if task not in TASKS:
            raise UserError(f"MODEL.UNIVERSAL.TASK is {task!r}, expected one of {', '.join(TASKS)}")
        super().__init__(
            task=task, pixel_mean=PIXEL_MEAN.tolist(), pixel_std=PIXEL_STD.tolist(), num_classes=num_classes
        )
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        decision_of(strength, STRENGTH_KEY)
        self.strength, self.mixed_precision, self.error_weight = strength, bfloat16, error_weight
        is_bfloat16(precision, "MODEL.UNIVERSAL.PRECISION_TEST")
        check_backend(backend, self.backend_key)
        self.precision, self.backend = precision, backend
        self._predict: Predict | None = None

    @classmethod
    def task_of(cls, cfg: CfgNode) -> str:
        return cfg.MODEL.UNIVERSAL.TASK

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.UNIVERSAL
        if node.NETWORK not in ARCHITECTURES:
            raise UserError(f"MODEL.UNIVERSAL.NETWORK is {node.NETWORK!r}, expected one of {', '.join(ARCHITECTURES)}")
        if cfg.INPUT.FORMAT != "RGB":
            raise UserError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT!r}, the universal refiner takes RGB")
        return {
            "network": RefinementNetwork(ARCHITECTURES[node.NETWORK]),
            "task": node.TASK,
            "strength": cfg.MODEL.REFINING_STRENGTH,
            "error_weight": node.ERROR_WEIGHT,
            "bfloat16": node.BFLOAT16,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "precision": node.PRECISION_TEST,
            "backend": node.BACKEND,
        }

    def exportable(self) -> Exportable:
        return exportable_network(self.network)

    def losses(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor]:
        """``loss_refinement``, see :func:`pnm.object_refinement.training_windows.refinement_loss`."""
        windows, targets, counted = (
            torch.cat([x[name] for x in batched_inputs]).to(self.device) for name in ("windows", "targets", "counted")
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed_precision):
            maps = self.network(windows.contiguous(memory_format=torch.channels_last))
        coarse = windows[:, 3] > 0
        self._log_errors(foreground_logits(maps.detach().float(), coarse) > 0, coarse, targets, counted)
        return {"loss_refinement": refinement_loss(maps, coarse, targets, counted, self.error_weight)}

    @staticmethod
    def _log_errors(refined: torch.Tensor, coarse: torch.Tensor, targets: torch.Tensor, counted: torch.Tensor) -> None:
        """Wrong pixels after, as a share of those before, of masks that have errors; pixels of right masks changed."""
        wrong_before, wrong_after = (((mask != targets) & counted).flatten(1).sum(1) for mask in (coarse, refined))
        is_right = wrong_before == 0
        storage = get_event_storage()
        storage.put_scalar("universal/errors_left", wrong_after[~is_right].sum() / wrong_before.sum().clamp(min=1))
        storage.put_scalar(
            "universal/right_masks_changed_px", wrong_after[is_right].float().sum() / is_right.sum().clamp(1)
        )

    def prepare_inference(self) -> None:
        """From now on until the next training the network is run as it is now, on a CPU by ``backend``."""
        backend = self.backend if self.device.type == "cpu" else "torch"
        self._predict = network_prediction(self.network, backend=backend, precision=self.precision)

    def train(self, mode: bool = True) -> "UniversalRefiner":
        self._predict = None if mode else self._predict
        super().train(mode)
        return self

    def _refiner(self) -> Refiner:
        """By pixels alone: a belief is fitted when training is over (tools/pack_refiner.py)."""
        predict = self._predict or network_prediction(self.network, precision=self.precision)
        return Refiner.with_prediction(predict, strength=self.strength)

    @staticmethod
    def _pixels(image: torch.Tensor) -> np.ndarray:
        return np.ascontiguousarray(image.cpu().numpy().transpose(1, 2, 0))

    def refine_objects(self, image: torch.Tensor, crops: Sequence[MaskCrop]) -> list[MaskCrop]:
        return [one.crop for one in self._refiner().refine_objects(self._pixels(image), crops)]

    def refine_partition(self, image: torch.Tensor, labels: np.ndarray, segments: Sequence[int]) -> np.ndarray:
        """See :func:`pnm.object_refinement.partitions.claimed_labels`."""
        return self._refiner().refine_partition(self._pixels(image), labels, segments)
