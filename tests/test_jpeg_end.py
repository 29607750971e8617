"""Truncated and damaged JPEGs: which are refused, which get a note, and which are harmless."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from esrgan_jax.errors import InputError
from esrgan_jax.images.reader import open_image

y, x = np.mgrid[0:96, 0:80]
RGB = np.dstack([x * 3, y * 2, (x * y) % 256]).astype(np.uint8)
NOTE = "its end marker is missing, but its pixels are complete"


def jpeg(mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGB).convert(mode).save(file, "jpeg", quality=90, **options)
    return file.getvalue()


def pixels(source) -> np.ndarray:
    return np.concatenate(list(open_image(source).rows()))


KINDS = [{}, {"progressive": True}, {"mode": "L"}, {"restart_marker_rows": 2}, {"subsampling": 0}]


@pytest.mark.parametrize("missing_bytes", [1, 2])
@pytest.mark.parametrize("options", KINDS)
def test_a_missing_end_marker_gives_a_note(tmp_path, options, missing_bytes):
    data = jpeg(**options)
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:-missing_bytes])
    for source in (path, data[:-missing_bytes]):
        assert open_image(source).notes == (NOTE,)
        np.testing.assert_array_equal(pixels(source), pixels(data))
    assert open_image(data).notes == ()


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_the_error_says_how_many_rows_are_missing(part):
    data = jpeg(subsampling=0)
    with pytest.raises(InputError) as error:
        open_image(data[: int(len(data) * part)])
    missing = int(str(error.value).split("the last ")[1].split(" of its 96 rows are missing")[0])
    assert abs(missing - 96 * (1 - part)) < 24


def test_a_truncated_progressive_jpeg_is_refused():
    data = jpeg(progressive=True)
    with pytest.raises(
        InputError, match="it is truncated or damaged: its finer details are missing"
    ):
        open_image(data[: len(data) * 3 // 4])


def scan_offsets(data: bytes) -> list[int]:
    """Returns offsets of the second and later scans of a progressive JPEG, or of their tables."""
    found = [m.start() for m in re.finditer(rb"\xff(?=[\xc4\xda])", data)]
    scans = [at for at in found if data[at + 1] == 0xDA]
    return [next(at for at in found if at > before) for before in scans[:-1]]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_progressive_jpeg_cut_between_scans_needs_an_end_marker(mode):
    data = jpeg(mode, progressive=True)
    offsets = scan_offsets(data)
    assert len(offsets) > 4
    for at in offsets:
        with pytest.raises(InputError, match="its finer details are missing"):
            open_image(data[:at])
        assert open_image(data[:at] + b"\xff\xd9").notes == (
            "its last scans are missing, so its finer details are missing",
        )


@pytest.mark.kept("jpeg-scans")
def test_a_progressive_jpeg_without_its_last_scan_is_upscaled(outcome):
    data = jpeg(progressive=True)
    result = outcome(data[: scan_offsets(data)[-1]] + b"\xff\xd9")
    assert result.notes == ["its last scans are missing, so its finer details are missing"]


@pytest.mark.parametrize("trailing", [bytes(1000), b"hello" * 100])
def test_data_after_the_end_marker_is_ignored(trailing):
    np.testing.assert_array_equal(pixels(jpeg() + trailing), pixels(jpeg()))


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("part", [0.4, 0.7])
def test_a_truncated_jpeg_with_an_end_marker_is_refused_or_noted(options, part):
    data = jpeg(**options)
    cut = data[: int(len(data) * part)].rstrip(b"\xff") + b"\xff\xd9"
    if "restart_marker_rows" in options:  # the part after the restart marker may be complete
        (note,) = open_image(cut).notes
        assert note.startswith("it is damaged, so parts of it may be wrong (from row ")
    else:
        with pytest.raises(InputError, match="it is truncated or damaged: "):
            open_image(cut)


@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_a_jpeg_without_its_last_bytes_is_refused(end):
    data = jpeg("L")
    with pytest.raises(InputError, match=r"the last [0-9]+ of its 96 rows are missing"):
        open_image(data[:-14] + end)


def test_a_jpeg_padded_with_zeros_is_refused_as_truncated():
    data = jpeg(subsampling=0)
    half = data[: len(data) // 2] + bytes(len(data) // 2)
    with pytest.raises(InputError, match=r"the last [0-9]+ of its 96 rows are missing"):
        open_image(half)


@pytest.mark.parametrize("options", [{}, {"mode": "L"}, {"restart_marker_rows": 2}])
def test_zeros_in_the_middle_of_a_jpeg_give_a_note(options):
    data = jpeg(**options)
    middle = len(data) // 2
    (note,) = open_image(data[:middle] + bytes(64) + data[middle + 64 :]).notes
    assert note.startswith("it is damaged, so parts of it may be wrong (")


def test_a_missing_restart_marker_gives_a_note():
    data = jpeg(restart_marker_rows=1, subsampling=0)
    at = data.find(b"\xff\xd4")  # after 5 rows of blocks
    (note,) = open_image(data[:at] + data[at + 2 :]).notes
    assert note == "it is damaged, so parts of it may be wrong (from row 40 of 96 on)"


def test_data_for_more_pixels_than_the_size_gives_a_note():
    data = jpeg(subsampling=0)
    at = data.find(b"\xff\xc0") + 5
    shorter = data[:at] + (72).to_bytes(2, "big") + data[at + 2 :]
    (note,) = open_image(shorter).notes
    assert (
        note
        == "it is damaged, so parts of it may be wrong (it has data for more pixels than its size)"
    )


def harmless() -> dict[str, bytes]:
    """Returns {name: JPEG} of unusual files whose pixels are complete."""
    data = jpeg()
    scan = data.find(b"\xff\xda")
    flat = io.BytesIO()
    Image.new("RGB", (160, 160), (9, 99, 200)).save(flat, "jpeg", optimize=True)
    assert bytes(32) in flat.getvalue()
    return {
        "padding with 0xFF": data[:-2] + b"\xff" * 5 + data[-2:],
        "padding with zeros": data[:-2] + bytes(500) + data[-2:],
        "junk between segments": data[:20] + bytes(4) + data[20:],
        "a later JFIF": data[:11] + b"\x02" + data[12:],
        "a scan without its range": data[: scan + 11] + bytes(3) + data[scan + 14 :],
        "one color": flat.getvalue(),
        "optimized": jpeg(optimize=True),
        "half the columns": jpeg(subsampling=1),
        "zeros, progressive": jpeg(progressive=True)[:-2] + bytes(500) + b"\xff\xd9",
    }


@pytest.mark.parametrize("name", harmless())
def test_harmless_jpegs_are_read_without_notes(name):
    data = harmless()[name]
    assert open_image(data).notes == ()
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_allclose(pixels(data), expected, atol=3)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (16, 16), (17, 33), (80, 8)])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_blocks": 1}])
def test_small_jpegs_are_read_without_notes(size, options):
    file = io.BytesIO()
    Image.fromarray(RGB[: size[1], : size[0]]).save(file, "jpeg", **options)
    assert open_image(file.getvalue()).notes == ()


@pytest.mark.kept("jpeg-damaged")
def test_a_damaged_jpeg_is_upscaled(outcome):
    data = jpeg()
    outcome(data[:1500] + bytes(64) + data[1564:])


@pytest.mark.kept("jpeg-end")
def test_a_jpeg_without_its_end_marker_is_upscaled(outcome):
    outcome(jpeg()[:-2])


@pytest.mark.kept("jpeg-cut")
def test_a_truncated_jpeg_is_not_upscaled(outcome):
    outcome(jpeg()[:-200])
