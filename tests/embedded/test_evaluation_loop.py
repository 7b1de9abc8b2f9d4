"""The loop over a data set, and what is done with results."""

import logging
from pathlib import Path

import detectron2
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.evaluation import (
    DatasetEvaluator,
    inference_context,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from detectron2.evaluation.testing import flatten_results_dict

BAD_INPUT = (ValueError, AssertionError)
EMBEDDED = Path(detectron2.__file__).parents[1].name == "embedded"
embedded_only = pytest.mark.skipif(not EMBEDDED, reason="the embedded engine's own promise")


class Counting(DatasetEvaluator):
    def reset(self):
        self.seen = []

    def process(self, inputs, outputs):
        self.seen += list(zip(inputs, outputs, strict=True))

    def evaluate(self):
        return {"count": len(self.seen)}


def test_inference_runs_in_eval_mode_and_calls_back():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def forward(self, batch):
            assert not self.training and not torch.is_grad_enabled()
            return [2 * x for x in batch]

    model, calls, counter = Model().train(), [], Counting()
    names = ("on_start", "before_inference", "after_inference", "on_end")
    callbacks = {name: (lambda name=name: calls.append(name)) for name in names}
    assert inference_on_dataset(model, [[1, 2], [3]], counter, callbacks) == {"count": 3}
    assert model.training and counter.seen == [(1, 2), (2, 4), (3, 6)]
    assert calls == ["on_start", *["before_inference", "after_inference"] * 2, "on_end"]
    assert inference_on_dataset(lambda batch: batch, [[1]], None) == {}
    assert inference_on_dataset(lambda batch: batch, [[1]] * 12, [Counting()]) == {"count": 12}
    with pytest.raises(BAD_INPUT):
        inference_on_dataset(lambda batch: batch, [[1]], [Counting(), Counting()])


@embedded_only
def test_modes_come_back_after_an_error():
    model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)).train()
    model[1].eval()
    with pytest.raises(RuntimeError), inference_context(model):
        assert not model[0].training
        raise RuntimeError
    assert model.training and model[0].training and not model[1].training


def test_printing_verifying_and_flattening(caplog):
    results = {"bbox": {"AP": 12.345678, "AP-cat": 1.0}, "speed": 3}
    assert flatten_results_dict({"a": {"b": {"c": 1}, "d": 2}, "e": 3}) == {"a/b/c": 1, "a/d": 2, "e": 3}
    logger = logging.getLogger("detectron2.evaluation.testing")
    with caplog.at_level(logging.INFO, logger.name):
        logger.addHandler(caplog.handler)
        print_csv_format(results)
        logger.removeHandler(caplog.handler)
    assert "12.3457" in caplog.text and "AP-cat" not in caplog.text
    cfg = get_cfg()
    assert verify_results(cfg, results)
    cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 12.3, 0.1]]
    assert verify_results(cfg, results)
    for wrong in (["bbox", "AP", 11.0, 0.1], ["bbox", "AR", 11.0, 0.1]):
        cfg.TEST.EXPECTED_RESULTS = [wrong]
        with pytest.raises(SystemExit):
            verify_results(cfg, results)
