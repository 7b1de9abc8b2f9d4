"""A package, and which of its files are pictures that are used."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Pictures:
    """Some files of a package that share kind and licence.

    Args:
        kind: ``photographs``, or ``cutouts``: pictures of single objects with an alpha channel.
        licence: as in SPDX where it has a word.
        files: patterns of paths in the package; ``*`` stands for slashes, too. Files in ``a.rcc`` are ``a.rcc/...``.
        left_out: patterns of paths that are not used.
        least_side: smaller pictures are left out; the shorter side, in pixels.
    """

    kind: Literal["photographs", "cutouts"]
    licence: str
    files: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    least_side: int = 240

    def has(self, path: str) -> bool:
        """Whether a file of the package is one of these."""
        is_picture = path.lower().endswith(ENDINGS)
        return is_picture and _matches(path, self.files) and not _matches(path, self.left_out)


@dataclass(frozen=True)
class Package:
    """A package in one version; ``sha256`` is that of its file, ``pip_options`` name one file of several wheels."""

    name: str
    index: Literal["debian", "pypi"]
    version: str
    sha256: str
    pictures: tuple[Pictures, ...]
    pip_options: tuple[str, ...] = field(default=())

    def pictures_of(self, path: str) -> Pictures | None:
        """The entry that a file of the package falls under."""
        return next((entry for entry in self.pictures if entry.has(path)), None)


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def within(folder: str, names: str, ending: str = "") -> tuple[str, ...]:
    """Patterns from names that are separated by blanks."""
    return tuple(f"{folder}{name}{ending}" for name in names.split())
