"""The command ``pnm``: one word for each program."""

import importlib
import sys

import pnm

PROGRAMS = {
    "train": ("train", "trains, resumes and evaluates any system"),
    "predict": ("predict", "predicts your own pictures: images of any depth, GeoTIFFs, a video"),
    "refine": ("refine", "refines result files of any model, or one mask"),
    "evaluate": ("evaluate", "scores result files of any model, alone or beside another's"),
    "report": ("report", "makes a page of metrics, errors and the worst images, alone or beside another's"),
    "convert": ("convert", "converts annotations of one format to another"),
    "check": ("check", "says what is in a data set, and draws what a person should look at"),
    "export": ("export", "writes a refiner's network as ONNX, with what it takes and gives"),
    "segment-changes": ("segment_changes", "says which segments a panoptic refiner changed, and draws them"),
    "boundary-shares": ("boundary_shares", "says how much of each class lies near a boundary"),
    "weights": ("precompute_weights", "makes the stored pixel weights of data sets"),
    "pseudo-labels": ("pseudo_labels", "labels images with a trained semantic model, to train on"),
    "visualize": ("visualize", "draws images, truth and predictions"),
    "visualize-prn": ("visualize_prn", "draws what PRN takes, predicts and makes of it"),
    "visualize-se-psnet": ("visualize_se_psnet", "draws what SE-PSNet says of photographs"),
    "visualize-weights": ("visualize_weights", "draws the pixel weights of an image"),
}


def usage() -> str:
    """One line for each program."""
    lines = [f"  {name:18} {what}" for name, (_, what) in PROGRAMS.items()]
    return "\n".join(["usage: pnm PROGRAM [options]; pnm PROGRAM --help tells them", *lines])


def main() -> None:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in ("-h", "--help"):
        print(usage())
    elif word == "--version":
        print(pnm.__version__)
    elif word in PROGRAMS:
        sys.argv[:2] = [f"pnm {word}"]  # what argparse calls the program
        importlib.import_module(f"pnm.tools.{PROGRAMS[word][0]}").main()
    else:
        print(usage(), file=sys.stderr)
        sys.exit(2)
