"""Predictions of pictures without annotations, from arguments that have been read to a folder of results."""

import argparse
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

from pnm.annotations.known_formats import writable_format
from pnm.compiling import announce_compilation
from pnm.errors import UserError, print_lines
from pnm.pictures.pictures import Toning
from pnm.pictures.video import write_video
from pnm.predictions.predicted_image import refined
from pnm.predictions.refinement import Chain, common_task
from pnm.predictions.result_folder import FOLDERS, RESULTS, ResultFolder
from pnm.programs import program

from ...refining import refiner_class
from ..config import load_config
from ..data.checks import take_from_data
from ..data.named_classes import register_names
from ..refiner_loading import weights_digest
from ..refining_files import NetworkStep, Part
from ..run_setup import check_device, register_builtin_data
from ..trained_models import check_weights_file, trained_model
from .annotations import predicted_annotations, write_annotations
from .beside import Beside
from .model_outputs import PicturePredictor
from .sources import FileSource, Source, VideoSource


def checked_config(config_file: str, overrides: Sequence[str]) -> tuple[CfgNode, list[str]]:
    """The config of a trained model, and what isn't known of its data sets.

    Raises:
        UserError: it is of a refiner, has no weights, or cannot be used.
    """
    cfg = load_config(config_file, overrides)
    if refiner_class(cfg) is not None:
        raise UserError(
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} is a refiner, which needs predictions to refine: "
            f"give the config of a model, and this one after --refine, or run {' '.join(program('refine'))} on "
            "predictions that are there"
        )
    check_weights_file(cfg.MODEL.WEIGHTS, "predictions are made by a trained model")
    check_device(cfg)
    register_builtin_data()
    remarks = register_names(cfg)
    take_from_data(cfg)
    cfg.freeze()
    return cfg, remarks


def checked_refiners(named: Sequence[argparse.Namespace]) -> list[Part]:
    """The refiners of the command line, which go together and have weights."""
    parts = [Part(one) for one in named]
    for part in parts:
        assert part.cfg is not None
        check_weights_file(part.cfg.MODEL.WEIGHTS, "--refine takes a trained refiner")
    common_task(parts)
    return parts


def settings_of(cfg: CfgNode, chain: Chain, args: argparse.Namespace) -> dict[str, str]:
    """What predictions depend on but the images, by what messages call it."""
    parts = (cfg.MODEL.dump(), cfg.INPUT.dump(), cfg.TEST.dump(), weights_digest(cfg))
    reading = f"bands {args.bands}, stretch {args.stretch}, every {args.every}"
    written = f"overlays {args.overlays} from score {args.min_score:g}, frames {args.keep_frames}"
    return {
        "model": hashlib.sha256("\n".join(parts).encode()).hexdigest(),
        "refiners": chain.fingerprint if chain.steps else "none",
        "reading of images": reading,
        "options": written,
    }


def _source(args: argparse.Namespace) -> Source:
    if args.video is not None:
        return VideoSource(args.video, args.every)
    return FileSource(args.files, Toning(args.bands, args.stretch))


def _check_goes_together(parts: Sequence[Part], predictor: PicturePredictor, cfg: CfgNode) -> None:
    task = common_task(parts)
    if task not in (None, predictor.task):
        raise UserError(
            f"{cfg.MODEL.META_ARCHITECTURE} gives {predictor.task} predictions, but the refiner is of task {task}: "
            "give a refiner of that task, or a model of the refiner's"
        )
    if any(part.relists_segments for part in parts) and predictor.task != "panoptic":
        raise UserError(f"a refiner of lists of segments takes panoptic predictions, not {predictor.task} ones")


def predict_each(
    source: Source, predictor: PicturePredictor, chain: Chain, results: ResultFolder, beside: Beside
) -> list[str]:
    """Predicts all images that aren't done, and returns what is wrong with those that cannot be read."""
    failures = []
    with tqdm(initial=len(results.done), total=len(source.images), unit=source.unit, dynamic_ncols=True) as bar:
        for name, picture in source.pictures(results.done):
            if isinstance(picture, UserError):
                failures.append(str(picture))
            else:
                predicted = predictor(picture.pixels)
                if chain.steps:
                    contents = {step.read: picture.pixels for step in chain.steps}
                    predicted = refined(predicted, chain, contents, name)
                beside.write(name, picture, predicted)
                results.add(name, predicted)
            bar.update(1)
    return failures


def _finish(args: argparse.Namespace, results: ResultFolder, source: Source, is_whole: bool) -> None:
    """Result files of all that is done, annotations, and the video of overlays."""
    results.close()
    results.assemble()
    if args.format is not None:
        form = writable_format(args.format)
        annotations = predicted_annotations(results, args.min_score, source.folder)
        write_annotations(annotations, form, results.folder / "annotations")
    if is_whole and args.video is not None and args.overlays:
        folder = results.folder / "overlays"
        pictures = [folder / f"{Path(image.name).stem}.jpg" for image in source.images]
        write_video(results.folder / "overlays.mp4", pictures, args.video.rate / args.every)
    if is_whole:
        results.finish()


def _summary(output: Path, task: str, written: int, kept: int, seconds: float, unit: str) -> str:
    place = output / (FOLDERS[task] if task == "semantic" else RESULTS[task])
    line = f"{place}: {written} {unit}s predicted, {kept} kept"
    return f"{line}; {seconds:.1f} s, {written / seconds:.1f} {unit}s/s" if written else line


def _tell_failures(args: argparse.Namespace, failures: Sequence[str], total: int) -> None:
    print_lines(failures)
    raise UserError(
        f"{len(failures)} of {total} images of {args.images} could not be read, see above; the others are done. Mend "
        "or remove them and run the same command with --resume"
    )


def run(args: argparse.Namespace) -> None:
    """Predicts all that the arguments name. A UserError if some could not be read, with the others done."""
    place: dict[str, Any] = {"resume": args.resume, "overwrite": args.overwrite}
    setup_logger(name="pnm")
    source, (cfg, remarks) = _source(args), checked_config(args.config_file, args.opts)
    parts = checked_refiners(args.refiners)
    announce_compilation()
    cfg_tested, model = trained_model(cfg)
    predictor = PicturePredictor(cfg_tested, model, args.task)
    _check_goes_together(parts, predictor, cfg)
    chain = Chain([part.step([]) for part in parts])
    classes = predictor.classes
    for step in chain.steps:
        assert isinstance(step, NetworkStep)
        if step.refiner.model.relists_segments:
            step.refiner.check_categories(category.id for category in classes.categories if category.id is not None)
    for line in remarks if not classes.source else ():
        print(line)
    if not classes.source:
        print("classes are called by their numbers, as no data set of the config names them")
    settings = settings_of(cfg, chain, args)
    results = ResultFolder(args.output, predictor.task, settings, source.images, classes.categories, **place)
    if results.is_finished:
        print(f"{args.output}: all {len(source.images)} {source.unit}s are predicted already")
        return
    kept, start = len(results.done), time.perf_counter()
    beside = Beside(args.output, classes.categories, args.min_score, args.overlays, args.keep_frames)
    failures = predict_each(source, predictor, chain, results, beside)
    seconds, written = time.perf_counter() - start, len(results.done) - kept
    _finish(args, results, source, not failures)
    print(_summary(args.output, predictor.task, written, kept, seconds, source.unit))
    if failures:
        _tell_failures(args, failures, len(source.images))
    if args.video is not None and args.video.lacks:
        raise UserError(
            f"{args.images} has {args.video.stated} frames by its header, but only {args.video.frames} can be decoded: "
            "its end is missing or damaged; what is there has been predicted"
        )
