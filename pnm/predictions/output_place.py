"""Where refined predictions go, and whether they may."""

from pathlib import Path
from typing import Protocol

from pnm.errors import UserError


class HasTargets(Protocol):
    """Predictions: see :class:`pnm.predictions.prediction_set.PredictionSet`."""

    def may_write(self, path: Path) -> bool: ...
    def inputs(self) -> tuple[Path, ...]: ...
    def targets(self, output: Path) -> tuple[Path, ...]: ...


class OutputPlace:
    """The files and folders that an output consists of, and the folder in which it is made.

    Attributes:
        targets: of the output; the one whose presence says that it is whole comes last.
        folder: ``<output>.partial``.
    """

    def __init__(self, predictions: HasTargets, output: Path, *, overwrite: bool = False):
        self._predictions, self._overwrite = predictions, overwrite
        self.targets = predictions.targets(output)
        self.folder = output.absolute().with_name(output.absolute().name + ".partial")

    @property
    def replacing(self) -> Path:
        """A file that is there while targets give way to new ones."""
        return self.folder / "replacing"

    def check(self) -> None:
        """A UserError if the output is an input, is there already, or would replace something else."""
        for source in self._predictions.inputs():
            for target in self.targets:
                inner, outer = source.resolve(), target.resolve()
                if inner == outer or inner in outer.parents or outer in inner.parents:
                    raise UserError(f"the output {target} and the predictions {source} overlap: choose another output")
        self.check_free()

    def check_free(self) -> None:
        """A UserError if something is there that must not be replaced."""
        present = [str(target) for target in self.targets if target.exists()]
        if present and not self._overwrite and not self.replacing.exists():
            raise UserError(f"{present[0]} exists already: choose another output, or overwrite it (--overwrite)")
        for target in self.targets:
            foreign = self._foreign(target) if target.exists() else None
            if foreign:
                raise UserError(f"{target} can't be overwritten, as {foreign}: choose another output, or remove it")

    def _foreign(self, target: Path) -> str | None:
        """Why what is at a target isn't an output of this kind."""
        if target.is_dir() == (target.suffix.lower() in (".json", ".xml")):
            return f"it is {'a folder' if target.is_dir() else 'no folder'}"
        files = (path for path in target.rglob("*") if not path.is_dir())
        other = next((path for path in files if not self._predictions.may_write(path.relative_to(target))), None)
        return f"{other} is no file of such an output" if other else None
