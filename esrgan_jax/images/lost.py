"""Reports the metadata of an image that the output format cannot hold."""

from esrgan_jax.images.metadata.fields import ADDED_EXIF, JPEG_EXIF
from esrgan_jax.images.metadata.texts import place_texts
from esrgan_jax.images.output_formats import OUTPUT_FORMATS
from esrgan_jax.images.reader import OpenedImage

MOST_EXIF = 65_527  # bytes after its header; libexif reads no more
MOST_XMP = 65_502  # bytes in one segment of a JPEG


def lost(image: OpenedImage, suffix: str) -> tuple[str, ...]:
    """Returns a note on the metadata that a file would lose, or no note if it keeps all.

    Args:
        suffix: Of the file to be written, such as ".jpg".

    Returns:
        At most one sentence, without a full stop.
    """
    saver = OUTPUT_FORMATS[suffix.lower()].saver
    known = {name: value for name, (_, value) in image.metadata.items()}
    place = place_texts(image.texts, known.get("exif-data"), saver)
    most = JPEG_EXIF - ADDED_EXIF if saver == "jpeg" else MOST_EXIF
    parts = []
    if saver != "tiff" and image.geo is not None and image.geo.placed:
        parts.append("georeference")
    if saver == "gif" and "exif-data" in known:
        parts.append("EXIF")
    elif saver != "tiff" and len(place.exif or b"") > most:
        parts.append("EXIF beyond 64 KiB")
    xmp = len(known.get("xmp-data", b""))
    if xmp and (saver == "gif" or (saver == "jpeg" and xmp > MOST_XMP)):
        parts.append("XMP")
    if saver in ("gif", "webp", "heif") and "iptc-data" in known:
        parts.append("IPTC")
    if place.left_out:
        names = ", ".join(dict.fromkeys(place.left_out))
        parts.append(f"text{'s' if ', ' in names else ''} ({names})")
    if not parts:
        return ()
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)
    have = "have" if parts[1:] or parts[0].startswith("texts") else "has"
    are = "are" if have == "have" else "is"
    return (f"its {listed} {have} no place in {suffix} and {are} dropped",)
