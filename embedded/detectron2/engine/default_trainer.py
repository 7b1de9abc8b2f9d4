"""``DefaultTrainer``: a training run made from a config."""

import logging
import os
import weakref
from collections.abc import Iterable
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format, verify_results
from detectron2.modeling import build_model
from detectron2.solver import LRScheduler, build_lr_scheduler, build_optimizer
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from . import hooks
from .train_loop import AMPTrainer, HookBase, SimpleTrainer, TrainerBase

__all__ = ["DefaultTrainer", "create_ddp_model", "default_writers"]

logger = logging.getLogger(__name__)


def create_ddp_model(model: nn.Module, *, fp16_compression: bool = False, **kwargs: Any) -> nn.Module:
    """Wraps the model for data-parallel training if the run has several processes.

    Args:
        fp16_compression: exchange gradients in half precision.
        kwargs: for torch's DistributedDataParallel; ``device_ids`` defaults to this process's GPU, or to None for a
            model on the CPU.
    """
    if comm.get_world_size() == 1:
        return model
    on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    kwargs.setdefault("device_ids", [comm.get_local_rank()] if on_gpu else None)
    wrapped = DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

        wrapped.register_comm_hook(None, fp16_compress_hook)
    return wrapped


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Console lines, ``metrics.json`` and TensorBoard files in ``output_dir``."""
    PathManager.mkdirs(output_dir)
    metrics = os.path.join(output_dir, "metrics.json")
    return [CommonMetricPrinter(max_iter), JSONWriter(metrics), TensorboardXWriter(output_dir)]


class DefaultTrainer(TrainerBase):
    """Model, optimizer, loader, schedule, hooks and evaluation from a config.

    Override a ``build_*`` classmethod to replace one part. Usage: ``DefaultTrainer(cfg)``, then
    :meth:`resume_or_load`, then :meth:`train`.
    """

    def __init__(self, cfg: CfgNode):
        super().__init__()
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        self.cfg = cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        # random numbers are drawn in this order: weights first, then the loader's seeds
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        loader = self.build_train_loader(cfg)
        model = create_ddp_model(model, broadcast_buffers=False)
        loop = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = loop(model, loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = DetectionCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    @property
    def model(self) -> nn.Module:
        """The trained model, wrapped if data-parallel."""
        return self._trainer.model

    @model.setter
    def model(self, value: nn.Module) -> None:
        self._trainer.model = value

    @property
    def data_loader(self) -> Iterable:
        """The training loader."""
        return self._trainer.data_loader

    @data_loader.setter
    def data_loader(self, value: Iterable) -> None:
        self._trainer.data_loader = value

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer."""
        return self._trainer.optimizer

    @optimizer.setter
    def optimizer(self, value: Optimizer) -> None:
        self._trainer.optimizer = value

    def resume_or_load(self, resume: bool = True) -> None:
        """Continues the last run in ``OUTPUT_DIR`` if there is one and ``resume`` is set, with optimizer, schedule
        and iteration; otherwise loads the weights in ``MODEL.WEIGHTS`` and starts at iteration 0.
        """
        resume = resume and self.checkpointer.has_checkpoint()
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume:
            self.start_iter = self.iter + 1  # the stored iteration was completed

    def build_hooks(self) -> list[HookBase | None]:
        """Timing, schedule, precise batch norm, checkpoints, evaluation and writers, in this order.

        Batch norm comes before checkpoints, which should hold it; evaluation after them, so that a failure in it
        loses nothing; writers last, to report what the others recorded.
        """
        cfg = self.cfg
        checkpoints: list[HookBase] = []
        writers: list[HookBase] = []
        if comm.is_main_process():
            checkpoints.append(hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD))
            writers.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        evaluation = hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._evaluate)
        first = [hooks.IterationTimer(), hooks.LRScheduler(), self._precise_batch_norm()]
        return [*first, *checkpoints, evaluation, *writers]

    def _precise_batch_norm(self) -> HookBase | None:
        settings = self.cfg.TEST.PRECISE_BN
        if not settings.ENABLED or not get_bn_modules(self.model):
            return None
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = 0  # a second set of worker processes is not worth its memory
        return hooks.PreciseBN(cfg.TEST.EVAL_PERIOD, self.model, self.build_train_loader(cfg), settings.NUM_ITER)

    def _evaluate(self) -> dict[str, Any]:
        self._last_eval_results = self.test(self.cfg, self.model)
        return self._last_eval_results

    def build_writers(self) -> list[EventWriter]:
        """What reports the run's progress: :func:`default_writers`."""
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def train(self) -> dict[str, Any] | None:
        """Trains to ``MAX_ITER``, evaluates, and checks the results against ``TEST.EXPECTED_RESULTS`` if there are any.

        Returns:
            The last results on the main process, None on others or without evaluation.
        """
        super().train(self.start_iter, self.max_iter)
        results = getattr(self, "_last_eval_results", None) if comm.is_main_process() else None
        if self.cfg.TEST.EXPECTED_RESULTS and comm.is_main_process():
            assert results is not None, "TEST.EXPECTED_RESULTS is set, but the run evaluated nothing"
            verify_results(self.cfg, results)
        return results

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The network of ``MODEL.META_ARCHITECTURE`` on ``MODEL.DEVICE``."""
        model = build_model(cfg)
        logger.info("model:\n%s", model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        """:func:`detectron2.solver.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
        """:func:`detectron2.solver.build_lr_scheduler`."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable:
        """Endless batches of ``DATASETS.TRAIN``."""
        return build_detection_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable:
        """This process's share of one data set, once."""
        return build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """What judges predictions on one data set; for subclasses to define."""
        raise NotImplementedError(
            f"{cls.__name__} does not say how to evaluate {dataset_name}: override build_evaluator, or pass evaluators"
        )

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: DatasetEvaluator | list[DatasetEvaluator] | None = None,
    ) -> dict[str, Any]:
        """Evaluates the model on all of ``DATASETS.TEST``.

        Args:
            evaluators: one per data set; :meth:`build_evaluator` makes them if None.

        Returns:
            Results by data set, or of the only one. Empty outside the main process.
        """
        names = cfg.DATASETS.TEST
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        assert evaluators is None or len(evaluators) == len(names), f"{len(evaluators)} evaluators for {names}"
        results = {}
        for index, name in enumerate(names):
            loader = cls.build_test_loader(cfg, name)
            try:
                evaluator = evaluators[index] if evaluators else cls.build_evaluator(cfg, name)
            except NotImplementedError as error:
                logger.warning("%s is not evaluated: %s", name, error)
                results[name] = {}
                continue
            results[name] = inference_on_dataset(model, loader, evaluator)
            if comm.is_main_process():
                assert isinstance(results[name], dict), f"the evaluator of {name} gave {results[name]!r}, not a dict"
                logger.info("results for %s in csv format:", name)
                print_csv_format(results[name])
        return next(iter(results.values())) if len(results) == 1 else results

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """Rescales settings meant for ``REFERENCE_WORLD_SIZE`` processes so that each keeps its batch size.

        Batch size and learning rate grow with the number of processes, every count of iterations shrinks
        (arXiv:1706.02677). The same config is returned if nothing changes.

        Raises:
            ValueError: IMS_PER_BATCH cannot be shared by the reference number of processes.
        """
        reference, batch = cfg.SOLVER.REFERENCE_WORLD_SIZE, cfg.SOLVER.IMS_PER_BATCH
        if reference in (0, num_workers):
            return cfg
        if batch % reference:
            raise ValueError(f"SOLVER.IMS_PER_BATCH {batch} is not a multiple of REFERENCE_WORLD_SIZE {reference}")
        growth = num_workers / reference
        scaled, solver = cfg.clone(), cfg.SOLVER
        scaled.defrost()
        scaled.SOLVER.REFERENCE_WORLD_SIZE = num_workers
        scaled.SOLVER.IMS_PER_BATCH = round(batch * growth)
        scaled.SOLVER.BASE_LR = solver.BASE_LR * growth
        scaled.SOLVER.STEPS = tuple(round(step / growth) for step in solver.STEPS)
        for key in ("MAX_ITER", "WARMUP_ITERS", "CHECKPOINT_PERIOD"):
            scaled.SOLVER[key] = round(solver[key] / growth)
        scaled.TEST.EVAL_PERIOD = round(cfg.TEST.EVAL_PERIOD / growth)
        logger.info("settings rescaled from %d to %d processes:\n%s", reference, num_workers, scaled.SOLVER)
        if cfg.is_frozen():
            scaled.freeze()
        return scaled
