"""Image files to predict, as a user names them: a folder, one file, or a text file with a path in each line."""

import os
from pathlib import Path

from pnm.errors import UserError, print_lines
from pnm.formats.folders import IMAGE_ENDINGS, files_below, one_file_each, stem
from pnm.pictures.pictures import Toning, check_header

LIST_ENDING = ".txt"


class PictureFiles:
    """The images.

    Args:
        path: a folder, searched with its folders; an image; or a ``*.txt`` that lists images, relative ones from its
            own folder.

    Attributes:
        folder: that all images lie in.
        names: of the images below it, with slashes.

    Raises:
        FileNotFoundError, UserError: there is nothing, no image in it, or two images of one name but for the ending.
    """

    def __init__(self, path: Path):
        if path.is_dir():
            self.folder, self.names = path, tuple(files_below(path, *IMAGE_ENDINGS))
            if not self.names:
                raise UserError(f"--images {path} has no image in it: check the path")
        elif path.suffix.lower() == LIST_ENDING and path.is_file():
            self.folder, self.names = _listed_images(path)
        elif path.is_file():
            if path.suffix.lower() not in IMAGE_ENDINGS:
                raise UserError(f"--images {path} is no image known here, expected {', '.join(IMAGE_ENDINGS)}")
            self.folder, self.names = path.parent, (path.name,)
        else:
            raise FileNotFoundError(f"--images {path} does not exist: expected a folder of images, an image or a video")
        one_file_each([(stem(name), self.folder / name) for name in self.names], self.folder, "image")

    def __len__(self) -> int:
        return len(self.names)

    def path(self, name: str) -> Path:
        """The file of an image."""
        return self.folder / name

    def check_headers(self, toning: Toning) -> None:
        """Reads the headers of all images.

        Raises:
            UserError: some are no images, too large, or can't be read so; each is told on a line of its own.
        """
        faults = []
        for name in self.names:
            try:
                check_header(self.path(name), toning)
            except (UserError, OSError) as error:
                faults.append(str(error))
        if faults:
            print_lines(faults)
            raise UserError(f"{len(faults)} of {len(self)} images can't be read, see above; mend or remove them")


def _listed_images(path: Path) -> tuple[Path, tuple[str, ...]]:
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise UserError(f"--images {path} is no UTF-8 text: expected the path of an image in each line") from None
    files = [os.path.abspath(path.parent / line) for line in lines]
    if not files:
        raise UserError(f"--images {path} lists no image: put the path of one in each line")
    missing = [file for file in files if not os.path.isfile(file)]
    if missing:
        raise FileNotFoundError(f"{missing[0]}, which {path} lists, does not exist: correct the line or remove it")
    folder = Path(os.path.commonpath([os.path.dirname(file) for file in files]))
    return folder, tuple(Path(file).relative_to(folder).as_posix() for file in dict.fromkeys(files))
