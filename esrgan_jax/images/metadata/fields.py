"""Reads the metadata of an image as libvips' fields, and adapts it to an upscaled result.

The metadata is its colour profile, EXIF, XMP, IPTC, description, resolution unit and timing.
"""

import io
import re
from collections.abc import Mapping
from typing import Any

import pyvips
from PIL import Image

from esrgan_jax.images.color.icc import fitted
from esrgan_jax.images.metadata.exif import OF_PIXELS
from esrgan_jax.images.metadata.exif_edit import (
    first_number,
    read_orientation,
    scaled_exif,
    upright_exif,
)
from esrgan_jax.images.metadata.photoshop import iptc_for, iptc_of_result
from esrgan_jax.images.metadata.xmp import (
    scaled_xmp,
    upright_xmp,
    with_rating,
    with_upright_tag,
    without_other_parts,
)

Metadata = dict[str, tuple[int, Any]]  # {field: (GType, value)}

STRING, INTEGER, BLOB = (
    pyvips.GValue.gstr_type,
    pyvips.GValue.gint_type,
    pyvips.GValue.blob_type,
)
# Fields that are about the image, not about its file.
IMAGE_FIELDS = re.compile(
    r"exif-(?!ifd1-|ifd0-Orientation).*|xmp-data|iptc-data|icc-profile-data|resolution-unit"
    r"|image-description|delay|loop"
)
EXIF_TAIL = " (, ASCII, 1 components, 1 bytes)"  # libvips drops the last parenthesis of a text
# Bytes of EXIF that a JPEG can have, all of which libvips leaves out if there are more, and most
# that it adds: the size of the image, its resolution, and the head of the Software field.
JPEG_EXIF, ADDED_EXIF = 65_532, 140
RATING_TAG = 18246  # in stars; a tag of EXIF by Microsoft
PROFILE = "icc-profile-data"
UNKNOWN_RESOLUTION = 72 / 25.4  # pixels per millimetre; 72 dpi


def field(image: pyvips.Image, name: str, default: int) -> int:
    """Returns a field of an image; the default if it is missing or not an integer."""
    value = image.get(name) if image.get_typeof(name) else default
    return value if isinstance(value, int) else default


def image_metadata(image: pyvips.Image) -> Metadata:
    """Returns the metadata of an open file that is about the image, without the orientation."""
    names = [name for name in image.get_fields() if IMAGE_FIELDS.fullmatch(name)]
    found = {name: (image.get_typeof(name), image.get(name)) for name in names}
    if _description_of_pixels(image):
        del found["image-description"]
    return found


def dropped_description(image: pyvips.Image) -> tuple[str, ...]:
    """Returns a note if `image_metadata` drops a description by ImageJ or OME, or no note."""
    kind = {b"I": "ImageJ", b"<": "OME"}.get(_description_of_pixels(image)[:1])
    return (
        (f"its description by {kind} is dropped, as it describes the original pixels",)
        if kind
        else ()
    )


def _description_of_pixels(image: pyvips.Image) -> bytes:
    """Returns the description of a TIFF if it is about the layout of the pixels, else b""."""
    name = "image-description"
    value = str(image.get(name)).encode(errors="replace") if image.get_typeof(name) else b""
    return value.lstrip() if OF_PIXELS.match(value) else b""


def exif_fields(exif: bytes | None) -> Metadata:
    """Returns an EXIF block as fields of libvips, which writes EXIF only from those."""
    if exif is None:
        return {}
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "png", exif=exif)
    found = image_metadata(pyvips.Image.pngload_buffer(file.getvalue()))
    return {name: value for name, value in found.items() if name.startswith("exif-")}


def upright_metadata(
    metadata: Metadata, orientation: int, size: tuple[int, int], blobs: Mapping[str, bytes]
) -> Metadata:
    """Returns the metadata of an image that was rotated upright.

    What is about other parts of its file, such as gain maps, is dropped.

    Args:
        orientation: The EXIF orientation of the stored image, 1 to 8.
        size: (width, height) as stored.
        blobs: Further metadata, {field: data}; of a kind that is in `metadata`, it is ignored.
    """
    missing = {name: (BLOB, data) for name, data in blobs.items() if name not in metadata}
    if "exif-data" in missing:
        metadata = exif_fields(missing.pop("exif-data")[1]) | metadata
    metadata = missing | metadata
    if "exif-data" in metadata and orientation != 1:
        _, exif = metadata["exif-data"]
        turned = upright_exif(exif, orientation, size)
        metadata = metadata | (exif_fields(turned) if turned != exif else {})
    if "xmp-data" not in metadata:
        return metadata
    gtype, xmp = metadata.pop("xmp-data")
    xmp = upright_xmp(without_other_parts(xmp), orientation, size)
    return metadata | ({"xmp-data": (gtype, xmp)} if xmp else {})


