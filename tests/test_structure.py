"""Tests of files with several images or parts: which one is used, and notes on the others."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image, ImageOps

from esrgan_jax.errors import InputError
from esrgan_jax.images.image_file import image_size, read_image
from esrgan_jax.images.inputs import sniff
from esrgan_jax.images.metadata.xmp import upright_point
from esrgan_jax.images.reader import open_image
from tests.test_image_color import HEIC

CFA = {"photometric": "cfa", "extratags": [(33421, "H", 2, (2, 2)), (33422, "B", 4, bytes(4))]}
GAIN_MAP = "its gain map (HDR) is dropped; the image itself is upscaled"
RESULT = "its {} dropped; the image itself is upscaled"


def flat(value: int, *shape: int, dtype=np.uint8) -> np.ndarray:
    return np.full(shape, value, dtype)


def encoded(array: np.ndarray, kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def level(path) -> int:
    """Returns the level of an image that has a single one."""
    pixels = np.concatenate(list(open_image(path).rows()))[..., :3].astype(int)
    assert np.ptp(pixels) <= 4
    return round(pixels.mean())


def tiff(*pages: dict) -> bytes:
    """Encodes a TIFF; a page is tifffile's arguments, with its array as "data"."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in pages:
            options = {"metadata": None, **page}
            writer.write(options.pop("data"), **options)
    return file.getvalue()


def raw_file(maker: str, dng: bool) -> bytes:
    """Encodes a raw file: a thumbnail, and the sensor's values in its subdirectory."""
    tags = [(271, "s", 0, maker), *([(50706, "B", 4, b"\1\4\0\0")] if dng else [])]
    thumbnail = {"data": flat(90, 16, 20, 3), "photometric": "rgb", "subfiletype": 1}
    return tiff(
        {**thumbnail, "subifds": 1, "extratags": tags},
        {"data": flat(900, 64, 80, dtype=np.uint16), "subfiletype": 0, **CFA},
    )


def ftyp(*brands: str) -> bytes:
    return (
        struct.pack(">I4s4sI", 16 + 4 * len(brands), b"ftyp", brands[0].encode(), 0)
        + "".join(brands).encode()
    )


RAW = {
    "DNG": raw_file("QA", True),
    "Nikon Corporation": raw_file("NIKON CORPORATION", False),
    "a camera": tiff({"data": flat(9, 64, 80, dtype=np.uint16), **CFA}),
    "Canon CR2": b"II*\0\x10\0\0\0CR\2\0" + bytes(400),
    "Canon CR3": ftyp("crx ", "isom") + bytes(400),
    "Fujifilm RAF": b"FUJIFILMCCD-RAW 0201" + bytes(400),
    "Olympus ORF": b"IIRO\x08\0\0\0" + bytes(400),
    "Panasonic or Leica RW2": b"IIU\0\x08\0\0\0" + bytes(400),
    "Phase One IIQ": b"II*\0\x08\0\0\0IIIITwaR" + bytes(400),
}


@pytest.mark.kept("raw")
@pytest.mark.parametrize("maker", RAW)
def test_raw_files_are_refused(outcome, tmp_path, maker):
    reason = outcome(RAW[maker]).failure
    assert f"it is a raw file ({maker})" in reason
    assert "develop it" in reason
    (tmp_path / "a.tif").write_bytes(RAW[maker])
    for read in (read_image, image_size):
        with pytest.raises(InputError, match="raw file"):
            read(tmp_path / "a.tif")


SMALL = {"data": flat(90, 16, 20, 3), "photometric": "rgb", "subfiletype": 1}
LARGE = {"data": flat(30, 64, 80, 3), "photometric": "rgb"}
MASK = {"data": flat(0, 64, 80, dtype=np.bool_), "photometric": "minisblack", "subfiletype": 4}


