"""Videos in and out: each frame once, by its number, and what cannot be decoded."""

import cv2
import numpy as np
import pytest

from pnm.errors import UserError
from pnm.pictures.video import Video, is_video, write_video

SIZE, COUNT, RATE = (48, 64), 24, 12.5


def write_clip(path, count=COUNT):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, SIZE[::-1])
    for n in range(count):
        frame = np.full((*SIZE, 3), 10 * (n % 25), np.uint8)
        frame[:, : 2 * (n % 25)] = (255, 0, 0)
        writer.write(frame)
    writer.release()
    return path


def test_frames_by_their_numbers(tmp_path):
    video = Video(write_clip(tmp_path / "a.mp4"))
    assert (video.frames, video.rate, video.stated, video.lacks) == (COUNT, RATE, COUNT, 0)
    every = dict(video.read(range(COUNT)))
    assert list(every) == list(range(COUNT)) and every[0].shape == (*SIZE, 3)
    for n, frame in video.read([3, 8, 20]):
        np.testing.assert_array_equal(frame, every[n])
        assert abs(int(frame[:, -1].mean()) - 10 * n) < 6
    assert every[20][5, 5, 2] > 200 > every[20][5, 5, 0]  # RGB, and what was drawn is blue


def test_what_is_a_video(tmp_path):
    write_clip(tmp_path / "a.MP4")
    assert is_video(tmp_path / "a.MP4") and not is_video(tmp_path / "none.mp4") and not is_video(tmp_path)


def test_written_and_read_again(tmp_path):
    paths = []
    for n in range(6):
        paths.append(tmp_path / f"{n}.jpg")
        cv2.imwrite(str(paths[-1]), np.full((33, 45, 3), 40 * n, np.uint8))
    write_video(tmp_path / "a.mp4", paths, 7.5)
    video = Video(tmp_path / "a.mp4")
    assert video.frames == 6 and video.rate == 7.5
    for n, frame in video.read(range(6)):
        assert frame.shape == (32, 44, 3) and abs(int(frame.mean()) - 40 * n) < 5
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_broken_videos(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video" * 100)
    with pytest.raises(UserError, match=f"^--images {path} is no video that can be decoded: restore or convert it$"):
        Video(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="is no video that can be decoded"):
        Video(path)
    write_clip(path, 0)
    with pytest.raises(UserError, match=r"is no video that can be decoded|has no frame that can be decoded"):
        Video(path)


def test_frames_that_are_missing_are_counted(tmp_path):
    path = write_clip(tmp_path / "a.avi", 200)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    video = Video(path)
    assert 0 < video.frames < 200
    assert video.lacks in (0, video.stated - video.frames)


def test_a_picture_of_one_pixel_makes_no_video(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(UserError, match="a video has at least 2 x 2 pixels"):
        write_video(tmp_path / "a.mp4", [tmp_path / "a.png"], 5)
