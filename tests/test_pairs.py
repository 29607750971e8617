"""Tests of how HR and LR files are paired by name, for training and for evaluation."""

import re

import pytest

from esrgan_jax.data.pairs import find_pairs
from esrgan_jax.errors import InputError
from esrgan_jax.evaluation import samples


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("hr", "lr"),
    [
        ("a.png", "a.jpg"),
        ("a.png", "ax4.png"),
        ("sub/a.png", "sub/a_x4.png"),
        ("a_HR.png", "a_LR4.png"),
        ("a_HR.png", "a_LR.png"),
        ("a_HR.png", "a_HR.png"),
    ],
)
def test_training_and_evaluation_find_the_same_pairs(tmp_path, hr, lr):
    touch(tmp_path / "hr", hr, "z.png")
    touch(tmp_path / "lr", lr, "zx4.png")
    expected = [
        (tmp_path / "hr" / hr, tmp_path / "lr" / lr),
        (tmp_path / "hr/z.png", tmp_path / "lr/zx4.png"),
    ]
    assert find_pairs(tmp_path / "hr", tmp_path / "lr", 4) == expected
    assert samples.image_paths(tmp_path / "hr", tmp_path / "lr", 4) == expected


def test_names_with_another_scale_or_folder_are_not_paired(tmp_path):
    touch(tmp_path / "hr", "a.png", "sub/b.png")
    touch(tmp_path / "lr", "ax2.png", "b.png")
    unpaired = ["hr/a.png", "hr/sub/b.png", "lr/ax2.png", "lr/b.png"]
    names = ", ".join(str(tmp_path / name) for name in unpaired)
    with pytest.raises(InputError, match=f"4 images of .* no partner: {re.escape(names)}; "):
        find_pairs(tmp_path / "hr", tmp_path / "lr", 4)


def test_files_that_differ_only_in_suffix_are_refused(tmp_path):
    touch(tmp_path / "hr", "a.png")
    touch(tmp_path / "lr", "a.png", "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg and \S+a\.png differ only in the suffix"):
        find_pairs(tmp_path / "hr", tmp_path / "lr", 4)