@pytest.mark.kept("thumbnail-first")
@pytest.mark.parametrize(
    "pages",
    [
        (SMALL, LARGE),
        (SMALL, SMALL, {**LARGE, "subfiletype": 0}),
        ({**SMALL, "subifds": 1}, LARGE),
        ({**LARGE, "subifds": 2}, SMALL, SMALL),
        (LARGE, SMALL, SMALL),  # a pyramid
    ],
)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_the_full_size_image_of_a_tiff_is_used(outcome, tmp_path, pages, byteorder):
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=byteorder, bigtiff=byteorder == ">") as writer:
        for page in pages:
            writer.write(page["data"], **{k: v for k, v in page.items() if k != "data"})
    result = outcome(file.getvalue())
    found = open_image(result.path)
    assert (found.height, found.width, level(result.path)) == (128, 160, 30)
    (tmp_path / "a.tif").write_bytes(file.getvalue())
    assert image_size(tmp_path / "a.tif") == (64, 80)
    assert (read_image(tmp_path / "a.tif") == 30).all()


def test_a_thumbnail_alone_is_read_as_the_image():
    assert open_image(tiff(SMALL)).width == 20


def test_thumbnails_are_not_counted_as_images():
    other = {**LARGE, "data": flat(200, 30, 40, 3)}
    notes = open_image(tiff(LARGE, SMALL, other, SMALL)).notes
    assert notes == ("only the first of the 2 images in the file is used",)


@pytest.mark.kept("tiff-mask")
def test_the_mask_of_a_tiff_is_dropped_with_a_note(outcome):
    result = outcome(tiff(LARGE, MASK))
    assert result.notes == ["its transparency mask is dropped"]
    assert level(result.path) == 30


@pytest.mark.kept("tiff-layers")
def test_the_layers_of_a_tiff_are_dropped_with_a_note(outcome):
    layers = (37724, "B", 30, b"Adobe Photoshop Document Data\0")
    result = outcome(tiff({**LARGE, "extratags": [layers]}))
    assert result.notes == ["its Photoshop layers are dropped; the flattened image is used"]
    assert level(result.path) == 30


IMAGE = encoded(flat(30, 32, 48, 3), "jpeg", quality=100)
OTHER = encoded(flat(200, 16, 24, 3), "jpeg")
VIDEO = ftyp("mp42", "isom") + struct.pack(">I4s", 40, b"mdat") + bytes(32)


def segment(number: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, 0xE0 + number, len(content) + 2) + content


