"""Recognizes unsupported files by their first bytes and says what to do with them."""

import re
import struct

from esrgan_jax.images.formats.isobmff import brands

IS_VIDEO = "it is a video, not an image: give its name the ending of a video, such as .mp4"
SAVE = "save it as PNG, JPEG or TIFF first"
DEVELOP = "develop it, in darktable, RawTherapee or Lightroom, and upscale the TIFF saved there"
FIRST_BYTES = {
    "a JPEG XL image": (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
    "a JPEG 2000 image": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "a JPEG-LS image": (b"\xff\xd8\xff\xf7",),
    "a JPEG XR image": (b"II\xbc",),
    "a Photoshop document": (b"8BPS",),
    "a GIMP document": (b"gimp xcf",),
    "an OpenEXR image": (b"v/1\x01",),
    "a Radiance HDR image": (b"#?RADIANCE", b"#?RGBE"),
    "a DirectDraw texture (DDS)": (b"DDS ",),
    "a Khronos texture (KTX)": (b"\xabKTX ",),
    "a Targa image": (b"\0\0\2\0\0\0", b"\0\0\x0a\0\0\0"),
    "a Windows icon": (b"\0\0\1\0", b"\0\0\2\0"),
    "an Apple icon": (b"icns",),
    "a FITS image": (b"SIMPLE  =",),
    "a QOI image": (b"qoif",),
    "a BPG image": (b"BPG\xfb",),
    "a FLIF image": (b"FLIF",),
    "a DjVu document": (b"AT&TFORM",),
    "a PFM image": (b"PF\n", b"Pf\n"),
    "a PAM image": (b"P7\n",),
    "a Windows metafile": (b"\xd7\xcd\xc6\x9a", b"\1\0\0\0l\0\0\0"),
    "a PDF document": (b"%PDF",),
    "a PostScript document": (b"%!PS", b"\xc5\xd0\xd3\xc6"),
}
RAW_FORMATS = {
    "Canon CRW": (b"II\x1a\0\0\0HEAPCCDR",),
    "Fujifilm RAF": (b"FUJIFILMCCD-RAW",),
    "Olympus ORF": (b"IIRO", b"IIRS", b"MMOR"),
    "Panasonic or Leica RW2": (b"IIU\0",),
    "Sigma X3F": (b"FOVb",),
    "Minolta MRW": (b"\0MRM",),
}
IMAGE_BRANDS = {b"mif1", b"msf1", b"avif", b"avis", b"miaf", b"mif2"}
ARCHIVES = (b"PK\3\4", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b")


def raw_sentence(maker: str) -> str:
    """Returns why a raw file is refused; `maker` is its format, such as "Canon CR2"."""
    return f"it is a raw file ({maker}) without a finished image: {DEVELOP}"


def foreign(head: bytes) -> str | None:
    """Returns why a file with these first bytes cannot be read; None if it may be an image."""
    if not head:
        return "it is empty"
    if head.count(0) == len(head) >= 16:
        return "it has only zero bytes: it was never written, or the disk lost its content"
    for maker, magics in RAW_FORMATS.items():
        if head.startswith(magics):
            return raw_sentence(maker)
    if head[8:10] == b"CR" and head[:4] == b"II*\0":
        return raw_sentence("Canon CR2")
    if head[8:16] in (b"IIIITwaR", b"MMMMRawT"):
        return raw_sentence("Phase One IIQ")
    for what, magics in FIRST_BYTES.items():
        if head.startswith(magics):
            return f"it is {what}, which is not supported: {SAVE}"
    if head[128:132] == b"DICM":
        return f"it is a DICOM image, which is not supported: {SAVE}"
    if head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"CgBI":
        return f"it is a PNG in Apple's format for apps, which is not supported: {SAVE}"
    if head.startswith(ARCHIVES):
        return "it is an archive or a document, not an image: unpack it, or save the image from it"
    return _video(head) or _text(head)


def _video(head: bytes) -> str | None:
    named = brands(head)
    if b"crx " in named:
        return raw_sentence("Canon CR3")
    heif = any(name in IMAGE_BRANDS or name[:2] in (b"he", b"hv") for name in named)
    videos = (
        b"\x1aE\xdf\xa3",
        b"\0\0\1\xba",
        b"\0\0\1\xb3",
        b"FLV\1",
        b"OggS",
        b"0&\xb2u\x8ef\xcf\x11",
    )
    avi = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    movie = head[4:8] in (b"moov", b"mdat", b"wide") and struct.unpack(">I", head[:4])[0] >= 8
    if (named and not heif) or avi or movie or head.startswith(videos):
        return IS_VIDEO
    return None


def _text(head: bytes) -> str | None:
    start = re.sub(rb"<!--.*?-->|<\?.*?\?>", b"", head.lstrip(b"\xef\xbb\xbf"), flags=re.S)
    start = start.lstrip()[:512].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "it is a web page, not an image: download the image itself"
    if start.startswith((b"<svg", b"<!doctype svg")) or (b"<svg" in head and start[:1] == b"<"):
        return "it is an SVG drawing, which has no pixels: render it as PNG at the size you want"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself: run git lfs pull"
    return None
