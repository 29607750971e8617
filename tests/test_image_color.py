"""Colour information of images against littlecms, which the code uses only for GIF."""

import base64
import io
import struct
import zlib

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image, ImageCms

from esrgan_jax.images.reader import open_image
from esrgan_jax.images.writer import write_rows

# An HEIC of the patches below, tagged as Display P3; made with pillow_heif.
HEIC = base64.b64decode("""
AAAAHGZ0eXBoZWl4AAAAAG1pZjFoZWl4bWlhZgAAAX5tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAA
AAAAACJpbG9jAAAAAERAAAEAAQAAAAABogABAAAAAAAAAScAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAA
AA5waXRtAAAAAAABAAAA/mlwcnAAAADeaXBjbwAAAHdodmNDAQQIAAAAnjgAAAAAHvAA/P/4+AAADwNgAAEAF0ABDAH//wQI
AAADAJ44AAADAAAeugJAYQABACpCAQEECAAAAwCeOAAAAwAAHpAEECCy3VXTXNwwNBgQAAADAZAAAAMAEIBiAAEACEQBwXMY
MBiQAAAAE2NvbHJuY2x4AAwADQAGgAAAABRpc3BlAAAAAAAAAEAAAABAAAAAKGNsYXAAAAAwAAAAAQAAABAAAAAB////8AAA
AAL////QAAAAAgAAABBwaXhpAAAAAAMICAgAAAAYaXBtYQAAAAAAAAABAAEFgQIDBYQAAAEvbWRhdAAAASMoAa8Gsh09WbCS
AnPuX///37V+h+yAfLrzt4dpe2hf/+Llys2voxGQ9MfRf0hZrb/QaY/jcU+8NCgC2iG63FXkrTRu71L4cFJnhf6fnrTRNwfo
/QauJhNq525ddjCMeH4H3Ew45ubPTH86v0tPuhpfSn4RxP5QPuE2CaeNC6GeLCJRTowsPoBke7jVrW4YqbuVPOfYHBNagPvI
AphFDxmhCGiIo/Q+IBYahmy+cPNCrfTlloCd/hrH+KRS7WLYzqhERhKLbjgtwBxINfaxbGdUIiObJ/QmbY3o5Jai9fngMDJM
YxXvo5+XDEYYzigOcH6P0GHZQItd+/0WdPipEmigxCd4Rj4/9rQlCx63VXDeVojCCG69Xlxb91lLFOo8ZCoAJ/g=
""")
PATCHES = np.array([[200, 100, 50], [60, 190, 90], [120, 120, 120]])
RGB = PATCHES.astype(np.uint8).repeat(16, 0)[None].repeat(16, 0)
GRAY = RGB[..., 0].copy()
# Published matrices from linear light of these primaries to linear sRGB, for D65.
P3 = [[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]]
BT2020 = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
ADOBE = [[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]]
IDENTITY = np.eye(3)
ADOBE_CHRM = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
SRGB_CHRM = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
PRIMARIES = {1: IDENTITY, 2: IDENTITY, 9: BT2020, 12: P3}


def srgb_light(v):
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def gamma(exponent):
    return lambda v: v**exponent


def pq(v):
    """Returns light relative to white, which is 203 cd/m² (SMPTE ST 2084)."""
    power = v ** (32 / 2523)
    nits = 1e4 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** 6.2773946
    return nits / 203


def to_srgb(v, light=srgb_light, matrix=IDENTITY, white=255):
    """Converts values to sRGB, 0 to 255, by a transfer function and a matrix of linear light."""
    linear = np.clip(light(np.asarray(v) / white) @ np.array(matrix, float).T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


def srgb_patches(data: bytes) -> np.ndarray:
    """Returns the patches of a file in sRGB, converted by littlecms from its profile."""
    with Image.open(io.BytesIO(data)) as image:
        icc = image.info.get("icc_profile")
        if image.mode not in ("L", "RGB"):
            image = image.convert("RGB")
        if icc is not None:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            image = ImageCms.profileToProfile(
                image, profile, ImageCms.createProfile("sRGB"), 1, outputMode="RGB"
            )
        assert image is not None
        rgb = np.asarray(image.convert("RGB")).astype(int)
    return rgb[len(rgb) // 2, len(rgb) // 2 :: len(rgb)]


def converted_file(source: bytes, suffix: str, **options) -> bytes:
    """Writes the pixels and metadata of a file in another format; returns the new file."""
    image, stream = open_image(source), io.BytesIO()
    array = np.concatenate(list(image.rows()))
    array = array if array.dtype == np.uint8 else np.rint(array / 257).astype(np.uint8)
    if suffix == ".jpg" and array.shape[-1] in (2, 4):
        array = array[..., :-1]
    shape = dict(zip(("height", "width", "bands"), array.shape, strict=True))
    how = {
        "lossless": suffix in (".webp", ".avif"),
        **({"quality": 100} if suffix == ".jpg" else {}),
    }
    write_rows(stream, [array], **shape, dtype=np.uint8, suffix=suffix, like=image, **how)
    return stream.getvalue()


def png(array=RGB, chunks=(), **options) -> bytes:
    """Returns a PNG with extra chunks after its header."""
    file = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(file, "png", **options)
    data = file.getvalue()
    extra = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return data[:33] + extra + data[33:]


def gama(number: int) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", number)


def chrm(numbers=ADOBE_CHRM) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *numbers)


def cicp(primaries: int, transfer: int, full: int = 1) -> tuple[bytes, bytes]:
    return b"cICP", bytes((primaries, transfer, 0, full))


def nclx(data: bytes, primaries: int, transfer: int) -> bytes:
    """Returns a HEIF or AVIF with other colour codes in its nclx box."""
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">2H", primaries, transfer) + data[at + 4 :]