def xmp_segment(properties: str, inside: str = "") -> bytes:
    text = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"
 xmlns:Container="http://ns.google.com/photos/1.0/container/"
 xmlns:Item="http://ns.google.com/photos/1.0/container/item/"
 xmlns:HDRGainMap="http://ns.apple.com/HDRGainMap/1.0/" dc:creator="Ada"
 {properties}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>"""
    return segment(1, b"http://ns.adobe.com/xap/1.0/\0" + text.encode())


def directory(*semantics: str) -> str:
    items = "".join(
        f'<rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg" '
        f'Item:Semantic="{name}"/></rdf:li>'
        for name in semantics
    )
    return f"<Container:Directory><rdf:Seq>{items}</rdf:Seq></Container:Directory>"


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def multi_image(first: bytes, *others: tuple[int, bytes]) -> bytes:
    """Encodes a multi-picture file (CIPA DC-007): the first image, then (kind, image) of others."""
    header = 8 + 2 + 3 * 12 + 4
    size, at, entries = len(first) + 4 + 4 + header + 16 * (1 + len(others)), 0, b""
    for kind, image in [(0x030000, first), *others]:
        place = at - (2 + 4 + 4) if at else 0  # counted from the index's own header
        length = len(image) if at else size
        entries += struct.pack(">IIIHH", kind, length, place, 0, 0)
        at += length
    index = struct.pack(">2sHIH", b"MM", 42, 8, 3) + struct.pack(">HHI4s", 0xB000, 7, 4, b"0100")
    index += struct.pack(">HHII", 0xB001, 4, 1, 1 + len(others))
    index += struct.pack(">HHIII", 0xB002, 7, len(entries), header, 0) + entries
    return with_segments(first, segment(2, b"MPF\0" + index)) + b"".join(p for _, p in others)


def test_pillow_reads_the_multi_image_files_of_these_tests():
    with Image.open(io.BytesIO(multi_image(IMAGE, (0x020002, OTHER)))) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
        image.seek(1)
        assert image.size == (24, 16)


GAIN_MAPS = {
    "Ultra HDR": multi_image(with_segments(IMAGE, xmp_segment('hdrgm:Version="1.0"')), (0, OTHER)),
    "Ultra HDR with a directory": with_segments(
        IMAGE, xmp_segment('hdrgm:Version="1.0"', directory("Primary", "GainMap"))
    )
    + OTHER,
    "ISO 21496-1": multi_image(
        IMAGE, (0, with_segments(OTHER, segment(2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(8))))
    ),
    "Apple": multi_image(
        IMAGE, (0, with_segments(OTHER, xmp_segment('HDRGainMap:HDRGainMapVersion="65536"')))
    ),
}


@pytest.mark.kept("gain-map")
@pytest.mark.parametrize("kind", GAIN_MAPS)
@pytest.mark.parametrize("target", ["b.png", "b.jpg", "b.webp", "b.avif", "b.tif"])
def test_gain_maps_are_dropped_with_a_note(outcome, kind, target):
    result = outcome(GAIN_MAPS[kind], target)
    assert result.notes == [GAIN_MAP]
    assert level(result.path) == 30
    written = result.path.read_bytes()
    assert not re.search(rb"hdr-?gain-?map|hdrgm|21496|MPF\0|Container", written, re.I)
    if kind.startswith("Ultra"):
        assert b"Ada" in open_image(result.path).metadata["xmp-data"][1]


@pytest.mark.kept("motion-photo")
@pytest.mark.parametrize("target", ["b.png", "b.jpg"])
@pytest.mark.parametrize(
    "data",
    [
        with_segments(IMAGE, xmp_segment('GCamera:MicroVideo="1" GCamera:MicroVideoOffset="72"'))
        + VIDEO,
        with_segments(
            IMAGE, xmp_segment('GCamera:MotionPhoto="1"', directory("Primary", "MotionPhoto"))
        )
        + VIDEO,
        IMAGE + VIDEO + b"\0\0\x30\x0a" + struct.pack("<I", 16) + b"MotionPhoto_DataSEFT",
    ],
)
def test_videos_of_motion_photos_are_dropped_with_a_note(outcome, data, target):
    result = outcome(data, target)
    assert result.notes == [RESULT.format("video is")]
    assert level(result.path) == 30
    assert not re.search(rb"Motion|MicroVideo|ftyp", result.path.read_bytes())


@pytest.mark.kept("depth-map")
@pytest.mark.parametrize(
    "data",
    [
        with_segments(IMAGE, xmp_segment("", directory("Primary", "Depth"))) + OTHER,
        IMAGE + with_segments(OTHER, segment(1, b"aux:depth urn:com:apple:photo:2018")),
    ],
)
def test_depth_maps_are_dropped_with_a_note(outcome, data):
    result = outcome(data)
    assert result.notes == [RESULT.format("depth map is")]
    assert level(result.path) == 30


def test_several_dropped_parts_give_one_note():
    first = xmp_segment('hdrgm:Version="1.0"', directory("Primary", "GainMap", "MotionPhoto"))
    notes = open_image(with_segments(IMAGE, first) + OTHER + VIDEO).notes
    assert notes == (RESULT.format("gain map (HDR) and video are"),)


@pytest.mark.kept("mpo")
@pytest.mark.parametrize("kind", [0x020001, 0x020002, 0x020003, 0])
def test_only_the_first_of_several_images_is_used(outcome, kind):
    result = outcome(multi_image(IMAGE, (kind, OTHER), (kind, OTHER)))
    assert result.notes == ["only the first of the 3 images in the file is used"]
    assert level(result.path) == 30


@pytest.mark.kept("mpo-preview")
@pytest.mark.parametrize("target", ["b.png", "b.jpg"])
def test_previews_are_dropped_without_a_note(outcome, target):
    data = multi_image(IMAGE, (0x010001, OTHER), (0x010002, OTHER))
    result = outcome(data, target)
    assert level(result.path) == 30
    assert b"MPF" not in result.path.read_bytes()


def test_unknown_data_after_a_jpeg_gives_no_note():
    for data in (b"\0" * 100, b"\xff\xd8\xff", b"some words", b"\xff\xd8\xff\xe0" + bytes(9)):
        assert open_image(IMAGE + data).notes == ()


def avif(value: int = 30) -> bytes:
    image = pyvips.Image.black(48, 32, bands=3) + value
    image = image.cast("uchar").copy(interpretation="srgb")
    return image.heifsave_buffer(compression="av1", lossless=True)


def with_property(data: bytes, kind: bytes, content: bytes, primary: bool = False) -> bytes:
    """Adds a property to an AVIF of libheif, which belongs to its image if `primary`."""
    box = struct.pack(">I4s", 8 + len(content), kind) + content
    added = len(box) + primary
    number = len(re.findall(rb"ispe|pixi|av1C|colr", data.partition(b"ipma")[0])) + 1
    for name in (b"meta", b"iprp", b"ipco", *([b"ipma"] if primary else [])):
        at = data.index(name) - 4
        size = int.from_bytes(data[at : at + 4])
        more = {b"ipco": len(box), b"ipma": 1}.get(name, added)
        data = data[:at] + struct.pack(">I", size + more) + data[at + 4 :]
    at = data.index(b"ipco") - 4
    end = at + int.from_bytes(data[at : at + 4]) - len(box)
    data = data[:end] + box + data[end:]
    if primary:
        at = data.index(b"ipma") + 4 + 8 + 2  # its count of properties
        count = data[at]
        data = (
            data[:at]
            + bytes([count + 1])
            + data[at + 1 : at + 1 + count]
            + bytes([number])
            + (data[at + 1 + count :])
        )
    old = struct.pack(">I", data.index(b"mdat") + 4 - added)
    where = data.index(old, data.index(b"iloc"))
    return data[:where] + struct.pack(">I", data.index(b"mdat") + 4) + data[where + 4 :]


@pytest.mark.kept("heif-parts")
@pytest.mark.parametrize(
    ("name", "part"),
    [
        (b"urn:com:apple:photo:2020:aux:hdrgainmap", "gain map (HDR) is"),
        (b"urn:mpeg:hevc:2015:auxid:2", "depth map is"),
        (b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth", "depth map is"),
        (b"urn:com:apple:photo:2018:aux:portraiteffectsmatte", "mattes are"),
    ],
)
def test_auxiliary_images_are_dropped_with_a_note(outcome, name, part):
    result = outcome(with_property(avif(), b"auxC", bytes(4) + name + b"\0"))
    assert result.notes == [RESULT.format(part)]
    assert level(result.path) == 30


def test_an_auxiliary_alpha_image_gives_no_note():
    name = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
    assert open_image(with_property(avif(), b"auxC", bytes(4) + name + b"\0")).notes == ()


@pytest.mark.kept("heif-motion")
def test_the_video_in_a_heif_is_dropped_with_a_note(outcome):
    result = outcome(avif() + struct.pack(">I4s", 8 + len(VIDEO), b"mpvd") + VIDEO)
    assert result.notes == [RESULT.format("video is")]


@pytest.mark.kept("heif-aspect")
def test_non_square_pixels_give_a_note(outcome):
    result = outcome(with_property(avif(), b"pasp", struct.pack(">II", 4, 3), primary=True))
    note = "its pixels are 4:3 and not square, which the result does not record"
    assert result.notes == [note]


@pytest.mark.kept("light-levels")
@pytest.mark.parametrize("kind", [b"mDCV", b"cLLI", b"mdcv", b"clli"])
def test_light_levels_are_dropped_with_a_note(outcome, kind):
    content = struct.pack(">2I", 10_000_000, 4_000_000) * (3 if kind.lower() == b"mdcv" else 1)
    if kind.islower():
        data = with_property(avif(), kind, content, primary=True)
    else:
        data = encoded(flat(30, 32, 48, 3), "png")
        chunk = kind + content
        chunk = struct.pack(">I", len(content)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        data = data[:33] + chunk + data[33:]
    result = outcome(data)
    assert result.notes == [RESULT.format("HDR light levels are")]
    assert level(result.path) == 30


@pytest.mark.kept("heif-coding")
@pytest.mark.parametrize(("kind", "name"), [(b"jpeg", "JPEG"), (b"avc1", "H.264")])
def test_other_codings_in_heif_are_refused(outcome, kind, name):
    reason = f"its image is coded as {name}, which is not supported in HEIF"
    assert reason in outcome(avif().replace(b"av01", kind).replace(b"avif", b"mif1")).failure


def test_the_decoder_is_chosen_by_the_coding_not_the_brand():
    for brand in (b"heic", b"heix"):
        data = HEIC.replace(brand, b"mif1")
        assert sniff(data) == "heic"
    image = open_image(HEIC.replace(b"heix", b"mif1"))
    assert (image.height, image.width) == (16, 48)
    assert sniff(avif().replace(b"ftypavif", b"ftypheic")) == "heif"


@pytest.mark.kept("avif-animation")
def test_only_the_main_image_of_an_animated_avif_is_used(outcome):
    frames = [Image.fromarray(flat(v, 32, 48, 3)) for v in (30, 120, 250)]
    file = io.BytesIO()
    frames[0].save(file, "avif", save_all=True, append_images=frames[1:], quality=100)
    result = outcome(file.getvalue())
    assert result.notes == ["only the main image of the sequence of 3 is used"]
    assert level(result.path) == 30


def test_an_animated_png_is_recognised_after_a_long_chunk():
    frames = [Image.fromarray(flat(v, 8, 8, 3)) for v in (30, 250)]
    file = io.BytesIO()
    frames[0].save(file, "png", save_all=True, append_images=frames[1:])
    data = file.getvalue()
    chunk = b"prVt" + bytes(9000)
    chunk = struct.pack(">I", 9000) + chunk + struct.pack(">I", zlib.crc32(chunk))
    assert open_image(data[:33] + chunk + data[33:]).notes == (
        "only the first frame of the animated PNG is used",
    )


FOREIGN = {
    "it is a JPEG XL image": b"\xff\x0a" + bytes(99),
    "it is a JPEG 2000 image": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99),
    "it is a Photoshop document": b"8BPS\0\1" + bytes(99),
    "it is an OpenEXR image": b"v/1\x01\2" + bytes(99),
    "it is a Windows icon": b"\0\0\1\0\1\0" + bytes(99),
    "it is a Targa image": b"\0\0\2\0\0\0" + bytes(99) + b"1",
    "it is a PDF document": b"%PDF-1.7\n",
    "it is an SVG drawing, which has no pixels": b'<?xml version="1.0"?>\n<!-- by hand -->\n<svg/>',
    "it is a web page, not an image": b"<!DOCTYPE html><html><svg></svg></html>",
    "it is a Git LFS pointer, not the file itself": b"version https://git-lfs.github.com/spec/v1\n",
    "it is a video, not an image": VIDEO,
    "it is a PNG in Apple's format": b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI" + bytes(99),
    "it is empty": b"",
    "it has only zero bytes": bytes(5000),
}


@pytest.mark.kept("foreign")
@pytest.mark.parametrize("reason", FOREIGN)
def test_the_refusal_of_another_format_names_it(outcome, reason):
    assert reason in outcome(FOREIGN[reason]).failure


@pytest.mark.kept("heif-turned")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heif_is_rotated_by_its_properties_and_not_by_exif(outcome, orientation):
    """Pillow writes the orientation as properties of the AVIF and not in its EXIF."""
    array = np.full((32, 48, 3), 90, np.uint8)
    array[:16, :24] = 250
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" '
        b'xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" stArea:x="0.25" stArea:y="0.125"/>'
        b"</rdf:RDF></x:xmpmeta>"
    )
    exif = Image.Exif()
    exif[0x112], exif[271] = orientation, "Ada"
    exif.get_ifd(0x8769)[37396] = (5, 6)
    data = encoded(array, "avif", quality=100, exif=exif, xmp=xmp)
    exif[0x112] = orientation  # Pillow's encoder has removed it
    result = outcome(data, "b.jpg")
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(array, "png", exif=exif))))
    with Image.open(result.path) as image:
        assert image.size == (2 * upright.width, 2 * upright.height)
        shown = np.asarray(upright).repeat(2, 0).repeat(2, 1).astype(int)
        assert abs(np.asarray(image).astype(int) - shown).mean() < 12
        assert image.getexif().get(0x112, 1) == 1
        if orientation in (1, 3, 6, 8):
            x, y = upright_point((5 / 48, 6 / 32), orientation)
            place = round(x * image.width), round(y * image.height)
            assert image.getexif().get_ifd(0x8769)[37396] == place
    text = open_image(result.path).metadata["xmp-data"][1]
    assert b'tiff:Orientation="1"' in text
    if orientation in (1, 3, 6, 8):
        found = re.findall(rb'stArea:[xy]="([\d.]+)"', text)
        assert tuple(map(float, found)) == upright_point((0.25, 0.125), orientation)
