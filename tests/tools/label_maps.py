"""Label maps in files, and what the command that scores them is told of their classes."""

from PIL import Image


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode).save(path)


SEMANTIC = ("--classes", 3)
