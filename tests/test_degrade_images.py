"""tools/degrade_images.py: the same images everywhere, as degraded as their kind says."""

import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.images.image_file import read_image, write_image
from tools.degrade_images import KINDS, main


@pytest.fixture
def photographs(tmp_path, rng):
    for name in "ab":
        coarse = rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)
        write_image(
            tmp_path / "hr" / f"{name}.png", np.kron(coarse, np.ones((10, 10, 1), np.uint8))
        )
    return tmp_path / "hr"


def test_each_kind_is_reproducible_and_further_from_hr_than_clean(photographs, tmp_path):
    main([str(photographs), str(tmp_path / "all")])
    (photographs / "b.png").unlink()
    main([str(photographs), str(tmp_path / "one"), "--kinds=noise10,jpeg30,phone"])
    error, edges = {}, {}
    clean = read_image(tmp_path / "all" / "clean" / "a.png").astype(float)
    assert clean.shape == (22, 20, 3)  # 90x80 is cropped to 88x80
    for kind in KINDS:
        image = read_image(tmp_path / "all" / kind / "a.png")
        error[kind] = np.abs(image - clean).mean()
        edges[kind] = np.abs(np.diff(image.astype(float), axis=0)).mean()
        other = tmp_path / "one" / kind / "a.png"
        if other.exists():
            np.testing.assert_array_equal(read_image(other), image)
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == ["jpeg30", "noise10", "phone"]
    assert error["clean"] == 0 < error["jpeg75"] < error["jpeg50"] < error["jpeg30"]
    assert error["noise10"] == pytest.approx(10 * np.sqrt(2 / np.pi), rel=0.15)
    assert edges["blur"] < 0.8 * edges["clean"] < edges["noise10"]
    assert error["phone"] > error["jpeg75"]


def test_sub_folders_are_kept_and_nothing_is_overwritten(photographs, tmp_path):
    flat, nested, out = photographs, tmp_path / "nested", tmp_path / "out"
    write_image(nested / "1" / "a.png", read_image(flat / "a.png"))
    write_image(nested / "2" / "a.png", read_image(flat / "b.png"))
    main([str(flat), str(tmp_path / "flat"), "--kinds=clean"])
    main([str(nested), str(out), "--kinds=clean,noise10"])
    for name, other in (("1/a.png", "a.png"), ("2/a.png", "b.png")):
        expected = read_image(tmp_path / "flat" / "clean" / other)
        np.testing.assert_array_equal(read_image(out / "clean" / name), expected)
    noise = [
        read_image(out / "noise10" / name) - read_image(out / "clean" / name).astype(float)
        for name in ("1/a.png", "2/a.png")
    ]
    assert (noise[0] != noise[1]).mean() > 0.5
    for hr, output in ((flat, flat), (flat, flat / "lr"), (out / "clean", out)):
        with pytest.raises(InputError, match=r"clean: would mix results with the images of"):
            main([str(hr), str(output), "--kinds=clean"])
    (flat / "b.png").rename(flat / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg and .*a\.png would become the same PNG"):
        main([str(flat), str(tmp_path / "new")])
    assert sorted(path.name for path in flat.iterdir()) == ["a.jpg", "a.png"]
    assert not (tmp_path / "new").exists()


def test_a_flat_folder_has_the_noise_it_always_had(photographs, tmp_path):
    """Since scores in docs/models.md were measured with it."""
    (photographs / "a.png").rename(photographs / "a.1.png")
    main([str(photographs), str(tmp_path), "--kinds=clean,noise10"])
    clean, found = (
        np.asarray(read_image(tmp_path / kind / "a.1.png"), float) for kind in ("clean", "noise10")
    )
    rng = np.random.default_rng(list(b"noise10/a.1"))
    expected = (clean + rng.normal(0, 10, clean.shape)).round().clip(0, 255)
    np.testing.assert_array_equal(found, expected)


def test_an_unknown_kind_is_refused(photographs, tmp_path):
    with pytest.raises(InputError, match="no 'fog'; take some of clean, "):
        main([str(photographs), str(tmp_path / "out"), "--kinds=clean,fog"])
    assert not (tmp_path / "out").exists()
