"""The images that the upscaling benchmark works on: one in memory, or a folder of files."""

from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import skimage.data

Job = tuple[Path, Path]  # (source, target), as of `batch.jobs`


class Work(NamedTuple):
    """What all sides upscale.

    Attributes:
        image: (H, W, 3) uint8, the work, or the first file of it.
        folder: Where the files are, in "lr", and where results go, in a folder for each side; None
            if the work is the image.
    """

    image: np.ndarray
    folder: Path | None = None

    @classmethod
    def create(cls, height: int, width: int, files: int, folder: Path) -> Self:
        """Makes one image in memory, or writes a number of PNG files below `folder`."""
        images = [photograph(height, width, 97 * index) for index in range(files or 1)]
        if not files:
            return cls(images[0])
        from esrgan_jax.images.image_file import write_image

        (folder / "lr").mkdir()
        for index, image in enumerate(images):
            write_image(folder / "lr" / f"{index:03}.png", image)
        return cls(images[0], folder)

    def jobs(self, side: str) -> list[Job]:
        """Returns the source and the target of each file."""
        assert self.folder is not None
        target = self.folder / side
        target.mkdir(exist_ok=True)
        return [(path, target / path.name) for path in sorted((self.folder / "lr").iterdir())]


def photograph(height: int, width: int, shift: int = 0) -> np.ndarray:
    """Returns (height, width, 3) uint8 of a photograph, mirrored at its borders, moved by pixels.

    It compresses as people's images do, which noise does not.
    """
    image = np.roll(skimage.data.astronaut(), -shift, (0, 1))
    bottom, right = max(height - image.shape[0], 0), max(width - image.shape[1], 0)
    return np.pad(image, ((0, bottom), (0, right), (0, 0)), "symmetric")[:height, :width].copy()
