"""The files of `configs/` and `tools/`, which are in the repository and in the wheel."""

from pathlib import Path


def home() -> Path:
    """Returns the folder of `configs/` and `tools/`: the repository, or a folder of the wheel."""
    package = Path(__file__).parent
    wheel = package / "packaged_files"
    return wheel if wheel.is_dir() else package.parent
