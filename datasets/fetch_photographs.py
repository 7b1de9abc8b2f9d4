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
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import label_files  # noqa: F401  (makes pnm importable from a clone)
import numpy as np
from package_archives import package_files
from package_downloads import check_digest, fetched, package_file, version_of
from package_pictures import Package, Pictures
from photograph_packages import PACKAGES
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

    def add(self, origin: tuple[str, str], pictures: Pictures, path: str, content: bytes) -> None:
        """Writes a picture, unless it can't be used or is there already; ``origin`` is the package and its version."""
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
        name = self._write(picture, origin[0], pictures.kind, path)
        row = (name, *origin, pictures.licence, path)
        kept.rows[place : place + 1] = [row]  # at the end of the list: appended
        kept.prints[place : place + 1] = [print_]
        kept.pixels[place : place + 1] = [n_pixels]

    def _write(self, picture: Image.Image, package_name: str, kind: str, path: str) -> str:
        stem = "_".join([package_name, *Path(path).with_suffix("").parts[-4:]])
        stem = re.sub(r"[^\w.-]+", "_", stem, flags=re.ASCII)
        ending = ".png" if kind == "cutouts" else ".jpg"
        (self.root / kind).mkdir(exist_ok=True)
        name, number = f"{kind}/{stem}{ending}", 1
        while (self.root / name).exists():
            name, number = f"{kind}/{stem}_{number}{ending}", number + 1
        small = scaled_down(picture)
        if kind == "cutouts":
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
    packages: Collection[Package],
    output: Path,
    given: Path | None = None,
    *,
    any_version: bool = False,
    overwrite: bool = False,
) -> dict[str, int]:
    """Fetches the packages, or takes them from ``given``, and writes the folder.

    Returns:
        how many pictures of each kind it has.

    Raises:
        UserError: a package can't be had, or is not the one that is listed; nothing is written then.
    """
    check_new_folder(output.absolute(), overwrite=overwrite)
    check_folder_writable(output.absolute().parent, "the output's folder")
    with TemporaryDirectory() as temporary, atomic_folder(output, overwrite=overwrite) as root:
        paths = []
        for package in (progress := tqdm(packages, desc="fetching", unit="package")):
            progress.set_postfix_str(package.name)
            path = package_file(package, given, any_version=any_version) if given else None
            paths.append(path or fetched(package, Path(temporary), any_version=any_version))
            if not any_version:
                check_digest(package, paths[-1])
        folder = PictureFolder(root)
        for package, path in zip((progress := tqdm(packages, desc="reading", unit="package")), paths, strict=True):
            progress.set_postfix_str(package.name)
            _add_pictures(folder, package, path)
        folder.write_sources()
    return {kind: len(kept.rows) for kind, kept in folder.kept.items()}


def _add_pictures(folder: PictureFolder, package: Package, path: Path) -> None:
    origin = (package.name, version_of(path))
    for inner, content in package_files(path, partial(_is_wanted, package)):
        pictures = package.pictures_of(inner)
        if pictures:
            folder.add(origin, pictures, inner, content)


def _is_wanted(package: Package, path: str) -> bool:
    return path.endswith(".rcc") or package.pictures_of(path) is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_root = Path(os.environ.get("DETECTRON2_DATASETS", Path(__file__).parent))
    parser.add_argument("--output", type=Path, default=default_root / "photographs", help="default: %(default)s")
    parser.add_argument("--packages", type=Path, metavar="DIR", help="take the files that lie here, fetch the others")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="NAME", help="packages to do without")
    parser.add_argument("--any-version", action="store_true", help="of packages; digests are not checked then")
    parser.add_argument("--overwrite", action="store_true", help="replace the output of an earlier run")
    args = parser.parse_args()
    with one_line_errors(), interrupts_told("nothing was written"):
        if args.packages and not args.packages.is_dir():
            raise UserError(f"--packages {args.packages} is no folder: name one that holds .deb and .whl files")
        packages = chosen_packages(args.leave_out)
        options = {"any_version": args.any_version, "overwrite": args.overwrite}
        counts = write_photographs(packages, args.output, args.packages, **options)
        print(f"{args.output}: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()))


if __name__ == "__main__":
    main()
