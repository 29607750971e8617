"""Tests of scaling, rotating and removing properties of XMP and EXIF."""

import io
import re
import struct

import numpy as np
import pytest
from PIL import Image

from esrgan_jax.images.formats.tiff_directory import Field
from esrgan_jax.images.metadata.exif_edit import edited_exif, scaled_exif, upright_exif
from esrgan_jax.images.metadata.xmp import (
    scaled_xmp,
    upright_point,
    upright_xmp,
    without_other_parts,
)
from esrgan_jax.images.reader import open_image

NAMESPACES = {
    "GPano": "http://ns.google.com/photos/1.0/panorama/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "crs": "http://ns.adobe.com/camera-raw-settings/1.0/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "stDim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
    "stArea": "http://ns.adobe.com/xmp/sType/Area#",
    "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
    "drone-dji": "http://www.dji.com/drone-dji/1.0/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "GDepth": "http://ns.google.com/photos/1.0/depthmap/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
}


def xmp(attributes: str, inside: str = "") -> bytes:
    used = {name for name in NAMESPACES if f"{name}:" in attributes + inside}
    names = " ".join(f'xmlns:{name}="{NAMESPACES[name]}"' for name in sorted(used))
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {names} {attributes}>{inside}</rdf:Description></rdf:RDF>'
        '</x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def values(data: bytes, *names: str) -> list[str]:
    """Returns the value of each name, an attribute or an element; "" if it is missing."""
    found = [re.search(f'{name}(?:="|>)([^"<]*)'.encode(), data) for name in names]
    return [match[1].decode() if match else "" for match in found]


PANORAMA = {
    "CroppedAreaImageWidthPixels": 20,
    "CroppedAreaImageHeightPixels": 24,
    "FullPanoWidthPixels": 64,
    "FullPanoHeightPixels": 32,
    "CroppedAreaLeftPixels": 11,
    "CroppedAreaTopPixels": 5,
}


def file_with(xmp: bytes, kind: str = "jpeg", exif: bytes = b"") -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(np.full((24, 20, 3), 90, np.uint8))
    image.save(file, kind, xmp=xmp, **({"exif": exif} if exif else {}))
    return file.getvalue()


@pytest.mark.kept("pixels")
@pytest.mark.parametrize("written", ["attributes", "elements"])
@pytest.mark.parametrize("target", ["b.jpg", "b.png", "b.webp", "b.tif", "b.avif"])
def test_sizes_of_a_panorama_are_scaled(outcome, written, target):
    if written == "attributes":
        data = xmp(" ".join(f'GPano:{name}="{value}"' for name, value in PANORAMA.items()))
    else:
        data = xmp("", "".join(f"<GPano:{n}>{v}</GPano:{n}>" for n, v in PANORAMA.items()))
    result = outcome(file_with(data), target)
    found = open_image(result.path).metadata["xmp-data"][1]
    names = [f"GPano:{name}" for name in PANORAMA]
    assert values(found, *names) == [str(2 * value) for value in PANORAMA.values()]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("exif:PixelXDimension", "4000", "40"),
        ("exif:PixelYDimension", "3000", "60"),
        ("tiff:ImageWidth", "20", "40"),
        ("tiff:ImageLength", "24", "60"),
        ("exif:FocalPlaneXResolution", "5184000/886", "10368000/886"),
        ("exif:FocalPlaneYResolution", "1000/3", "2500/3"),
        ("drone-dji:CalibratedFocalLength", "3666.666504", "7333.33301"),
        ("drone-dji:CalibratedOpticalCenterY", "12.5", "31.25"),
        (
            "drone-dji:DewarpData",
            "2018-05-23;10.5,20,1,-2,0.1,0,3",
            "2018-05-23;21,50,2,-5,0.1,0,3",
        ),
        ("GPano:InitialHorizontalFOVDegrees", "75", "75"),
        ("GPano:FullPanoWidthPixels", "many", "many"),
        ("tiff:XResolution", "72/1", "72/1"),
        ("dc:format", "image/jpeg", "image/jpeg"),
        ("xmp:CreateDate", "2020-01-01", "2020-01-01"),
        ("crs:CropWidth", "0.5", "0.5"),
    ],
)
def test_properties_are_scaled_by_their_meaning(name, before, after):
    data = xmp(f'{name}="{before}"')
    scaled = scaled_xmp(data, (40, 60), (2, 2.5))
    assert values(scaled, name) == [after]
    if before == after:
        assert scaled == data  # unchanged
    else:
        assert b'<?xpacket begin="\xef\xbb\xbf"' in scaled
        assert scaled.endswith(b'<?xpacket end="w"?>')


