"""What programs are called, for messages that say what to run."""

from pathlib import Path

_IN_CLONE = (Path(__file__).resolve().parents[1] / "train_net.py").is_file()
_COMMANDS = {
    "precompute_weights": "weights",
    "visualize_weights": "visualize-weights",
    "boundary_shares": "boundary-shares",
    "pseudo_labels": "pseudo-labels",
}


def program(name: str) -> list[str]:
    """The words that start a program: ``python tools/<name>.py`` in a clone, ``pnm <name>`` where installed."""
    if not _IN_CLONE:
        return ["pnm", _COMMANDS.get(name, name.replace("_", "-"))]
    return ["python", "train_net.py" if name == "train" else f"tools/{name}.py"]
