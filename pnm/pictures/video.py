"""Videos, frame by frame in and out, by OpenCV's FFmpeg."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from pnm.errors import UserError
from pnm.formats.atomic_files import WriteError, atomic_path

ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
_CODEC = "mp4v"  # MPEG-4 part 2: in every build of OpenCV, and played by VLC, mpv and FFmpeg
_ASSUMED_RATE = 25.0  # frames/s of a video that doesn't say


def is_video(path: Path) -> bool:
    """Whether a file is called as videos are."""
    return path.is_file() and path.suffix.lower() in ENDINGS


class Video:
    """A video file, all of whose frames have been decoded once.

    Attributes:
        path: of the file.
        frames: how many can be decoded.
        rate: frames/s.
        stated: frames that its header speaks of; 0 where it doesn't.

    Raises:
        UserError: no frame of it can be decoded.
    """

    def __init__(self, path: Path):
        self.path = path
        capture = self._opened()
        self.stated = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        self.rate = rate if np.isfinite(rate) and 0 < rate < 1000 else _ASSUMED_RATE
        self.frames = 0
        while capture.grab():
            self.frames += 1
        capture.release()
        if not self.frames:
            raise UserError(f"--images {path} has no frame that can be decoded: restore the video")

    def _opened(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise UserError(f"--images {self.path} is no video that can be decoded: restore or convert it")
        return capture

    @property
    def lacks(self) -> int:
        """Frames at its end that the header speaks of and that can't be decoded. (Headers are wrong by one or two.)"""
        missing = self.stated - self.frames
        return missing if missing > max(2, self.stated // 100) else 0

    def read(self, numbers: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
        """(number, (H, W, 3) uint8 RGB) of some frames, rising; upright, as phones say in the file."""
        capture, left = self._opened(), len(numbers)
        try:
            for number in range(self.frames):
                if not left or not capture.grab():
                    return
                if number in numbers:
                    done, frame = capture.retrieve()
                    if done:
                        left -= 1
                        yield number, np.ascontiguousarray(frame[..., ::-1])
        finally:
            capture.release()


def write_video(path: Path, pictures: Sequence[Path], rate: float) -> None:
    """An MP4 of picture files of one size.

    Args:
        path: is replaced only when the video is whole.
        rate: pictures/s.

    Raises:
        WriteError: it can't be written.
    """
    height, width, _ = _read(pictures[0]).shape
    size = width - width % 2, height - height % 2  # codecs want even sides
    if min(size) == 0:
        raise WriteError(f"{path} can't be written: a video has at least 2 x 2 pixels")
    with atomic_path(path) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*_CODEC), rate, size)
        try:
            if not writer.isOpened():
                raise WriteError(
                    f"{path} can't be written: OpenCV has no codec {_CODEC}, or the folder is not writable"
                )
            for picture in pictures:
                writer.write(_read(picture)[: size[1], : size[0]])
        finally:
            writer.release()


def _read(picture: Path) -> np.ndarray:
    """(H, W, 3) uint8, BGR, of a picture that we made."""
    pixels = cv2.imread(str(picture))
    if pixels is None:
        raise UserError(f"{picture} can't be read: the run in its folder is damaged, start it anew with --overwrite")
    return pixels