def test_a_crop_in_pixels_is_scaled():
    data = xmp('crs:CropUnit="0" crs:CropWidth="1000" crs:CropHeight="10"')
    scaled = scaled_xmp(data, (1, 1), (2, 3))
    assert values(scaled, "crs:CropWidth", "crs:CropHeight") == ["2000", "30"]


REGIONS = """<mwg-rs:Regions rdf:parseType="Resource">
<mwg-rs:AppliedToDimensions stDim:w="4000" stDim:h="3000" stDim:unit="pixel"/>
<mwg-rs:RegionList><rdf:Bag><rdf:li rdf:parseType="Resource"><mwg-rs:Name>Ada</mwg-rs:Name>
<mwg-rs:Area stArea:x="0.25" stArea:y="0.75" stArea:w="0.1" stArea:h="0.2"
 stArea:unit="normalized"/>
</rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>"""
AREA = ("stArea:x", "stArea:y", "stArea:w", "stArea:h", "stDim:w", "stDim:h")


def test_regions_are_scaled_and_rotated():
    data = xmp("", REGIONS)
    scaled = scaled_xmp(data, (8000, 6000), (2, 2))
    assert values(scaled, *AREA) == ["0.25", "0.75", "0.1", "0.2", "8000", "6000"]
    upright = upright_xmp(data, 6, (4000, 3000))
    assert values(upright, *AREA) == ["0.25", "0.25", "0.2", "0.1", "3000", "4000"]
    bare = xmp('stDim:w="20" stDim:h="24"')
    assert values(scaled_xmp(bare, (40, 48), (2, 2)), "stDim:w", "stDim:h") == ["40", "48"]
    inches = xmp('stDim:w="20" stDim:unit="inch"')
    assert scaled_xmp(inches, (40, 48), (2, 2)) == inches
    inside = "<MPReg:Rectangle>0.2, 0.65, 0.1, 0.2</MPReg:Rectangle>"
    upright = upright_xmp(xmp("", inside), 6, (4000, 3000))
    assert values(upright, "MPReg:Rectangle") == ["0.15, 0.2, 0.2, 0.1"]
    region = xmp('Iptc4xmpExt:rbUnit="pixel" Iptc4xmpExt:rbX="10" Iptc4xmpExt:rbH="7"')
    scaled = scaled_xmp(region, (1, 1), (2, 3))
    assert values(scaled, "Iptc4xmpExt:rbX", "Iptc4xmpExt:rbH") == ["20", "21"]


def corners(data: bytes) -> list[tuple[bytes, bytes]]:
    return re.findall(rb'rbX="([\d.]+)" Iptc4xmpExt:rbY="([\d.]+)"', data)


def test_regions_of_iptc_are_scaled_and_rotated():
    """The unit of their corners is given by the boundary around them."""
    vertices = "".join(
        f'<rdf:li Iptc4xmpExt:rbX="{x}" Iptc4xmpExt:rbY="{y}"/>' for x, y in ((10, 20), (30, 20))
    )
    inside = (
        '<Iptc4xmpExt:RegionBoundary><rdf:Description Iptc4xmpExt:rbUnit="pixel">'
        f"<Iptc4xmpExt:rbVertices><rdf:Seq>{vertices}</rdf:Seq></Iptc4xmpExt:rbVertices>"
        "</rdf:Description></Iptc4xmpExt:RegionBoundary>"
    )
    scaled = scaled_xmp(xmp("", inside), (200, 120), (2, 3))
    assert corners(scaled) == [(b"20", b"60"), (b"60", b"60")]
    rotated = upright_xmp(xmp("", inside), 6, (100, 40))  # a quarter turn clockwise
    assert corners(rotated) == [(b"20", b"10"), (b"20", b"30")]
    names = [f"Iptc4xmpExt:{name}" for name in ("rbX", "rbY", "rbW", "rbH")]
    numbers = zip(names, ("0.2", "0.1", "0.3", "0.4"), strict=True)
    box = " ".join(f'{name}="{number}"' for name, number in numbers)
    rotated = upright_xmp(xmp(f'Iptc4xmpExt:rbUnit="relative" {box}'), 6, (100, 40))
    assert values(rotated, *names) == ["0.5", "0.2", "0.4", "0.3"]
    names[2:] = ["Iptc4xmpExt:rbRx"]
    numbers = zip(names, ("0.2", "0.1", "0.1"), strict=True)
    circle = " ".join(f'{name}="{number}"' for name, number in numbers)
    assert values(upright_xmp(xmp(circle), 8, (100, 40)), *names) == ["0.1", "0.8", "0.25"]


