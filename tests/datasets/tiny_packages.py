"""Small packages and pictures, made byte by byte, for tests; importing it makes the data sets' programs importable."""

import io
import struct
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "datasets"))


def scene(seed: int, height: int = 60, width: int = 80, scale: int = 1) -> Image.Image:
    """A smooth random picture; the same seed gives the same in every scale."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((width * scale, height * scale), Image.Resampling.BICUBIC)


def disc(side: int = 100, radius: int = 45, alpha: int = 255) -> Image.Image:
    y, x = np.mgrid[:side, :side] - side // 2
    pixels = np.full((side, side, 4), 90, np.uint8)
    pixels[..., 3] = np.where(y * y + x * x <= radius * radius, alpha, 0)
    return Image.fromarray(pixels)


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def write_deb(path: Path, files: dict[str, bytes], compression: str = "xz") -> Path:
    """A Debian package: an ar archive of a version and two tar archives; the first has an odd length."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{compression}") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("./usr/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    members = {"debian-binary": b"2.0", "control.tar.xz": b"control", f"data.tar.{compression}": data.getvalue()}
    blocks = [b"!<arch>\n"]
    for name, content in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
        blocks += [header.encode("ascii"), content, b"\n" * (len(content) % 2)]
    path.write_bytes(b"".join(blocks))
    return path


def resource(files: list[tuple[str, bytes, int]], version: int = 3) -> bytes:
    """A Qt resource file with one folder, ``art``, of files (name, content, flags: 1 zlib, 4 Zstandard)."""
    names, name_at = b"", []
    for name in ("art", *(name for name, _, _ in files)):
        name_at.append(len(names))
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    time = b"\0" * 8 if version > 1 else b""
    tree = struct.pack(">IHII", 0, 2, 1, 1) + time + struct.pack(">IHII", name_at[0], 2, len(files), 2) + time
    data = b""
    for offset, (_, content, flags) in zip(name_at[1:], files, strict=True):
        tree += struct.pack(">IHHHI", offset, flags, 0, 0, len(data)) + time
        stored = struct.pack(">I", len(content)) + zlib.compress(content) if flags == 1 else content
        data += struct.pack(">I", len(stored)) + stored
    at = 24 if version > 2 else 20
    header = b"qres" + struct.pack(">4I", version, at, at + len(tree), at + len(tree) + len(data))
    return header + b"\0" * (at - 20) + tree + data + names
