#!/usr/bin/env python
"""Speed and memory of SE-PSNet at 800 x 1333: whole inference beside BlendMask's, each part, and a training step.

python benchmarks/se_psnet.py
python benchmarks/se_psnet.py --only whole modules --device cuda --rounds 20
PYTHONPATH=CLONE python benchmarks/se_psnet.py --only training --rounds 1

Weights are random, and such that an image has 100 detections of mixed sizes, of which 20 take part in the panoptic
map; networks share the weights of what they share. "whole" runs the ways to infer in turn, round by round; its ratios
are medians of those of single rounds. "public code" stands for BlendMask with a stuff branch as it is published: all
switches of SE-PSNet off, attention computed at all cells, and results combined as Detectron2 does (that of CLONE, else
the engine present). Training draws ellipses for objects; each kind of step has a process of its own, whose first step
gives the memory, above that before it, and is timed only if --rounds is 0.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from prn import forget_peak, in_a_process, memory_mib  # before torch: it limits the threads

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from null_model import processor
from panoptic_fusion import engine_path
from tabulate import tabulate

ENGINE = engine_path("")  # before what imports detectron2

from detectron2.layers import paste_masks_in_image
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from pnm.projects.launcher.config import load_config
from pnm.projects.se_psnet import SEPSNet
from pnm.projects.se_psnet.box_head import AttentionLayer, CellOutputs
from pnm.projects.se_psnet.results import ImageOutputs, ResultSettings, image_results

PARTS = ("whole", "modules", "training")
SWITCHES = ("MASK_LOSS", "MASK_SCORE", "BASIS_SILHOUETTE", "MASK_AUX", "STUFF_SILHOUETTE")
ALL_OFF = tuple(text for switch in SWITCHES for text in (f"MODEL.SE_PSNET.{switch}", "False"))
UNBOUNDED = ("MODEL.SE_PSNET.MAX_POSITIVES", "100000")
DETECTIONS, TAKING_PART = 100, 20
STRIDE = 4  # of the stuff logits, px
# A class is as likely as not, and boxes are about 8 strides wide. Of so few candidates a level, the 100 best are of
# several levels; with more, those of random weights would nearly all be P3's.
DETECTING = {"FCOS.PRIOR_PROB": 0.5, "FCOS.BOX_BIAS": 4.0, "FCOS.PRE_NMS_TOPK": 40, "FCOS.DETECTIONS": DETECTIONS}
FEW, MANY = 20, 300  # objects


class Setup(NamedTuple):
    """What all parts run on; the size is that of the image, (height, width)."""

    config: str
    device: str
    size: tuple[int, int]


class DenseAttention(AttentionLayer):
    """Computed at all cells of all levels, from which those that are asked for are taken."""

    def at(self, outputs: CellOutputs, images: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        attention, first = outputs.towers[0].new_empty(len(cells), self.out_channels), 0
        for tower, level in zip(outputs.towers, outputs.levels, strict=True):
            everywhere = F.conv2d(tower, self.weight, self.bias, padding=1).flatten(2)
            rows = ((cells >= first) & (cells < first + level.size)).nonzero()[:, 0]
            attention[rows] = everywhere[images[rows], :, cells[rows] - first]
            first += level.size
        return attention


def network(setup: Setup, options: Sequence[str], dense: bool = False) -> SEPSNet:
    texts = [text for key, value in DETECTING.items() for text in (f"MODEL.SE_PSNET.{key}", str(value))]
    texts += ["MODEL.DEVICE", setup.device, "MODEL.WEIGHTS", "", "DATASETS.TRAIN", "()", "DATASETS.TEST", "()"]
    torch.manual_seed(0)
    parts = SEPSNet.from_config(load_config(setup.config, [*texts, *options]))
    if dense:
        parts["top_layer"] = dense_copy(parts["top_layer"])
    return SEPSNet(**parts).to(setup.device)


def dense_copy(layer: AttentionLayer) -> DenseAttention:
    copy = DenseAttention(layer.in_channels, layer.out_channels).to(layer.weight.device)
    copy.load_state_dict(layer.state_dict())
    return copy


def drawn_sample(size: tuple[int, int], count: int) -> dict[str, Any]:
    """Ellipses of 3 to 40 % of the image's sides, smaller where they are many, small ones in front, on patches of
    stuff."""
    rng = np.random.default_rng(0)
    height, width = size
    sides = np.exp(rng.uniform(np.log(0.03), np.log(0.4), (count, 2))) * min(1, (FEW / count) ** 0.5)
    numbers = np.zeros(size, np.int32)
    for n, (y, x) in enumerate(sorted(sides * size, key=np.prod, reverse=True), 1):
        center = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        cv2.ellipse(numbers, (center, (float(x), float(y)), rng.uniform(0, 180)), n, -1)
    masks = BitMasks(torch.stack([torch.from_numpy(numbers == n) for n in np.unique(numbers[numbers > 0])]))
    patches = cv2.resize(rng.integers(1, 54, (7, 11), np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    colours = rng.integers(0, 256, (count + 54, 3), np.uint8)[np.where(numbers > 0, numbers + 53, patches)]
    truth = Instances(size, gt_boxes=masks.get_bounding_boxes(), gt_masks=masks)
    truth.gt_classes = torch.from_numpy(rng.integers(0, 80, len(masks)))
    return {
        "image": torch.from_numpy(cv2.blur(colours, (5, 5)).transpose(2, 0, 1).copy()),
        "instances": truth,
        "sem_seg": torch.from_numpy(np.where(numbers > 0, 0, patches).astype(np.int64)),
        "height": height,
        "width": width,
    }


def with_few_taking_part(model: SEPSNet, output: ImageOutputs) -> ResultSettings:
    """The network's settings, with the least score that so many detections reach."""
    least = output.scores.topk(min(TAKING_PART, len(output.scores))).values[-1].item()
    return replace(model.settings, fusion=replace(model.settings.fusion, min_score=least))


