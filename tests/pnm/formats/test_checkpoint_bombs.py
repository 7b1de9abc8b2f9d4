"""Small files do not ask for much time or memory."""

import os
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

from pnm.formats.safe_checkpoint import CheckpointError, load_pickle


def nested(opening, closing, depth):
    return opening * depth + closing * depth + b"."


BOMBS = {
    "tuples.pkl": nested(b"(", b"t", 10**6),
    "lists.pkl": nested(b"(", b"l", 10**6),
    "dicts.pkl": nested(b"(I1\n", b"d", 10**6),
    "keys.pkl": b"(" + nested(b"(", b"t", 10**5)[:-1] + b"I1\nd.",
    "itself.pkl": b"(lp0\ng0\na.",
    "laughs.pkl": b"(tq\x00" + b"".join(b"(" + b"h%c" % k * 9 + b"tq%c" % (k + 1) for k in range(80)) + b".",
    "memo.pkl": b"Nr\xff\xff\xff\xff",
    "bytes.pkl": b"\x8e" + struct.pack("<Q", 2**45) + b"x.",
    "array.pkl": b"\x96" + struct.pack("<Q", 2**45) + b"x.",
    "frame.pkl": b"\x80\x04\x95" + struct.pack("<Q", 2**45) + b"x.",
    "number.pkl": b"cbuiltins\nbytearray\n(L35184372088832L\ntR.",
    "sets.pkl": b"(" + b"I1\n" * 10**5 + b"lp0\n0(" + b"cbuiltins\nset\n(g0\ntR" * 10**5 + b"t.",
    "texts.pkl": b"(S'" + b"x" * 10**6 + b"'\np0\n0" + b"c_codecs\nencode\n(g0\ntR" * 10**5 + b"t.",
}


def test_small_files_do_not_ask_for_much(tmp_path):
    """In a process of its own, whose memory is limited to 3 GB beyond what it has imported."""
    files = [tmp_path / name for name in BOMBS]
    for file in files:
        file.write_bytes(BOMBS[file.name])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, *map(str, files)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-500:]
    for file, line in zip(files, lines, strict=True):
        assert f"{file} is not a readable checkpoint" in line and "MemoryError" not in line


def read_with_little_memory(paths):
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 3 * 2**30,) * 2)
    for path in paths:
        start = time.perf_counter()
        try:
            print(type(load_pickle(path)))
        except CheckpointError as error:
            print(error, time.perf_counter() - start)


if __name__ == "__main__":
    read_with_little_memory(sys.argv[1:])
