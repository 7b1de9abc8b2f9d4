"""Fetches packages with photographs under free licences and takes the pictures out of them.

    python datasets/fetch_photographs.py                          # into datasets/photographs
    python datasets/fetch_photographs.py --packages FOLDER        # .deb and .whl files that were fetched elsewhere

The packages (`photograph_packages.py` lists them, with versions, licences and digests) come from the package manager
of Debian 12 (`apt-get download`) and from the Python index (`pip download`); nothing is installed. What is written:

    photographs/photographs/*.jpg    at most 1600 pixels wide and high
    photographs/cutouts/*.png        objects with an alpha channel
    photographs/SOURCES.tsv          of each picture: package, version, licence, path in the package
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import label_files  # noqa: F401  (makes pnm importable from a clone)
import numpy as np
from package_archives import package_files
from photograph_packages import PACKAGES, Package, Pictures
from photograph_selection import (
    LEAST_DIFFERENCE,
    fingerprint,
    is_cutout,
    is_photograph,
    nearest,
    open_picture,
    scaled_down,
)
from PIL import Image
from tqdm import tqdm

from pnm.errors import UserError, interrupts_told, one_line_errors
from pnm.formats.atomic_files import atomic_folder, check_folder_writable, check_new_folder, write_text

QUALITY = 93
COLUMNS = ("file", "package", "version", "licence", "path in the package")


def package_file(package: Package, folder: Path) -> Path | None:
    """The file of a package in a folder; None if there is none.

    ``apt-get`` writes an epoch's colon as %3a; wheels have an underscore for each hyphen.
    """
    if package.index == "debian":
        pattern = f"{package.name}_{package.version.replace(':', '%3a')}_*.deb"
    else:
        pattern = f"{package.name.replace('-', '_')}-{package.version}-*.whl"
    return next(iter(sorted(folder.glob(pattern))), None)


def fetched(package: Package, folder: Path) -> Path:
    """Fetches the package's file into a folder.

    Raises:
        UserError: the program is missing, or doesn't get this version; the message ends with the program's own words.
    """
    if package.index == "debian":
        command = ["apt-get", "download", f"{package.name}={package.version}"]
    else:
        choice = ["--no-deps", "--only-binary=:all:", *package.pip_options]
        command = [sys.executable, "-m", "pip", "download", "-q", *choice, f"{package.name}=={package.version}"]
    try:
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError(
            f"{package.name} comes from Debian, but this machine has no {command[0]}: fetch the package elsewhere and "
            f"name its folder with --packages, or add --leave-out {package.name}"
        ) from None
    path = package_file(package, folder)
    if run.returncode or path is None:
        words = " ".join((run.stderr or run.stdout).split()[-40:])
        raise UserError(
            f"{package.name} {package.version} can't be fetched: give --packages a folder that holds it, or add "
            f"--leave-out {package.name} ({' '.join(command[:3])} said: {words})"
        )
    return path


def check_digest(package: Package, path: Path) -> None:
    """A UserError unless the file is the one that was looked at."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.sha256:
        raise UserError(
            f"{path} has SHA-256 {digest}, not {package.sha256}: remove it and fetch it again, or add "
            f"--leave-out {package.name}"
        )


@dataclass
class _Kept:
    """Pictures of one kind that were written: rows of the table, fingerprints, and pixels before scaling."""

    rows: list[tuple[str, ...]] = field(default_factory=list)
    prints: list[np.ndarray] = field(default_factory=list)
    pixels: list[int] = field(default_factory=list)


