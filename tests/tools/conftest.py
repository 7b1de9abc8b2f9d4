"""The tools as modules, and the one that scores result files as a function."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_tool(name):
    spec = importlib.util.spec_from_file_location(f"{name}_tool", ROOT / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_main(monkeypatch, capsys):
    """``run_main(tool, words)``: exit status, lines of stdout and stderr; data sets that it registers are forgotten."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    def run(tool, words):
        monkeypatch.setattr(sys, "argv", [f"{tool.__name__}.py", *map(str, words)])
        known, status = set(DatasetCatalog.list()), 0
        try:
            tool.main()
        except SystemExit as ended:
            status = ended.code
        for name in set(DatasetCatalog.list()) - known:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        told = capsys.readouterr()
        return status, told.out.strip().splitlines(), told.err.strip().splitlines()

    return run


@pytest.fixture(scope="session")
def evaluate_tool():
    return load_tool("evaluate")


@pytest.fixture(scope="session")
def refine_tool():
    return load_tool("refine")


@pytest.fixture
def run_refine(refine_tool, monkeypatch, capsys):
    """``run_refine(arguments...)``: what the tool prints; with ``fails`` the last line on stderr before exit 2."""

    def run(*arguments, fails=False):
        monkeypatch.setattr(sys, "argv", ["refine.py", *map(str, arguments)])
        if not fails:
            refine_tool.main()
            return capsys.readouterr().out
        with pytest.raises(SystemExit) as ended:
            refine_tool.main()
        assert ended.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return run


@pytest.fixture
def evaluate(evaluate_tool, tmp_path, monkeypatch, capsys):
    """``evaluate(task, pred, gt, ...)`` gives the JSON that was written, or the lines on stderr before exit 2."""

    def run(task, pred, gt, *more, fails=False):
        output = tmp_path / "metrics.json"
        arguments = [task, "--pred", pred, "--gt", gt, "--output", output, "--workers", 2, *more]
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
        if not fails:
            evaluate_tool.main()
            return json.loads(output.read_text(), parse_constant=pytest.fail)
        with pytest.raises(SystemExit) as ended:
            evaluate_tool.main()
        assert ended.value.code == 2 and not output.exists()
        lines = capsys.readouterr().err.strip().splitlines()
        assert lines[-1].startswith("error: ") and sum(line.startswith("error: ") for line in lines) == 1
        return "\n".join(lines)

    return run
