"""The trainer: Detectron2's, with safe checkpoints, mappers by name, and DDP on CPUs, too."""

import weakref
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import AMPTrainer, DefaultTrainer, SimpleTrainer, TrainerBase, hooks
from detectron2.utils import comm
from torch.nn.parallel import DistributedDataParallel

from pnm.errors import UserError

from ..refining import check_learnable, refined_task, tagged_dataset
from .checkpoint import SafeCheckpointer
from .cpu_training import fuse_updates, to_fast_format, train_in_bfloat16
from .data.data_errors import as_user_error
from .data.mappers import build_mapper
from .data.shared_batches import check_shares
from .data.train_loader import SeedEachIteration, build_train_loader, start_at, training_entries
from .evaluation.evaluators import build_evaluator
from .evaluation.report_pages import write_reports
from .solver import lr_scheduler_from_config, optimizer_from_config, refuse_states_of_others
from .validation_pictures import ValidationPictures


def distribute(model: torch.nn.Module) -> torch.nn.Module:
    """Wraps the model in DistributedDataParallel if there are several processes; on GPUs or on CPUs."""
    if comm.get_world_size() == 1:
        return model
    on_gpu = next(model.parameters()).is_cuda
    return DistributedDataParallel(
        model, device_ids=[comm.get_local_rank()] if on_gpu else None, broadcast_buffers=False
    )


def share_buffers(model: torch.nn.Module) -> None:
    """Gives all processes the main one's buffers, which its checkpoints hold.

    Plain batch norm has its own running statistics in each process: without this, evaluating while training would score
    another model in each of them.
    """
    if comm.get_world_size() == 1:
        return
    for buffer in model.buffers():
        torch.distributed.broadcast(buffer, 0)


class Trainer(DefaultTrainer):
    """Trains and evaluates whatever a config describes."""

    def __init__(self, cfg: CfgNode):
        TrainerBase.__init__(self)
        if cfg.SOLVER.MAX_ITER < 1:
            raise UserError(f"SOLVER.MAX_ITER is {cfg.SOLVER.MAX_ITER}, expected at least one iteration")
        # Scales batch size, learning rate and schedule when SOLVER.REFERENCE_WORLD_SIZE asks for it.
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        on_gpu = cfg.MODEL.DEVICE.startswith("cuda")
        loop = AMPTrainer if cfg.SOLVER.AMP.ENABLED and on_gpu else SimpleTrainer
        if cfg.SOLVER.AMP.ENABLED and not on_gpu:
            train_in_bfloat16(model)
        self._trainer = loop(distribute(model), self.build_train_loader(cfg), optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        # The proxy keeps the checkpointer from owning the trainer that owns it.
        self.checkpointer = SafeCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks([SeedEachIteration(cfg.SEED), *self.build_hooks()])

    def resume_or_load(self, resume=True):
        """See Detectron2; a UserError if the checkpoint has been trained for longer than this run is to be."""
        super().resume_or_load(resume)
        if self.start_iter > self.max_iter:
            raise UserError(
                f"SOLVER.MAX_ITER is {self.max_iter}, and {self.checkpointer.get_checkpoint_file()} has been trained "
                f"for {self.start_iter} iterations already: give at least as many to go on, or begin another run "
                "(OUTPUT_DIR)"
            )
        start_at(self._trainer.data_loader, self.start_iter)

    def train(self):
        if self.start_iter >= self.max_iter and not (Path(self.cfg.OUTPUT_DIR) / "model_final.pth").is_file():
            self.iter = self.max_iter - 1  # the run was killed between its last checkpoint and this one
            self.checkpointer.save("model_final", iteration=self.iter)
        return super().train()

    def build_hooks(self):
        """Detectron2's; pictures follow the evaluation, and come before the writers, which take them."""
        built = super().build_hooks()
        if self.cfg.TEST.VIS_IMAGES and self.cfg.DATASETS.TEST:
            place = next(n for n, hook in enumerate(built) if isinstance(hook, hooks.EvalHook))
            built.insert(place + 1, ValidationPictures(self.cfg, self._trainer.model))
        return built

    @classmethod
    def build_model(cls, cfg):
        return to_fast_format(super().build_model(cfg))

    @classmethod
    def build_optimizer(cls, cfg, model):
        return refuse_states_of_others(fuse_updates(optimizer_from_config(cfg, model)))

    @classmethod
    def build_lr_scheduler(cls, cfg, optimizer):
        return lr_scheduler_from_config(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg):
        with as_user_error(cfg.DATASETS.TRAIN):
            check_shares(cfg)
            mapper, names = build_mapper(cfg, is_train=True), cfg.DATASETS.TRAIN
            together = [[name] for name in names] if cfg.DATALOADER.DATASET_SHARES else [names]
            if not cfg.DATASETS.PREDICTIONS_TRAIN:
                return build_train_loader(cfg, mapper, [training_entries(cfg, some) for some in together])
            parts = [tagged_dataset(some, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS) for some in together]
            entries = [entry for part in parts for entry in part]
            mapper.coarse.report(entries)
            check_learnable(mapper, entries)
            return build_train_loader(cfg, mapper, parts)

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        with as_user_error((dataset_name,)):
            mapper = build_mapper(cfg, is_train=False)
            if refined_task(cfg) is None:
                return build_detection_test_loader(cfg, dataset_name, mapper=mapper)
            dataset = tagged_dataset([dataset_name], filter_empty=False)
            mapper.coarse.report(dataset)
            return build_detection_test_loader(dataset, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS)

    @classmethod
    def test(cls, cfg, model, evaluators=None):
        share_buffers(model)
        results = super().test(cfg, model, evaluators)
        if cfg.TEST.REPORT and comm.is_main_process():
            write_reports(cfg)
        return results

    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_folder=None):
        return build_evaluator(cfg, dataset_name, output_folder)
