"""Pictures of the validation set in the event file of a training: truth, and beside it what the model predicts."""

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.evaluation import inference_context
from detectron2.utils import comm

from pnm.annotations.annotation_set import AnnotatedImage, AnnotationSet
from pnm.annotations.contact_sheet import draw_image

from ..dataset_mappers.reading import read_image
from ..refining import tagged_dataset
from .data.annotated_data import registered_annotations
from .data.mappers import build_mapper
from .predicting.beside import draw_prediction
from .predicting.model_outputs import OutputReader, task_of

GAP = 6  # px between truth and prediction
_CERTAIN = 0.5  # score of objects that are drawn


class ValidationPictures(HookBase):
    """After each evaluation, draws ``TEST.VIS_IMAGES`` images of the first data set in ``DATASETS.TEST``.

    They lie at equal distances in the data set, and are the same each time, so that TensorBoard's slider shows how the
    model learns. The main process does it; a refiner refines what ``DATASETS.PREDICTIONS_TEST`` has.
    """

    def __init__(self, cfg: CfgNode, model: torch.nn.Module):
        self._cfg, self._model = cfg, model
        self._drawn_at = -1

    def after_step(self) -> None:
        period, done = self._cfg.TEST.EVAL_PERIOD, self.trainer.iter + 1
        if period > 0 and done % period == 0 or done == self.trainer.max_iter:
            self._draw()

    def _draw(self) -> None:
        """Puts the pictures into the trainer's storage, from which its writers take them."""
        if not comm.is_main_process() or self._drawn_at == self.trainer.iter:
            return
        self._drawn_at = self.trainer.iter
        name = self._cfg.DATASETS.TEST[0]
        records = tagged_dataset([name], filter_empty=False)
        places = np.linspace(0, len(records) - 1, min(self._cfg.TEST.VIS_IMAGES, len(records))).astype(int)
        chosen = [records[place] for place in dict.fromkeys(places.tolist())]
        truth, mapper = registered_annotations(name, chosen), build_mapper(self._cfg, is_train=False)
        for record, annotated in zip(chosen, truth.images, strict=True):
            sample = mapper(record)
            if sample is not None:  # a refiner has nothing to refine
                picture = self._picture(sample, truth, annotated)
                tag = f"validation/{annotated.name}"
                self.trainer.storage.put_image(tag, np.ascontiguousarray(picture.transpose(2, 0, 1)))

    def _picture(self, sample: dict, truth: AnnotationSet, annotated: AnnotatedImage) -> np.ndarray:
        """(H, 2 W + GAP, 3) uint8: truth on the left, prediction on the right."""
        with inference_context(self._model), torch.no_grad():
            (output,) = self._model([sample])
        reader = OutputReader(self._cfg, task_of(output))
        pixels = read_image(sample["file_name"], "RGB")
        drawn = draw_prediction(pixels, reader(output), reader.classes.categories, _CERTAIN)
        return np.hstack([draw_image(truth, annotated), np.full((len(pixels), GAP, 3), 255, np.uint8), drawn])