def heif_metadata(metadata: Metadata, orientation: int | None, size: tuple[int, int]) -> Metadata:
    """Returns the metadata of a HEIF, which is rotated by its own properties, not by EXIF.

    Args:
        orientation: The EXIF orientation that the properties amount to; None to read it from EXIF.
        size: (width, height) of the upright image.
    """
    if orientation is None:
        orientation = read_orientation(metadata["exif-data"][1]) if "exif-data" in metadata else 1
    if "xmp-data" in metadata:
        gtype, xmp = metadata["xmp-data"]
        metadata = metadata | {"xmp-data": (gtype, with_upright_tag(xmp))}
    return upright_metadata(
        metadata, orientation, (size[1], size[0]) if orientation >= 5 else size, {}
    )


def scaled_metadata(
    metadata: Metadata, size: tuple[int, int], scale: tuple[float, float]
) -> Metadata:
    """Returns the metadata of an upscaled image: values in pixels are scaled.

    Args:
        size: (width, height) of the result.
        scale: Size of the result divided by that of the original image, (across, down).
    """
    metadata = dict(metadata)
    if "iptc-data" in metadata:
        gtype, iptc = metadata.pop("iptc-data")
        metadata |= {"iptc-data": (gtype, kept)} if (kept := iptc_of_result(iptc)) else {}
    if "xmp-data" in metadata:
        gtype, xmp = metadata["xmp-data"]
        metadata["xmp-data"] = (gtype, scaled_xmp(xmp, size, scale))
    if "exif-data" in metadata:
        _, exif = metadata["exif-data"]
        scaled = scaled_exif(exif, size, scale)
        metadata |= exif_fields(scaled) if scaled != exif else {}
        # libvips writes EXIF with libexif, which has no ratings.
        if 0 < (stars := first_number(exif, RATING_TAG)) <= 5:
            _, xmp = metadata.get("xmp-data", (BLOB, b""))
            metadata["xmp-data"] = (BLOB, with_rating(xmp, stars))
    return metadata


def with_metadata(
    image: pyvips.Image,
    saver: str,
    metadata: Metadata,
    *,
    page_height: int | None,
    resolution: tuple[float, float] | None,
    software: str | None,
) -> tuple[pyvips.Image, str]:
    """Returns the image with the metadata that a format supports, and the saver's option `keep`.

    Args:
        saver: libvips' name of the format: "png", "heif", …
        page_height: Rows of one frame of an animation; None for a still image.
        resolution: Pixels per millimetre, (across, down).
        software: The text of the Software field.
    """
    metadata = dict(metadata)
    across, down = resolution or (UNKNOWN_RESOLUTION, UNKNOWN_RESOLUTION)
    image = image.copy(xres=across, yres=down)
    for name in ("resolution-unit", "bits-per-sample", "n-pages", "orientation"):
        image.remove(name)
    if PROFILE in metadata:
        image = image if saver != "gif" else _as_srgb(image, metadata[PROFILE][1])
        # WebP and AVIF store gray as RGB.
        bands = image.bands if saver not in ("webp", "heif") else 3
        icc = None if saver == "gif" else fitted(metadata.pop(PROFILE)[1], bands)
        if icc is not None:
            metadata[PROFILE] = (BLOB, icc)
    if saver == "tiff":  # append_exif writes it
        metadata.pop("iptc-data", None)
    elif "iptc-data" in metadata:
        metadata["iptc-data"] = (BLOB, iptc_for(saver, metadata["iptc-data"][1]))
    if software is not None:
        before = len(metadata.get("exif-data", (0, b""))[1]) + ADDED_EXIF
        if saver != "jpeg" or before + len(software.encode()) < JPEG_EXIF:
            metadata["exif-ifd0-Software"] = (STRING, software + EXIF_TAIL)
        if saver == "png":
            metadata["png-comment-0-Software"] = (STRING, software)
    if any(name.startswith("exif-") for name in metadata):
        metadata["orientation"] = (INTEGER, 1)  # the EXIF block still has that of the input
    if page_height is None:
        metadata = {name: v for name, v in metadata.items() if name not in ("delay", "loop")}
    else:
        metadata["page-height"] = (INTEGER, page_height)
        if saver == "gif" and "delay" in metadata:  # browsers show shorter times as 100 ms
            gtype, times = metadata["delay"]
            metadata["delay"] = gtype, [max(10 * round(time / 10), 20) for time in times]
    for name, (gtype, value) in metadata.items():
        image.set_type(gtype, name, value)
    # Without EXIF fields, libvips would write an EXIF block of default values.
    return image, "all" if "orientation" in metadata else "xmp|iptc|icc|other"


def _as_srgb(image: pyvips.Image, icc: bytes) -> pyvips.Image:
    """Converts the pixels to sRGB, for a format without colour profiles."""
    profile: Any = fitted(icc, image.bands)  # pyvips declares no bytes
    if profile is None:
        return image
    image = image.copy()
    image.set_type(BLOB, PROFILE, profile)
    return image.icc_transform(
        "srgb", embedded=True, black_point_compensation=True, intent="relative"
    )
