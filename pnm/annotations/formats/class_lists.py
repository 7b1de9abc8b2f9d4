"""Text files with a class's name in each line, beside labels that are numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pnm.annotations.annotation_set import AnnotationSet, first_twice
from pnm.errors import UserError, listed

FILES = ("names.txt", "classes.txt", "labels.txt")


def list_beside(*folders: Path) -> Path | None:
    """The list of names in the first of the folders that has one."""
    return next((folder / name for folder in folders for name in FILES if (folder / name).is_file()), None)


def read_list(path: Path) -> list[str]:
    """Names of classes, one a line; empty lines are passed over.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is no UTF-8 text, has no names, or one twice.
    """
    expected = "expected text in UTF-8 with a class's name in each line"
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: {expected}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): {expected}") from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise UserError(f"{path} has no names: {expected}")
    twice = first_twice(names)
    if twice is not None:
        raise UserError(f"{path} has the name {twice} twice: rename one")
    return names


def list_text(names: Sequence[str]) -> str:
    """Text of such a file.

    Raises:
        UserError: a name has several lines, or spaces around it, and would not be read again as it is.
    """
    for name in names:
        if len(name.splitlines()) != 1 or name != name.strip():
            raise UserError(f"class {name!r} can't stand in a list with a name in each line: rename it")
    return "".join(f"{name}\n" for name in names)


def check_same_classes(parts: Mapping[str, AnnotationSet]) -> None:
    """A UserError unless all splits have the same names of classes in the same order."""
    lists = {split: [category.name for category in annotations.categories] for split, annotations in parts.items()}
    (first, names), *others = lists.items() if lists else [("", [])]
    for split, other in others:
        if other != names:
            raise UserError(
                f"{split or 'the second split'} has the classes {listed(other)}, {first or 'the first'} "
                f"{listed(names)}: one list of names holds for all, so read them with the same classes"
            )
