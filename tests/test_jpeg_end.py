import io

import numpy as np
import pytest
from PIL import Image

from esrgan_jax.errors import InputError
from esrgan_jax.pictures.reader import open_picture

y, x = np.mgrid[0:96, 0:80]
RGB = np.dstack([x * 3, y * 2, (x * y) % 256]).astype(np.uint8)
NOTE = "the mark at its end is missing, and nothing else is"


def jpeg(mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGB).convert(mode).save(file, "jpeg", quality=90, **options)
    return file.getvalue()


def pixels(source) -> np.ndarray:
    return np.concatenate(list(open_picture(source).rows()))


KINDS = [{}, {"progressive": True}, {"mode": "L"}, {"restart_marker_rows": 2}, {"subsampling": 0}]


@pytest.mark.parametrize("lacking", [1, 2])
@pytest.mark.parametrize("options", KINDS)
def test_only_the_end_is_missing(tmp_path, options, lacking):
    data = jpeg(**options)
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:-lacking])
    for source in (path, data[:-lacking]):
        assert open_picture(source).notes == (NOTE,)
        np.testing.assert_array_equal(pixels(source), pixels(data))
    assert open_picture(data).notes == ()


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_it_is_said_how_much_is_missing(part):
    data = jpeg(subsampling=0)
    with pytest.raises(InputError) as error:
        open_picture(data[: int(len(data) * part)])
    missing = int(str(error.value).split("the last ")[1].split(" of its 96 rows are missing")[0])
    assert abs(missing - 96 * (1 - part)) < 24


def test_a_progressive_one_lacks_details():
    data = jpeg(progressive=True)
    with pytest.raises(InputError, match="it is cut off: its finer details are missing"):
        open_picture(data[: len(data) * 3 // 4])


@pytest.mark.parametrize("behind", [bytes(1000), b"hello" * 100])
def test_what_comes_behind_does_not_matter(behind):
    np.testing.assert_array_equal(pixels(jpeg() + behind), pixels(jpeg()))


@pytest.mark.kept("jpeg-end")
def test_result_of_one_without_its_end(outcome):
    outcome(jpeg()[:-2])


@pytest.mark.kept("jpeg-cut")
def test_result_of_one_that_is_cut_off(outcome):
    outcome(jpeg()[:-200])