@pytest.mark.kept("rating")
@pytest.mark.parametrize("target", ["b.jpg", "b.png", "b.webp", "b.avif", "b.tif"])
@pytest.mark.parametrize("properties", ["", 'dc:creator="Ada"', 'xmp:Rating="2"'])
def test_the_rating_of_exif_is_kept_as_xmp(outcome, properties, target):
    exif = Image.Exif()
    exif[18246], exif[271] = 4, "Maker"
    data = xmp(properties) if properties else b""
    result = outcome(file_with(data, exif=exif.tobytes()), target)
    written = open_image(result.path).metadata["xmp-data"][1]
    assert re.findall(rb'xmp:Rating="(\d)"', written) == [b"2" if "Rating" in properties else b"4"]
    assert (b"Ada" in written) == ("Ada" in properties)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_are_rotated_as_images_are(orientation):
    """The brightest pixel of the image that Pillow wrote is at the rotated point."""
    array = np.zeros((30, 50), np.uint8)
    array[21, 10] = 255
    exif = Image.Exif()
    exif[0x112] = orientation
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png", exif=exif)
    upright = np.concatenate(list(open_image(file.getvalue()).rows()))[..., 0]
    x, y = upright_point((10.5 / 50, 21.5 / 30), orientation)
    height, width = upright.shape
    assert upright[int(y * height), int(x * width)] == 255


@pytest.mark.kept("regions")
@pytest.mark.parametrize("target", ["b.jpg", "b.webp"])
def test_regions_of_a_rotated_image_are_rotated(outcome, target):
    exif = Image.Exif()
    exif[0x112] = 6
    exif.get_ifd(0x8769)[37396] = (5, 18, 4, 2)  # in an image of 20x24
    data = xmp('tiff:Orientation="6"', REGIONS)
    result = outcome(file_with(data, exif=exif.tobytes()), target)
    found = open_image(result.path)
    assert values(found.metadata["xmp-data"][1], *AREA, "tiff:Orientation") == [
        *("0.25", "0.25", "0.2", "0.1", "6000", "8000", "1")
    ]
    with Image.open(result.path) as image:
        assert image.size == (48, 40)
        assert image.getexif().get_ifd(0x8769)[37396] == (12, 10, 4, 8)


def test_properties_of_parts_that_are_dropped_are_removed():
    data = xmp('dc:creator="Ada" xmpNote:HasExtendedXMP="0123" GDepth:Format="RangeLinear"')
    left = without_other_parts(data)
    assert b'dc:creator="Ada"' in left
    assert not re.search(b"Extended|GDepth|xmpNote", left)
    thumbnails = xmp(
        "", "<xmp:Thumbnails><rdf:Alt><rdf:li>/9j/</rdf:li></rdf:Alt></xmp:Thumbnails>"
    )
    assert without_other_parts(thumbnails) == b""
    assert without_other_parts(xmp('dc:creator="Ada"')) == xmp('dc:creator="Ada"')


def test_properties_of_other_images_are_not_scaled():
    pantry = '<xmpMM:Pantry><rdf:Bag><rdf:li tiff:ImageWidth="77"/></rdf:Bag></xmpMM:Pantry>'
    data = xmp('exif:PixelXDimension="20"', pantry)
    scaled = scaled_xmp(data, (40, 48), (2, 2))
    assert values(scaled, "exif:PixelXDimension", "tiff:ImageWidth") == ["40", "77"]


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"no XML", b"<a>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", b"<a b:c='1'/>"],
)
def test_damaged_xmp_is_not_changed(data):
    assert scaled_xmp(data, (2, 2), (2, 2)) == data
    assert upright_xmp(data, 6, (2, 2)) == data
    assert without_other_parts(data) == data