def avif() -> bytes:
    image = pyvips.Image.new_from_array(RGB).copy(interpretation="srgb")
    return image.heifsave_buffer(compression="av1", lossless=True)


def tiff(array=RGB, **tags) -> bytes:
    """Returns a TIFF with colour tags, given as name=numbers."""
    kinds = {"white": (318, 5), "primaries": (319, 5), "transfer": (301, 3)}
    extra = []
    for name, numbers in tags.items():
        tag, kind = kinds[name]
        if kind == 5:
            numbers = [n for number in numbers for n in (round(number * 1e6), 10**6)]
            extra.append((tag, kind, len(numbers) // 2, numbers, True))
        else:
            extra.append((tag, kind, len(numbers), numbers, True))
    file = io.BytesIO()
    how = "rgb" if array.ndim == 3 else "minisblack"
    tifffile.imwrite(file, array, photometric=how, extratags=extra, metadata=None)
    return file.getvalue()


def jpeg(space=None, index=None, **options) -> bytes:
    exif = Image.Exif()
    if space is not None:
        exif.get_ifd(0x8769)[0xA001] = space
    if index is not None:
        exif.get_ifd(0x8769)[0xA005] = {1: index}
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "jpeg", quality=100, subsampling=0, exif=exif, **options)
    return file.getvalue()


def profile(name: str) -> bytes:
    return bytes(pyvips.Operation.call("profile_load", name))


def cases():
    """Yields (name, file, its patches in sRGB)."""
    yield "png-linear", png(chunks=[gama(100_000)]), to_srgb(PATCHES, gamma(1))
    yield "png-gamma", png(chunks=[gama(55_556)]), to_srgb(PATCHES, gamma(1.8))
    adobe = [chrm(), gama(45_455)]
    yield "png-adobe", png(chunks=adobe), to_srgb(PATCHES, gamma(2.2), ADOBE)
    yield "png-chrm-only", png(chunks=adobe[:1]), to_srgb(PATCHES, srgb_light, ADOBE)
    yield "png-srgb-first", png(chunks=[*adobe, (b"sRGB", b"\0")]), PATCHES
    yield "png-p3", png(chunks=[cicp(12, 13)]), to_srgb(PATCHES, matrix=P3)
    yield (
        "png-cicp-first",
        png(chunks=[gama(100_000), cicp(9, 13)]),
        to_srgb(PATCHES, matrix=BT2020),
    )
    with_icc = png(chunks=[cicp(1, 8)], icc_profile=profile("p3"))
    yield "png-cicp-before-icc", with_icc, to_srgb(PATCHES, gamma(1))
    with_icc = png(chunks=[gama(100_000), chrm(), (b"sRGB", b"\0")], icc_profile=profile("p3"))
    yield "png-icc-before-others", with_icc, to_srgb(PATCHES, matrix=P3)
    srgb = png(chunks=[cicp(1, 13)], icc_profile=profile("p3"))
    yield "png-cicp-srgb", srgb, PATCHES
    yield "png-narrow", png(chunks=[cicp(1, 13, 0)]), to_srgb((PATCHES - 16) * 255 / 219)
    grays = PATCHES[:, :1].repeat(3, 1)
    yield "png-gray", png(GRAY, [gama(100_000), chrm()]), to_srgb(grays, gamma(1))
    palette = Image.fromarray(RGB).quantize(3, kmeans=2)
    yield "png-palette", png(palette, [gama(100_000)]), to_srgb(PATCHES, gamma(1))
    for code in (12, 13), (9, 14), (1, 8), (12, 8), (2, 2), (1, 13):
        light = gamma(1) if code[1] == 8 else srgb_light
        expected = to_srgb(PATCHES, light, PRIMARIES[code[0]])
        yield f"avif-{code}", nclx(avif(), *code), expected
        if code != (2, 2):  # with an unspecified box, the HEVC stream has the colours
            yield f"heic-{code}", nclx(HEIC, *code), expected
    yield "jpeg-r03", jpeg(65535, "R03"), to_srgb(PATCHES, gamma(563 / 256), ADOBE)
    yield "jpeg-2", jpeg(2), to_srgb(PATCHES, gamma(563 / 256), ADOBE)
    yield "jpeg-srgb", jpeg(1, "R98"), PATCHES
    yield "jpeg-icc-first", jpeg(2, "R03", icc_profile=profile("p3")), to_srgb(PATCHES, matrix=P3)
    xy = {"white": (0.3127, 0.329), "primaries": (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)}
    yield "tiff-adobe", tiff(**xy), to_srgb(PATCHES, gamma(2.2), ADOBE)
    linear = (np.arange(256) * 257).tolist()
    yield "tiff-linear", tiff(transfer=linear), to_srgb(PATCHES, gamma(1))
    yield "tiff-3-curves", tiff(**xy, transfer=linear * 3), to_srgb(PATCHES, gamma(1), ADOBE)
    yield (
        "tiff-srgb",
        tiff(white=xy["white"], primaries=(0.64, 0.33, 0.3, 0.6, 0.15, 0.06)),
        PATCHES,
    )
    yield "tiff-gray", tiff(GRAY, transfer=linear), to_srgb(grays, gamma(1))


CASES = {name: (data, expected) for name, data, expected in cases()}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif", ".gif"])
@pytest.mark.parametrize("name", CASES)
def test_results_have_the_colours_of_the_source(name, suffix):
    data, expected = CASES[name]
    found = srgb_patches(converted_file(data, suffix))
    # GIF has a palette; one level of linear light is many of sRGB.
    np.testing.assert_allclose(found, expected, atol=5 if suffix in (".gif", ".jpg") else 2)


@pytest.mark.parametrize("name", CASES)
def test_pixels_are_unchanged_and_only_other_colours_get_a_profile(name):
    data, expected = CASES[name]
    image = open_image(data)
    pixels = np.concatenate(list(image.rows()))
    assert image.notes == ()
    np.testing.assert_allclose(pixels[8, 8::16, 0], PATCHES[:, 0], atol=1)
    icc = image.metadata.get("icc-profile-data")
    assert (icc is None) == (expected is PATCHES or bool(np.allclose(expected, PATCHES, atol=0.5)))


@pytest.mark.parametrize(
    ("data", "light"),
    [
        (png(chunks=[cicp(9, 16)]), pq),
        (nclx(avif(), 9, 16), pq),
        (nclx(HEIC, 12, 16), pq),
        (png(chunks=[cicp(9, 18)]), None),
        (nclx(avif(), 1, 18), None),
    ],
)
def test_hdr_values_are_kept_with_a_profile_and_a_note(data, light):
    image = open_image(data)
    name = "PQ" if light else "HLG"
    assert image.notes == (
        f"it is HDR ({name}): its values are kept with an HDR colour profile; programs without "
        "HDR compress its highlights, and 8 bits show banding",
    )
    icc = image.metadata["icc-profile-data"][1]
    assert b"cicp\0\0\0\0" in icc
    code = icc[icc.index(b"cicp\0\0\0\0") + 8 :][:4]
    assert code[1] == (16 if light else 18)
    gray = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2)
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    converted = ImageCms.profileToProfile(
        Image.fromarray(gray), source, ImageCms.createProfile("sRGB"), 1
    )
    found = np.asarray(converted)[0, :, 0].astype(int)
    assert (np.diff(found) >= 0).all()
    assert found[-1] == 255
    v = np.arange(256) / 255
    if light is None:  # HLG, and its gamma on a screen of 1,000 cd/m²
        scene = np.where(
            v <= 0.5, v**2 / 3, (np.exp((v - 0.55991073) / 0.17883277) + 0.28466892) / 12
        )
        linear = scene**1.2 * 1000 / 203
    else:
        linear = pq(v)
    dark = linear < 0.5
    assert dark.sum() > 100
    expected = to_srgb(linear[dark, None].repeat(3, 1), gamma(1), white=1)[:, 0]
    np.testing.assert_allclose(found[dark], expected, atol=1)
    np.testing.assert_allclose(found[np.argmin(abs(linear - 1))], 233, atol=4)  # white


