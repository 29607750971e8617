"""Tests that texts of images, such as prompts and comments, are kept between formats."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from esrgan_jax.images.formats.tiff_directory import Field
from esrgan_jax.images.metadata.exif_edit import edited_exif
from esrgan_jax.images.metadata.insertion import insert
from esrgan_jax.images.metadata.png_text import Text, chunks
from esrgan_jax.images.metadata.texts import decoded_comment, encoded_comment, place_texts
from esrgan_jax.images.reader import open_image
from tests.test_structure import IMAGE, segment

PROMPT = "a cat, masterpiece\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, Size: 20x24"
FOREIGN = "ein Kätzchen, 猫, 🐈\nSteps: 20, Sampler: Euler a"
GRAPH = json.dumps(
    {"3": {"class_type": "KSampler", "inputs": {"text": "猫 ü"}}}, ensure_ascii=False
)
array = np.full((24, 20, 3), 90, np.uint8)
EXIF, USER_COMMENT, MAKE, MODEL = 0x8769, 37510, 271, 272


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*added: bytes, late: bool = False, **texts: str) -> bytes:
    """Encodes a PNG with texts; chunks are before its pixels or, if `late`, after them."""
    info = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword.replace("_", " "), text)
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png", pnginfo=info)
    data = file.getvalue()
    at = len(data) - 12 if late else 33
    return data[:at] + b"".join(added) + data[at:]


def text_chunks(path) -> dict[bytes, bytes]:
    """Returns {keyword: whole chunk} of the text chunks before a PNG's pixels."""
    found = {}
    with path.open("rb") as file:
        for kind, start, size in chunks(file):
            if kind == b"IDAT":
                break
            file.seek(start - 8)
            data = file.read(size + 12)
            if kind in (b"tEXt", b"zTXt", b"iTXt"):
                found[data[8:].partition(b"\0")[0]] = data
    return found


CHUNKS = [
    chunk(b"tEXt", b"Title\0a cat"),
    chunk(b"tEXt", b"Author\0K\xe4the"),  # Latin-1
    chunk(b"tEXt", b"Source\0" + "猫".encode()),  # UTF-8, not allowed here but common
    chunk(b"zTXt", b"Description\0\0" + zlib.compress(b"long " * 2000)),
    chunk(b"iTXt", b"Warning\0\0\0de-DE\0Warnung\0" + "böse".encode()),
    chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(GRAPH.encode())),
    chunk(b"tEXt", b"parameters\0" + b"x" * 200_000),
]


@pytest.mark.kept("png-text")
@pytest.mark.parametrize("late", [False, True])
def test_text_chunks_of_a_png_are_copied_unchanged(outcome, late):
    result = outcome(png(*CHUNKS, late=late))
    found = text_chunks(result.path)
    assert found.pop(b"Software").startswith(b"\0\0\0")
    assert list(found.values()) == CHUNKS
    with Image.open(result.path) as image:
        assert image.size == (40, 48)
        assert image.text["Warning"].lang == "de-DE"
        image.load()


@pytest.mark.kept("png-text-exif")
@pytest.mark.parametrize("target", ["b.jpg", "b.webp", "b.tif", "b.avif"])
@pytest.mark.parametrize("prompt", [PROMPT, FOREIGN])
def test_prompts_are_written_where_other_programs_read_them(outcome, target, prompt):
    source = png(parameters=prompt, workflow=GRAPH, prompt=GRAPH, Author="Ada", Copyright="© Ada")
    result = outcome(source, target)
    with Image.open(result.path) as image:
        exif = image.getexif()
        comment = exif.get_ifd(EXIF)[USER_COMMENT]
    charset, data = comment[:8], comment[8:]
    if prompt.isascii():
        assert (charset, data.decode("ascii")) == (b"ASCII\0\0\0", prompt)
    else:  # TIFF's numbers have the low byte first
        order = "le" if target == "b.tif" else "be"
        assert (charset, data.decode(f"utf-16-{order}")) == (b"UNICODE\0", prompt)
    fields = [exif[tag].encode("latin-1") for tag in (MAKE, MODEL, 315, 33432)]
    expected = [f"workflow:{GRAPH}", f"prompt:{GRAPH}", "Ada", "© Ada"]
    assert fields == [text.encode() for text in expected]
    texts = {text.keyword: text.text for text in open_image(result.path).texts}
    assert texts == {"parameters": prompt, "workflow": GRAPH, "prompt": GRAPH}


@pytest.mark.kept("exif-png-text")
@pytest.mark.parametrize("first_target", ["c.jpg", "c.webp", "c.tif", "c.avif"])
@pytest.mark.parametrize("prompt", [PROMPT, FOREIGN])
def test_prompts_survive_another_format_and_back_to_png(enlarged, outcome, first_target, prompt):
    first = enlarged(png(parameters=prompt, workflow=GRAPH), first_target)
    with Image.open(outcome(first.path).path) as image:
        assert (image.info["parameters"], image.info["workflow"]) == (prompt, GRAPH)
        assert decoded_comment(image.getexif().get_ifd(EXIF)[USER_COMMENT]) == prompt