def detectron2_results(output: ImageOutputs, size: tuple[int, int], settings: ResultSettings) -> dict[str, Any]:
    """Results of one image, combined as Detectron2's Panoptic FPN does."""
    assert output.stuff_logits is not None
    boxes = Boxes(
        output.boxes_xyxy * output.boxes_xyxy.new_tensor([size[1] / output.size[1], size[0] / output.size[0]] * 2)
    )
    masks = paste_masks_in_image(output.mask_probs, boxes, size)
    found = Instances(size, pred_boxes=boxes, pred_masks=masks, pred_classes=output.classes, scores=output.scores)
    logits = F.interpolate(output.stuff_logits[None], scale_factor=STRIDE, mode="bilinear", align_corners=False)[0]
    logits = sem_seg_postprocess(logits, output.size, *size)
    fusion = settings.fusion
    limits = fusion.max_overlap, fusion.min_stuff_area_px, fusion.min_score
    return {
        "instances": found,
        "sem_seg": logits,
        "panoptic_seg": combine_semantic_and_instance_outputs(found, logits.argmax(0), *limits),
    }


def times_by_turns(steps: dict[str, Callable[[], Any]], setup: Setup, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each round, in which each step has its turn; the first round compiles and is not timed."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for n in range(rounds + 1):
        for name, step in steps.items():
            milliseconds = 1000 * seconds_of_run(step, setup.device)
            if n:
                times[name].append(milliseconds)
            print(f"{name}: {milliseconds:.1f} ms", file=sys.stderr, flush=True)
    return times


def seconds_of_run(step: Callable[[], Any], device: str) -> float:
    wait(device)
    start = time.perf_counter()
    step()
    wait(device)
    return time.perf_counter() - start


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


@torch.no_grad()
def time_whole(setup: Setup, rounds: int) -> None:
    full = network(setup, ()).eval()
    public, plain = network(setup, ALL_OFF, dense=True).eval(), network(setup, ALL_OFF).eval()
    inputs, infer = [drawn_sample(setup.size, FEW)], dict[str, Callable[[], Any]]()
    ways = ("a: SE-PSNet", full, image_results), ("b: public code", public, None), ("c: all off", plain, image_results)
    for name, model, ours in ways:
        model.load_state_dict(full.state_dict(), strict=False)
        (output,) = model.predict(inputs)
        settings = with_few_taking_part(model, output)
        if model is full:
            print(of_detections(output))

        def run(model: SEPSNet = model, settings: ResultSettings = settings, ours: Any = ours) -> Any:
            (output,) = model.predict(inputs)
            if ours is None:
                return detectron2_results(output, setup.size, settings)
            return ours(output, setup.size, model.output_classes, settings)

        infer[name] = run
    times = times_by_turns(infer, setup, rounds)
    first = times["a: SE-PSNet"]
    rows = []
    for name, own in times.items():
        ratios = [a / b for a, b in zip(first, own, strict=True)]
        rows.append([name, f"{statistics.median(own):.0f}", f"{statistics.median(ratios):.3f}"])
    print(tabulate(rows, ("whole inference", "ms", "a / this"), disable_numparse=True))


def of_detections(output: ImageOutputs) -> str:
    boxes = output.boxes_xyxy
    sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    if len(boxes) != DETECTIONS:
        print(f"{len(boxes)} detections instead of {DETECTIONS}", file=sys.stderr)
    quantiles = ", ".join(f"{sides.quantile(q):.0f}" for q in (0, 0.25, 0.5, 0.75, 1))
    return f"{len(boxes)} detections; square roots of the boxes' areas, px, quartiles: {quantiles}"


@torch.no_grad()
def time_modules(setup: Setup, rounds: int) -> None:
    """The parts of the full network on what the parts before gave."""
    model = network(setup, ()).eval()
    inputs = [drawn_sample(setup.size, FEW)]
    images = model.normalised_images(inputs)
    features = model.backbone(images.tensor)
    levels = [features[name] for name in model.node.FCOS.IN_FEATURES]
    detector, branch, dense = model.proposal_generator, model.mask_branch, dense_copy(model.top_layer)
    outputs, bases = detector.fcos_head(levels), model.basis_module(features)
    found = detector.detections(outputs, images.image_sizes)
    regions, cells = found.regions, (outputs, found.regions.images, found.cells)
    attention = model.top_layer.at(*cells)
    logits = branch.logits(bases, regions, attention)
    (output,) = model.predict(inputs)
    settings = with_few_taking_part(model, output)
    steps: dict[str, Callable[[], Any]] = {
        "backbone with FPN": lambda: model.backbone(images.tensor),
        "box head": lambda: detector.fcos_head(levels),
        "detections": lambda: detector.detections(outputs, images.image_sizes),
        "attention, at the detections' cells": lambda: model.top_layer.at(*cells),
        "attention, everywhere": lambda: dense.at(*cells),
        "basis head": lambda: model.basis_module(features),
        "pooling and blending": lambda: branch.logits(bases, regions, attention),
        "confidence head": lambda: branch.confidence(features["p3"], bases, regions, logits),
        "stuff head": lambda: model.sem_seg_head(features),
        "pasting and fusion": lambda: image_results(output, setup.size, model.output_classes, settings),
        "pasting and fusion, Detectron2's": lambda: detectron2_results(output, setup.size, settings),
    }
    times = times_by_turns(steps, setup, rounds)
    rows = [[name, f"{statistics.median(own):.1f}"] for name, own in times.items()]
    print(tabulate(rows, ("part", "ms"), disable_numparse=True))


def training_step(setup: Setup, images: int, objects: int, options: Sequence[str]) -> Callable[[], None]:
    model = network(setup, options).train()
    batch = [drawn_sample(setup.size, objects)] * images

    def step() -> None:
        with EventStorage(0):
            sum(model(batch).values()).backward()
        model.zero_grad()

    return step


def costs_of_step(make: Callable[..., Callable], arguments: tuple, rounds: int, answer: Any) -> None:
    """Milliseconds and MiB; the memory is that of the first step."""
    step, device = make(*arguments), arguments[0].device
    if device == "cpu":
        forget_peak()
        before = memory_mib("VmRSS")
    else:
        before = torch.cuda.memory_allocated() / 2**20
        torch.cuda.reset_peak_memory_stats()
    seconds = [seconds_of_run(step, device)]
    peak = memory_mib("VmHWM") if device == "cpu" else torch.cuda.max_memory_allocated() / 2**20
    seconds += [seconds_of_run(step, device) for _ in range(rounds)]
    answer.put((1000 * statistics.median(seconds[1:] or seconds), peak - before))


def time_training(setup: Setup, rounds: int, images: int) -> None:
    rows = []
    for count, objects in ((images, FEW), (1, MANY)):
        for name, options in (("full", ()), ("all off", ALL_OFF)):
            for most, more in ((512, ()), *((("unbounded", UNBOUNDED),) if objects == MANY else ())):
                arguments = setup, count, objects, (*options, *more)
                milliseconds, mib = in_a_process(costs_of_step, training_step, arguments, rounds)
                rows.append([name, count, objects, most, f"{milliseconds:.0f}", f"{mib:.0f}"])
                print(*rows[-1], file=sys.stderr, flush=True)
    header = ("training step", "images", "objects each", "MAX_POSITIVES", "ms", "MiB")
    print(tabulate(rows, header, disable_numparse=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--config", default="COCO-PanopticSegmentation/se_psnet_R_50_1x.yaml", metavar="FILE")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), metavar=("H", "W"), help="of the image, px")
    parser.add_argument("--images", type=int, default=2, help="of a training step with few objects")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of the processes of training steps
    torch.set_num_threads(args.threads)
    device = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    height, width = args.size
    print(f"{processor()}, {args.threads} thread(s), torch {torch.__version__}, {device}; Detectron2 {ENGINE}")
    print(f"{args.config}, {height} x {width}")
    setup = Setup(args.config, args.device, (height, width))
    if "whole" in args.only:
        time_whole(setup, args.rounds)
    if "modules" in args.only:
        time_modules(setup, args.rounds)
    if "training" in args.only:
        time_training(setup, args.rounds, args.images)


if __name__ == "__main__":
    main()