class PictureFolder:
    """Writes pictures under ``root``; of pictures that are the same but for their size, the largest stays."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kept = {"photographs": _Kept(), "cutouts": _Kept()}

    def add(self, package: Package, pictures: Pictures, path: str, content: bytes) -> None:
        """Writes a picture, unless it can't be used or is there already."""
        picture = open_picture(content)
        is_usable = is_cutout if pictures.kind == "cutouts" else is_photograph
        if picture is None or not is_usable(picture, pictures.least_side):
            return
        kept, print_ = self.kept[pictures.kind], fingerprint(picture)
        place, difference = nearest(print_, kept.prints)
        n_pixels = picture.width * picture.height
        if difference >= LEAST_DIFFERENCE:
            place = len(kept.rows)
        elif n_pixels <= kept.pixels[place]:
            return
        else:
            (self.root / kept.rows[place][0]).unlink()
        name = self._write(picture, package, pictures, path)
        row = (name, package.name, package.version, pictures.licence, path)
        for entries, entry in ((kept.rows, row), (kept.prints, print_), (kept.pixels, n_pixels)):
            entries[place : place + 1] = [entry]  # at the end: appended

    def _write(self, picture: Image.Image, package: Package, pictures: Pictures, path: str) -> str:
        stem = re.sub(r"[^\w.-]+", "_", f"{package.name}_{Path(path).parent.name}_{Path(path).stem}", flags=re.ASCII)
        ending = ".png" if pictures.kind == "cutouts" else ".jpg"
        (self.root / pictures.kind).mkdir(exist_ok=True)
        name, number = f"{pictures.kind}/{stem}{ending}", 1
        while (self.root / name).exists():
            name, number = f"{pictures.kind}/{stem}_{number}{ending}", number + 1
        small = scaled_down(picture)
        if pictures.kind == "cutouts":
            small.save(self.root / name)
        else:
            small.convert("RGB").save(self.root / name, quality=QUALITY)
        return name

    def write_sources(self) -> None:
        """Writes SOURCES.tsv, sorted by file."""
        rows = sorted(row for kept in self.kept.values() for row in kept.rows)
        lines = ["\t".join(row) for row in (COLUMNS, *rows)]
        write_text(self.root / "SOURCES.tsv", "\n".join(lines) + "\n")


def chosen_packages(left_out: Collection[str]) -> list[Package]:
    """The table without some packages; a UserError for a name that is not in it."""
    unknown = set(left_out) - {package.name for package in PACKAGES}
    if unknown:
        names = ", ".join(package.name for package in PACKAGES)
        raise UserError(f"--leave-out {' '.join(sorted(unknown))}: the packages are {names}")
    return [package for package in PACKAGES if package.name not in left_out]


def write_photographs(
    packages: Collection[Package], output: Path, given: Path | None = None, *, overwrite: bool = False
) -> dict[str, int]:
    """Fetches the packages, or takes them from ``given``, and writes the folder; returns how many pictures of each kind.

    Raises:
        UserError: a package can't be had, or is not the one that is listed; nothing is written then.
    """
    check_new_folder(output.absolute(), overwrite=overwrite)
    check_folder_writable(output.absolute().parent, "the output's folder")
    with TemporaryDirectory() as temporary, atomic_folder(output, overwrite=overwrite) as root:
        folder = PictureFolder(root)
        progress = tqdm(packages, desc="photographs", unit="package")
        for package in progress:
            progress.set_postfix_str(package.name)
            path = (package_file(package, given) if given else None) or fetched(package, Path(temporary))
            check_digest(package, path)
            for inner, content in package_files(path, lambda name, p=package: _is_wanted(p, name)):
                pictures = package.pictures_of(inner)
                if pictures:
                    folder.add(package, pictures, inner, content)
        folder.write_sources()
    return {kind: len(kept.rows) for kind, kept in folder.kept.items()}


def _is_wanted(package: Package, path: str) -> bool:
    return path.endswith(".rcc") or package.pictures_of(path) is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_root = Path(os.environ.get("DETECTRON2_DATASETS", Path(__file__).parent))
    parser.add_argument("--output", type=Path, default=default_root / "photographs", help="default: %(default)s")
    parser.add_argument("--packages", type=Path, metavar="DIR", help="take the files that lie here, fetch the others")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="NAME", help="packages to do without")
    parser.add_argument("--overwrite", action="store_true", help="replace the output of an earlier run")
    args = parser.parse_args()
    with one_line_errors(), interrupts_told("nothing was written"):
        if args.packages and not args.packages.is_dir():
            raise UserError(f"--packages {args.packages} is no folder: name one that holds .deb and .whl files")
        counts = write_photographs(
            chosen_packages(args.leave_out), args.output, args.packages, overwrite=args.overwrite
        )
        print(f"{args.output}: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()))


if __name__ == "__main__":
    main()