@pytest.mark.parametrize("text", ["plain", "Käthe", "猫と犬", "猫 and\nmore", "🐈"])
def test_user_comments_in_every_encoding_are_decoded(text):
    """Other programs write UTF-16 in either byte order, and UTF-8 without a character code."""
    codes = {"utf-8": bytes(8), "utf-16-be": b"UNICODE\0", "utf-16-le": b"UNICODE\0"}
    if not any(letter.isascii() for letter in text):  # ASCII letters tell the byte order
        del codes["utf-16-le"]
    for encoding, code in codes.items():
        assert decoded_comment(code + text.encode(encoding)) == text
    assert decoded_comment(b"UNICODE\0" + text.encode("utf-16")) == text
    assert decoded_comment(encoded_comment(text)) == text


def test_an_existing_exif_field_is_not_overwritten():
    camera = Image.Exif()
    camera[MAKE] = "Nikon"
    place = place_texts((Text("workflow", "{}"),), camera.tobytes(), "webp")
    exif = Image.Exif()
    exif.load(place.exif)
    assert exif[MAKE] == "Nikon"
    assert decoded_comment(exif.get_ifd(EXIF)[USER_COMMENT]) == "workflow: {}"
    both = (Text("parameters", PROMPT), Text("workflow", "{}"))
    assert place_texts(both, camera.tobytes(), "webp").left_out == ("workflow",)


@pytest.mark.kept("text-left-out")
@pytest.mark.parametrize("target", ["b.jpg", "b.webp"])
def test_text_too_long_for_exif_is_dropped_with_a_note(outcome, target):
    result = outcome(png(parameters=PROMPT, workflow="x" * 70_000), target)
    assert result.notes == [f"its text (workflow) has no place in {target[1:]} and is dropped"]
    assert open_image(result.path).texts == (Text("parameters", PROMPT),)


def test_long_texts_are_kept_in_a_tiff(enlarged):
    result = enlarged(png(parameters=PROMPT, workflow="x" * 70_000), "b.tif")
    assert result.notes == []
    assert [len(text.text) for text in open_image(result.path).texts] == [len(PROMPT), 70_000]


def test_unknown_keywords_are_kept_in_the_comment(enlarged):
    result = enlarged(png(invokeai_metadata='{"a": 1}', Title="猫"), "b.webp")
    assert result.notes == []
    with Image.open(result.path) as image:
        comment = image.getexif().get_ifd(EXIF)[USER_COMMENT]
        title = image.getexif()[40091]
    assert decoded_comment(comment) == 'invokeai metadata: {"a": 1}'
    assert bytes(title).decode("utf-16-le").rstrip("\0") == "猫"


def commented(*comments: str) -> bytes:
    data = [b"\xff\xfe" + struct.pack(">H", len(c.encode()) + 2) + c.encode() for c in comments]
    return IMAGE[:20] + b"".join(data) + IMAGE[20:]


@pytest.mark.kept("comment")
def test_comments_of_a_jpeg_are_kept(outcome):
    source = commented("by Ada", "Kätzchen")
    result = outcome(source, "b.jpg")
    data = result.path.read_bytes()
    assert all(b"\xff\xfe" + c in data for c in (b"\0\x08by Ada", b"\0\x0bK\xc3\xa4tzchen"))
    assert (np.asarray(Image.open(result.path)) == 30).all()
    found = open_image(result.path)
    assert found.texts == (Text("Comment", "by Ada"), Text("Comment", "Kätzchen"))
    assert "exif-ifd0-Software" in found.metadata
    with Image.open(outcome(source, "b.png").path) as image:
        assert image.info["Comment"] == "Kätzchen"
    once = commented("by Ada")
    for target in ("b.webp", "b.tif", "b.avif"):
        with Image.open(outcome(once, target).path) as image:
            assert image.getexif().get_ifd(EXIF)[USER_COMMENT] == b"ASCII\0\0\0by Ada"
    gif = outcome(once, "b.gif").path.read_bytes()
    assert b"\x21\xfe\x06by Ada\0" in gif
    assert open_image(gif).texts == (Text("Comment", "by Ada"),)  # not the Software comment


def test_a_long_comment_is_split_into_several(enlarged):
    result = enlarged(png(Comment="x" * 100_000), "b.jpg")
    with Image.open(result.path) as image:
        assert image.size == (40, 48)
        image.load()
    assert [len(text.text) for text in open_image(result.path).texts] == [65_533, 34_467]


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101])
def test_insert_inserts_at_any_offset(tmp_path, monkeypatch, size):
    monkeypatch.setattr("esrgan_jax.images.metadata.insertion.BLOCK_BYTES", 10)
    path, data = tmp_path / "a", bytes(range(100))
    path.write_bytes(data)
    at = min(size, 100)
    insert(path, at, b"new")
    assert path.read_bytes() == data[:at] + b"new" + data[at:]


