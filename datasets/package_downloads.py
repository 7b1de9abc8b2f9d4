"""Finds or fetches the files of packages, by the package manager of Debian and by pip; nothing is installed."""

import hashlib
import subprocess
import sys
from pathlib import Path

from package_pictures import Package

from pnm.errors import UserError


def package_file(package: Package, folder: Path, *, any_version: bool = False) -> Path | None:
    """The file of a package in a folder, of several versions the last by name; None if there is none.

    ``apt-get`` writes a version's colon as %3a; wheels have an underscore for each hyphen of a name.
    """
    version = "*" if any_version else package.version.replace(":", "%3a")
    if package.index == "debian":
        pattern = f"{package.name}_{version}_*.deb"
    else:
        pattern = f"{package.name.replace('-', '_')}-{version}-*.whl"
    return max(folder.glob(pattern), default=None)


def version_of(path: Path) -> str:
    """The version in the name of a package's file: ``name_VERSION_all.deb``, ``name-VERSION-py3-none-any.whl``."""
    return path.name.split("_" if path.suffix == ".deb" else "-")[1].replace("%3a", ":")


def fetched(package: Package, folder: Path, *, any_version: bool = False) -> Path:
    """Fetches a package's file into a folder.

    Raises:
        UserError: the program is missing, or doesn't get this version; the message says which version there is.
    """
    command = _download_command(package, any_version)
    try:
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError(
            f"{package.name} is a package of Debian, and this machine has no {command[0]}: fetch it elsewhere and name "
            f"its folder with --packages, or add --leave-out {package.name}"
        ) from None
    path = package_file(package, folder, any_version=any_version)
    if run.returncode == 0 and path is not None:
        return path
    there = _debian_version(package.name) if package.index == "debian" else ""
    reason = f"the package index has version {there}" if there else " ".join((run.stderr or run.stdout).split()[-40:])
    raise UserError(
        f"{package.name} {package.version} can't be fetched ({reason}): name a folder that holds it with --packages, "
        f"take what there is with --any-version, or add --leave-out {package.name}"
    )


def _download_command(package: Package, any_version: bool) -> list[str]:
    if package.index == "debian":
        return ["apt-get", "download", package.name if any_version else f"{package.name}={package.version}"]
    wanted = package.name if any_version else f"{package.name}=={package.version}"
    choice = ["--no-deps", "--only-binary=:all:", *package.pip_options]
    return [sys.executable, "-m", "pip", "download", "-q", *choice, wanted]


def _debian_version(name: str) -> str:
    """The version that Debian's package index has; empty if there is none."""
    command = ["apt-cache", "show", "--no-all-versions", name]
    run = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    fields = dict(line.split(": ", 1) for line in run.stdout.splitlines() if ": " in line and line[0] != " ")
    return fields.get("Version", "")


def check_digest(package: Package, path: Path) -> None:
    """A UserError unless the file is the one whose pictures were looked at."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != package.sha256:
        raise UserError(
            f"{path} has SHA-256 {digest.hexdigest()}, not {package.sha256}: remove it and fetch it again, "
            f"take it as it is with --any-version, or add --leave-out {package.name}"
        )
