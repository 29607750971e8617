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


def test_an_unknown_kind_is_refused(photographs, tmp_path):
    with pytest.raises(InputError, match="no 'fog'; take some of clean, "):
        main([str(photographs), str(tmp_path / "out"), "--kinds=clean,fog"])
    assert not (tmp_path / "out").exists()
