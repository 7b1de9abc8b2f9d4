"""Names of classes as programs take them."""

from pathlib import Path

from pnm.errors import UserError


def read_class_names(classes: str | None) -> list[str]:
    """Names of ``--classes N`` or ``--classes names.txt``, one a line.

    Raises:
        UserError: neither of them.
    """
    if classes is None:
        raise UserError("--classes is missing: give the number of classes or a file with a name in each line")
    if classes.isdecimal():
        return [str(k) for k in range(int(classes))]
    try:
        return [line.strip() for line in Path(classes).read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise UserError(f"--classes is {classes}: expected a number or a text file with a name in each line") from None
