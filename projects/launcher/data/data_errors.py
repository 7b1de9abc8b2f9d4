"""What goes wrong in a data set, told by its name."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pnm.errors import UserError


@contextmanager
def as_user_error(datasets: Sequence[str]) -> Iterator[None]:
    """Whatever goes wrong while annotations are read lies in the data: it is told in one line, with their names."""
    try:
        yield
    except UserError:
        raise
    except (OSError, KeyError, ValueError, AssertionError) as error:
        cause = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
        if isinstance(error, FileNotFoundError) and error.filename:
            cause = f"{error.filename} does not exist; check the path, and DETECTRON2_DATASETS"
        raise UserError(f"data sets {', '.join(datasets)}: {' '.join(cause.split()) or repr(error)}") from error