@pytest.mark.kept("gif-metadata")
def test_exif_is_dropped_with_a_note_in_a_gif(outcome):
    exif = Image.Exif()
    exif[315] = "Ada"
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png", exif=exif)
    note = "its EXIF has no place in .gif and is dropped"
    assert outcome(file.getvalue(), "b.gif").notes == [note]


IPTC = b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\0\x08\x1c\x02\x19\x00\x03key"


@pytest.mark.kept("iptc")
@pytest.mark.parametrize("target", ["b.webp", "b.avif"])
def test_iptc_is_dropped_with_a_note_in_webp_and_avif(outcome, target):
    source = IMAGE[:20] + segment(13, IPTC) + IMAGE[20:]
    note = f"its IPTC has no place in {target[1:]} and is dropped"
    assert outcome(source, target).notes == [note]


@pytest.mark.kept("credentials")
def test_content_credentials_are_dropped_with_a_note(outcome):
    signed = b"JP\0\1\0\0\0\1\0\0\0\x20jumb....jumdc2pa"
    note = "its content credentials (C2PA) are dropped; the image itself is upscaled"
    for data in (
        IMAGE[:20] + segment(11, signed) + IMAGE[20:],
        png(chunk(b"caBX", signed)),
    ):
        result = outcome(data)
        assert result.notes == [note]
        assert b"c2pa" not in result.path.read_bytes()


@pytest.mark.kept("extended-xmp")
def test_extended_xmp_is_dropped_with_a_note(outcome):
    more = segment(1, b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + bytes(8) + b"<x/>")
    note = "its extended XMP is dropped; the image itself is upscaled"
    assert outcome(IMAGE[:20] + more + IMAGE[20:]).notes == [note]


def test_iptc_of_a_jpeg_survives_a_png(enlarged):
    thumbnail = b"8BIM\x04\x0c\0\0\0\0\0\4\xff\xd8\xff\xd9"
    source = IMAGE[:20] + segment(13, IPTC + b"\0" * (len(IPTC) % 2) + thumbnail) + IMAGE[20:]
    via_png = enlarged(source, "c.png")
    with Image.open(via_png.path) as image:
        assert image.text["Raw profile type iptc"].startswith("\niptc\n      20\n3842494d0404")
    for start in (via_png.path, source):
        back = enlarged(start, "b.jpg")
        assert (via_png.notes, back.notes) == ([], [])
        data = back.path.read_bytes()
        assert IPTC in data
        assert thumbnail not in data
    tiff = enlarged(via_png.path, "b.tif")
    with Image.open(tiff.path) as image:
        assert image.tag_v2[33723] == b"\x1c\x02\x19\x00\x03key"


def test_exif_and_xmp_in_texts_of_a_png_are_kept(enlarged, tmp_path):
    exif = Image.Exif()
    exif[315] = "Ada"
    digits = {"exif": exif.tobytes().hex(), "xmp": b"<x a='1'/>".hex()}
    texts = {f"Raw profile type {k}": f"\n{k}\n {len(v) // 2}\n{v}\n" for k, v in digits.items()}
    info = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text, zip=True)
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png", pnginfo=info)
    for target in ("b.png", "b.jpg"):
        with Image.open(enlarged(file.getvalue(), target).path) as image:
            assert image.getexif()[315] == "Ada"
            assert "Raw profile type exif" not in image.info
        xmp = open_image(tmp_path / target).metadata["xmp-data"][1]
        assert xmp.rstrip(b"\0") == b"<x a='1'/>"


@pytest.mark.kept("long-xmp")
def test_xmp_too_long_for_jpeg_is_dropped_with_a_note(outcome):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "webp", xmp=b"<a>" + b"y" * 70_000 + b"</a>")
    note = "its XMP has no place in .jpg and is dropped"
    assert outcome(file.getvalue(), "b.jpg").notes == [note]


def test_the_bytes_of_a_user_comment_are_kept(enlarged):
    """In either byte order of the text and of the EXIF block."""
    for order, header in (("le", b"II*\0\x08\0\0\0"), ("be", b"MM\0*\0\0\0\x08")):
        data = b"UNICODE\0" + FOREIGN.encode(f"utf-16-{order}")
        block = edited_exif(b"Exif\0\0" + header + bytes(6), {}, {USER_COMMENT: Field(7, data)})
        file = io.BytesIO()
        Image.fromarray(array).save(file, "jpeg", exif=block)
        for target in ("b.jpg", "b.webp", "b.avif"):
            with Image.open(enlarged(file.getvalue(), target).path) as image:
                assert image.getexif().get_ifd(EXIF)[USER_COMMENT] == data