def test_sixteen_bits_with_alpha_have_the_same_colours():
    deep = RGB.astype(np.uint16) * 257
    alpha = np.full((*RGB.shape[:2], 1), 60000, np.uint16)
    stored = pyvips.Image.new_from_array(np.dstack([deep, alpha])).copy(interpretation="rgb16")
    data = stored.pngsave_buffer()
    data = data[:33] + png(chunks=[cicp(12, 13)])[33:49] + data[33:]
    image = open_image(data)
    assert (image.dtype, image.bands) == (np.uint16, 4)
    expected = to_srgb(PATCHES, matrix=P3)
    for suffix in (".png", ".tif", ".webp", ".avif", ".gif"):
        np.testing.assert_allclose(srgb_patches(converted_file(data, suffix)), expected, atol=5)


def test_profiles_are_converted_between_gray_and_colour():
    gray = open_image(png(GRAY, [gama(100_000)]))
    color = open_image(png(chunks=[gama(100_000), chrm()]))
    for like, array in ((gray, RGB), (color, GRAY[..., None])):
        stream = io.BytesIO()
        shape = dict(zip(("height", "width", "bands"), array.shape, strict=True))
        write_rows(stream, [array], **shape, dtype=np.uint8, suffix=".png", like=like)
        expected = to_srgb(PATCHES if array is RGB else PATCHES[:, :1].repeat(3, 1), gamma(1))
        np.testing.assert_allclose(srgb_patches(stream.getvalue()), expected, atol=2)


