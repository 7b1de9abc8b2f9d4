"""Shared fixtures. Importing ``pnm`` first makes ``detectron2`` importable, whichever engine is present."""

import multiprocessing
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

# Tests run in a process for each core: threads of one would wait for those of another, a small training five times as
# long. Before torch and OpenCV are imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

import pnm  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
PIPE_BYTES = 1 << 20  # nobody reads while a run goes on, and Detectron2 prints its config and model twice


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with small real data sets: ``PNM_REAL_DATA`` or ``../shared/data``; skips where neither exists."""
    folder = Path(os.environ.get("PNM_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set PNM_REAL_DATA")
    return folder.resolve()


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory) -> Path:
    """A small data set ``shapes`` (12 + 6 scenes of 96x128) in a folder to be used as DETECTRON2_DATASETS."""
    root = tmp_path_factory.mktemp("datasets")
    command = [sys.executable, str(ROOT / "datasets/make_shapes.py"), "--output", str(root / "shapes")]
    command += ["--train", "12", "--val", "6", "--height", "96", "--width", "128"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def new_process():
    """``new_process(function, *arguments)`` runs a function in a process, and returns that.

    The function's module must be importable by its own name: a Detectron2 clone on the path hides ``tests``. Such a
    process is no copy of this one, whose threads would be missing from it while their locks are held.
    """
    started, context = [], multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pnm.null_model.stored.writer"])

    def start(function, *arguments):
        started.append(context.Process(target=function, args=arguments))
        started[-1].start()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.join()


def _prepare(script: str, *arguments: object) -> None:
    command = [sys.executable, str(ROOT / "datasets" / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="session")
def prepared_data(real_data, tmp_path_factory):
    """A copy of the real data, to be used as DETECTRON2_DATASETS, with what the prepare scripts generate."""
    root = tmp_path_factory.mktemp("real")
    for name in ("coco", "cityscapes", "ADEChallengeData2016"):
        shutil.copytree(real_data / name, root / name)
    _prepare("prepare_cityscapes.py", "--root", root / "cityscapes")
    _prepare("prepare_ade20k.py", "--root", root / "ADEChallengeData2016")
    for path in (root / "cityscapes/gtFine").rglob("*labelIds.png"):  # Detectron2 reads the size from it
        polygons = path.with_name(path.name.replace("labelIds.png", "polygons.json"))
        polygons.write_text('{"imgHeight": 1024, "imgWidth": 2048, "objects": []}')
    panoptic = {"json": root / "coco/annotations/panoptic_val2017.json", "folder": root / "coco/panoptic_val2017"}
    _prepare(
        "prepare_panoptic_fpn.py", "--panoptic-json", panoptic["json"], "--panoptic-folder", panoptic["folder"],
        "--output", f"{panoptic['folder']}_stuff", "--instances-json", str(panoptic["json"])[:-5] + "_instances.json",
    )  # fmt: skip
    return root


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory) -> Path:
    """A file of the universal refiner's weights, at random."""
    from tests.random_network import save_random_network  # imports torch

    path = tmp_path_factory.mktemp("weights") / "random.pth"
    save_random_network(path)
    return path


@pytest.fixture
def forget_data_sets():
    """Takes what a test registers out of the catalogues, which are global."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def train_net(shapes_root, tmp_path):
    """``train_net("--eval-only", "KEY VALUE ...")`` runs a quickstart config on ``shapes_root`` in a new process.

    The last argument may be a string of overrides. It writes to ``tmp_path / "run"`` unless OUTPUT_DIR says
    otherwise; ``wait=False`` returns the running process, ``program`` stands for ``train_net.py``.
    """

    def run(
        *arguments: str,
        config: str = "mask_rcnn_R_18_FPN",
        wait: bool = True,
        program: tuple[str, ...] = ("train_net.py",),
        **environment: str,
    ):
        path = config if config.endswith(".yaml") else f"configs/quickstart/{config}.yaml"
        *flags, overrides = arguments if arguments and arguments[-1][:2] != "--" else (*arguments, "")
        command = [sys.executable, *program, "--config-file", path, *flags]
        command += f"OUTPUT_DIR {tmp_path / 'run'} DATALOADER.NUM_WORKERS 0".split() + shlex.split(overrides)
        settings = os.environ | {"DETECTRON2_DATASETS": str(shapes_root), "OMP_NUM_THREADS": "1", **environment}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(command, cwd=ROOT, env=settings, pipesize=PIPE_BYTES, **pipes)
        if not wait:
            return process
        output, _ = process.communicate(timeout=400)
        return subprocess.CompletedProcess(command, process.returncode, output)

    return run
