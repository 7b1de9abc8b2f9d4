"""Shared fixtures. Importing ``pnm`` first makes ``detectron2`` importable, whichever engine is present."""

import os
from pathlib import Path

import pytest

import pnm  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with small real data sets (``PNM_REAL_DATA`` or ``../shared/data``); the test skips where neither exists."""
    folder = Path(os.environ.get("PNM_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set PNM_REAL_DATA")
    return folder