def damaged_profile(name: str) -> bytes:
    icc = profile("p3")
    match name:
        case "random":
            return bytes(range(256)) * 2
        case "cut":
            return icc[: len(icc) // 2]
        case "places":
            return icc[:136] + b"\x7f\xff\xff\xff" + icc[140:]
        case "tags":
            return icc[:128] + b"\xff\xff\xff\xff" + icc[132:]
    return b"no profile"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("name", ["random", "cut", "places", "tags", "short"])
def test_a_damaged_profile_is_dropped_with_a_note(kind, name):
    file = io.BytesIO()
    options = {"lossless": True} if kind == "webp" else {}
    Image.fromarray(RGB).save(file, kind, icc_profile=damaged_profile(name), **options)
    image = open_image(file.getvalue())
    assert image.notes == ("its colour profile is damaged and is dropped",)
    for suffix in (".png", ".jpg", ".webp", ".tif", ".avif", ".gif"):
        np.testing.assert_allclose(
            srgb_patches(converted_file(file.getvalue(), suffix)), PATCHES, atol=5
        )


@pytest.mark.parametrize(("color_space", "name"), [("cmyk", "CMYK"), ("gray", "gray")])
@pytest.mark.parametrize("kind", ["jpeg", "tiff", "webp"])
def test_a_profile_for_other_channels_is_dropped_with_a_note(color_space, name, kind):
    icc = (
        profile("cmyk") if color_space == "cmyk" else open_image(png(GRAY, [gama(10**5)])).metadata
    )
    icc = icc if isinstance(icc, bytes) else icc["icc-profile-data"][1]
    if color_space == "gray":  # without a curve, it cannot be converted to RGB
        icc = icc.replace(b"kTRC", b"xTRC")
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, kind, icc_profile=icc)
    image = open_image(file.getvalue())
    note = f"its colour profile is dropped: it is for {name}, and its pixels are not"
    assert image.notes == (note,)
    assert "icc-profile-data" not in image.metadata


@pytest.mark.kept("color")
@pytest.mark.parametrize("name", ["png-linear", "png-gray", "avif-(9, 14)", "jpeg-r03"])
@pytest.mark.parametrize("target", ["b.png", "b.jpg", "b.webp", "b.tif", "b.avif", "b.gif"])
def test_upscaled_images_have_the_colours_of_the_source(outcome, name, target):
    if target == "b.gif" and not name.startswith("png"):
        pytest.skip("their EXIF has no place in a GIF, which is a note of another row")
    data, expected = CASES[name]
    result = outcome(data, target, quality=None if target == "b.gif" else 100)
    np.testing.assert_allclose(srgb_patches(result.path.read_bytes()), expected, atol=6)


@pytest.mark.kept("hdr")
@pytest.mark.parametrize("target", ["b.png", "b.jpg", "b.webp", "b.tif", "b.avif"])
def test_upscaled_hdr_images_keep_their_colour_codes(outcome, target):
    icc = open_image(outcome(nclx(HEIC, 9, 16), target).path).metadata["icc-profile-data"][1]
    assert icc.endswith(b"cicp\0\0\0\0\x09\x10\0\1")


@pytest.mark.kept("profile-damaged")
def test_upscaled_images_have_no_damaged_profile(outcome):
    assert (
        "icc-profile-data"
        not in open_image(outcome(png(icc_profile=damaged_profile("cut"))).path).metadata
    )