def exif_block(order: str = "<") -> bytes:
    """Encodes EXIF with the make, a maker note, a subject area and the sensor's resolution."""
    detail = [(37396, 3, 3, struct.pack(order + "3H", 5, 18, 4)), (37500, 7, 12, b"maker's note")]
    detail += [(41486, 5, 1, struct.pack(order + "II", 5184000, 886))]
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    at = 8 + 2 + 2 * 12 + 4
    first = struct.pack(order + "H", 2) + struct.pack(order + "HHI4s", 271, 2, 4, b"Ada\0")
    first += struct.pack(order + "HHII", 34665, 4, 1, at) + bytes(4)
    end, rows, rest = at + 2 + len(detail) * 12 + 4, b"", b""
    for tag, kind, count, data in detail:
        rows += struct.pack(order + "HHII", tag, kind, count, end + len(rest))
        rest += data + b"\0" * (len(data) % 2)
    return (
        b"Exif\0\0" + head + first + struct.pack(order + "H", len(detail)) + rows + bytes(4) + rest
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_scaled_rotated_and_extended(order):
    block = exif_block(order)

    def read(data: bytes):
        exif = Image.Exif()
        exif.load(data)
        return exif, exif.get_ifd(34665)

    about, detail = read(scaled_exif(block, (40, 72), (2, 3)))
    assert about[271] == "Ada"
    assert detail[37396] == (10, 54, 8)
    assert detail[41486] == 10368000 / 886
    _, detail = read(upright_exif(block, 6, (20, 24)))
    assert detail[37396] == (6, 5, 4)
    added = edited_exif(block, {315: Field(2, b"Ada Lovelace\0")}, {})
    assert read(added)[0][315] == "Ada Lovelace"
    for data in (
        scaled_exif(block, (40, 72), (2, 3)),
        added,
    ):  # maker notes contain offsets in the block
        assert data.index(b"maker's note") == block.index(b"maker's note")
        assert read(data)[1][37500] == b"maker's note"
    fresh, _ = read(edited_exif(b"", {271: Field(2, b"Ada\0")}, {}))
    assert dict(fresh) == {271: "Ada"}
    assert scaled_exif(b"Exif\0\0damaged", (2, 2), (2, 2)) == b"Exif\0\0damaged"


@pytest.mark.kept("exif-sizes")
@pytest.mark.parametrize("target", ["b.jpg", "b.png", "b.webp", "b.avif", "b.tif"])
def test_sizes_in_exif_are_those_of_the_result(outcome, target):
    exif = Image.Exif()
    exif[256], exif[257] = 4000, 3000
    detail = exif.get_ifd(0x8769)
    detail[40962], detail[40963] = 4000, 3000
    detail[41486], detail[41487] = 1000.5, 2000.25
    detail[40965] = {1: "R98", 4097: 4000, 4098: 3000}
    file = io.BytesIO()
    Image.new("RGB", (20, 24)).save(file, "jpeg", exif=exif)
    result = outcome(file.getvalue(), target)
    with Image.open(result.path) as image:
        found = image.getexif()
        detail = found.get_ifd(0x8769)
        assert (detail[40962], detail[40963]) == image.size == (40, 48)
        assert (found[256], found[257]) == (40, 48)
        assert (detail[41486], detail[41487]) == (2001, 4000.5)
        if target != "b.tif":
            assert found.get_ifd(40965) == {1: "R98", 4097: 40, 4098: 48}


@pytest.mark.parametrize("target", ["b.jpg", "b.png", "b.webp", "b.avif", "b.tif"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_thumbnail_of_exif_is_removed(enlarged, target, order):
    small = io.BytesIO()
    Image.new("RGB", (8, 6)).save(small, "jpeg")
    small = small.getvalue()
    block = bytearray(exif_block(order).removeprefix(b"Exif\0\0"))
    struct.pack_into(order + "I", block, 8 + 2 + 2 * 12, len(block))  # after the first directory
    start = len(block) + 2 + 3 * 12 + 4
    block += struct.pack(order + "H", 3) + struct.pack(order + "HHIHH", 259, 3, 1, 6, 0)
    block += struct.pack(order + "HHII", 513, 4, 1, start)
    block += struct.pack(order + "HHII4x", 514, 4, 1, len(small)) + small
    file = io.BytesIO()
    Image.new("RGB", (20, 24)).save(file, "jpeg", exif=b"Exif\0\0" + bytes(block))
    assert file.getvalue().count(b"\xff\xd8\xff") == 2
    result = enlarged(file.getvalue(), target)
    assert result.path.read_bytes().count(b"\xff\xd8\xff") == (target == "b.jpg")
    with Image.open(result.path) as image:
        assert image.getexif()[271] == "Ada"
        assert image.getexif().get_ifd(1) == {}  # the thumbnail's directory
