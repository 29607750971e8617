"""Fingerprints of training images, and the message about images that changed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esrgan_jax.data.changed import changes, fingerprint
from esrgan_jax.data.sources import ImageFolder, PairedFolder, open_source


def write_noise(path: Path, size: int = 16, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("a.png", "b.png", "sub/c.png"):
        write_noise(tmp_path / "hr" / name)
    return tmp_path / "hr"


def test_a_fingerprint_has_names_and_sizes_but_not_the_folder(folder, tmp_path):
    before = fingerprint(ImageFolder(folder, 8))
    assert before["count"] == 3
    assert before["files"] == {
        name: (folder / name).stat().st_size for name in ("a.png", "b.png", "sub/c.png")
    }
    folder.rename(tmp_path / "elsewhere")
    assert changes(before, fingerprint(ImageFolder(tmp_path / "elsewhere", 8))) == ""


def test_added_removed_and_changed_images_are_listed(folder):
    before = fingerprint(ImageFolder(folder, 8))
    for index in range(5):
        write_noise(folder / f"new{index}.png")
    (folder / "a.png").unlink()
    write_noise(folder / "b.png", 20)
    assert changes(before, fingerprint(ImageFolder(folder, 8))) == (
        "3 images then, 7 now; added: new0.png, new1.png, new2.png and 2 more; removed: a.png; "
        "changed: b.png"
    )


def test_fingerprints_number_the_files_of_several_folders(folder, tmp_path):
    write_noise(tmp_path / "more" / "a.png")
    both = fingerprint(ImageFolder([folder, tmp_path / "more"], 8))
    assert set(both["files"]) == {"0/a.png", "0/b.png", "0/sub/c.png", "1/a.png"}
    for name in ("a.png", "b.png", "sub/c.png"):
        write_noise(tmp_path / "lr" / name, 4)
    before = fingerprint(PairedFolder(tmp_path / "lr", folder, 4, 8))
    assert before["count"] == 3
    assert len(before["files"]) == 6
    path = tmp_path / "lr" / "b.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    after = fingerprint(PairedFolder(tmp_path / "lr", folder, 4, 8))
    assert changes(before, after) == "3 images then, 3 now; changed: 1/b.png"


def test_fingerprints_of_prepared_folders_cover_their_records(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    from esrgan_jax.data.builder import write_sub_images

    records = []
    for size in (8, 12):
        pixels = np.zeros((size, size, 3), np.uint8)
        write_sub_images(tmp_path / str(size), [lambda p=pixels: iter([("a", p), ("b", p)])])
        records.append(fingerprint(open_source(tmp_path / str(size), scale=4, min_size=8)))
    assert [found["count"] for found in records] == [2, 2]
    assert all(any("array_record" in name for name in found["files"]) for found in records)
    assert changes(records[0], records[0]) == ""
    assert changes(*records) == "2 images then, 2 now; changed: record 0, record 1"
