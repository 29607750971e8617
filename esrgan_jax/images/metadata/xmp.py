"""Adapts XMP to an upscaled image: rotates and scales what is in pixels, drops other parts."""

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from xml.dom import XMLNS_NAMESPACE, minidom

from esrgan_jax.images.metadata.xmp_tree import (
    NUMBER,
    RDF,
    Name,
    Properties,
    attributes,
    elements,
    multiply,
    name_of,
    parsed,
    properties,
    serialised,
    set_text,
    text_at,
    text_of,
)

GOOGLE, ADOBE = "http://ns.google.com/photos/", "http://ns.adobe.com/"
PANORAMA, EXIF, TIFF = f"{GOOGLE}1.0/panorama/", f"{ADOBE}exif/1.0/", f"{ADOBE}tiff/1.0/"
CAMERA, XAP = f"{GOOGLE}1.0/camera/", f"{ADOBE}xap/1.0/"
CAMERA_RAW = f"{ADOBE}camera-raw-settings/1.0/"
DJI, IPTC_EXT = "http://www.dji.com/drone-dji/1.0/", "http://iptc.org/std/Iptc4xmpExt/"
MICROSOFT = "http://ns.microsoft.com/photo/1.2/t/Region#"
AREA, DIMENSIONS = "/sType/Area#", "/sType/Dimensions#"  # of several namespaces
# Namespaces about parts that a result does not have: gain maps, depth, videos, extended XMP.
OTHER_PARTS = (
    *(f"{ADOBE}hdr-gain-map/1.0/", f"{ADOBE}xmp/note/", f"{GOOGLE}dd/"),
    *(f"{GOOGLE}1.0/{name}/" for name in ("container", "depthmap", "image", "audio", "focus")),
    *("http://ns.apple.com/HDRGainMap/", "http://ns.apple.com/pixeldatainfo/"),
    *("http://ns.oplus.com/photos/", "http://ns.xiaomi.com/photos/"),
)
# Properties in pixels, by namespace.
PIXELS = {
    PANORAMA: (
        *("FullPanoWidthPixels", "CroppedAreaImageWidthPixels", "CroppedAreaLeftPixels"),
        *("LargestValidInteriorRectLeft", "LargestValidInteriorRectWidth"),
        *("FullPanoHeightPixels", "CroppedAreaImageHeightPixels", "CroppedAreaTopPixels"),
        *("LargestValidInteriorRectTop", "LargestValidInteriorRectHeight"),
    ),
    DJI: ("CalibratedFocalLength", "CalibratedOpticalCenterX", "CalibratedOpticalCenterY"),
    EXIF: ("FocalPlaneXResolution", "FocalPlaneYResolution"),
}
SIDES = {  # properties of the size of the image: 0 is the width, 1 the height
    **{(EXIF, "PixelXDimension"): 0, (EXIF, "PixelYDimension"): 1},
    **{(TIFF, "ImageWidth"): 0, (TIFF, "ImageLength"): 1, (TIFF, "ImageHeight"): 1},
}
DOWN = re.compile("Height|Top|Y")  # in the names of vertical PIXELS
EMPTY = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"/></x:xmpmeta>'.encode()
RATING_XML = f'<rdf:Description xmlns:rdf="{RDF}" xmlns:xmp="{XAP}" rdf:about="" xmp:Rating="%d"/>'


def without_other_parts(xmp: bytes) -> bytes:
    """Returns XMP without properties of a gain map, a depth map, a video or a thumbnail.

    Returns:
        The same bytes if there are none; empty if nothing else is left.
    """
    document = parsed(xmp)
    if document is None:
        return xmp
    changed = False
    for element in list(elements(document)):
        for attribute in attributes(element):
            declared = attribute.namespaceURI == XMLNS_NAMESPACE and attribute.value
            if _of_other_parts(name_of(attribute)) or str(declared).startswith(OTHER_PARTS):
                element.removeAttributeNode(attribute)
                changed = True
        if _of_other_parts(name_of(element)) and element.parentNode is not None:
            element.parentNode.removeChild(element)
            changed = True
    if not changed:
        return xmp
    return serialised(document) if _has_properties(document) else b""


def upright_xmp(xmp: bytes, orientation: int, size: tuple[int, int]) -> bytes:
    """Returns the XMP of an image that was rotated upright: regions are moved.

    Args:
        orientation: The EXIF orientation of the stored image, 1 to 8.
        size: (width, height) as stored.
    """
    if orientation == 1:
        return xmp

    def change(own: Properties, name: Name) -> None:
        namespace, local = name
        if (
            namespace.endswith(AREA)
            and local == "x"
            and text_at(own, (namespace, "unit")) != "pixel"
        ):
            place = float(text_at(own, name)), float(text_at(own, (namespace, "y")))
            for side, value in zip("xy", upright_point(place, orientation), strict=True):
                set_text(own[namespace, side], f"{value:.6g}")
        if namespace.endswith((AREA, DIMENSIONS)) and local == "w" and orientation >= 5:
            across, down = text_at(own, name), text_at(own, (namespace, "h"))
            set_text(own[name], down)
            set_text(own[namespace, "h"], across)
        if name == (MICROSOFT, "Rectangle"):
            x, y, w, h = map(float, NUMBER.findall(text_at(own, name)))
            x, y = upright_point((x + w / 2, y + h / 2), orientation)
            w, h = (h, w) if orientation >= 5 else (w, h)
            set_text(own[name], ", ".join(f"{v:.6g}" for v in (x - w / 2, y - h / 2, w, h)))

        if namespace.startswith(IPTC_EXT) and local == "rbX":
            _turn_boundary(own, namespace, orientation, size)

    subject = partial(upright_subject, orientation=orientation, size=size)
    return _changed(with_upright_tag(xmp), change, subject)


def _in_pixels(node: minidom.Attr | minidom.Element) -> bool:
    """Returns whether the IPTC region that contains the node is in pixels."""
    element = node.ownerElement if isinstance(node, minidom.Attr) else node.parentNode
    while isinstance(element, minidom.Element):
        for (_, local), unit in properties(element).items():
            if local == "rbUnit":
                return text_of(unit).strip() == "pixel"
        element = element.parentNode
    return False


def _turn_boundary(
    own: Properties, namespace: str, orientation: int, size: tuple[int, int]
) -> None:
    """Rotates an IPTC boundary: the corner of a rectangle, the centre of a circle, or a vertex.

    Args:
        size: (width, height) of the stored image.
    """
    names = ("rbX", "rbY", "rbW", "rbH", "rbRx")
    x, y, w, h, r = (float(text_at(own, (namespace, local)) or 0) for local in names)
    across, down = size if (pixels := _in_pixels(own[namespace, "rbX"])) else (1, 1)
    x, y = upright_point(((x + w / 2) / across, (y + h / 2) / down), orientation)
    if orientation >= 5:
        across, down, w, h = down, across, h, w
        r *= 1 if pixels else size[0] / size[1]  # a radius is relative to the width
    for local, value in zip(names, (x * across - w / 2, y * down - h / 2, w, h, r), strict=True):
        if (namespace, local) in own:
            set_text(own[namespace, local], f"{value:.6g}")


def with_upright_tag(xmp: bytes) -> bytes:
    """Returns XMP with its tiff:Orientation, if it has one, set to 1."""
    return re.sub(rb"(tiff:Orientation(?:\s*=\s*[\"']|>))[2-8]", rb"\g<1>1", xmp)


def upright_point(place: tuple[float, float], orientation: int) -> tuple[float, float]:
    """Maps a point (x, y) in [0, 1] of a stored image to the upright image."""
    x, y = place
    x = 1 - x if orientation in (2, 3, 7, 8) else x
    y = 1 - y if orientation in (3, 4, 6, 7) else y
    return (y, x) if orientation >= 5 else (x, y)


def upright_subject(numbers: list[float], orientation: int, size: tuple[int, int]) -> list[float]:
    """Maps a SubjectArea of EXIF to the upright image.

    Args:
        numbers: (x, y), (x, y, diameter) or (x, y, width, height), in pixels.
        size: (width, height) of the stored image.
    """
    across, down = size
    x, y = upright_point((numbers[0] / across, numbers[1] / down), orientation)
    sides = numbers[2:][::-1] if orientation >= 5 else numbers[2:]
    across, down = (down, across) if orientation >= 5 else (across, down)
    return [x * across, y * down, *sides]


def scaled_subject(numbers: list[float], scale: tuple[float, float]) -> list[float]:
    """Scales a SubjectArea of EXIF by `scale`, (across, down)."""
    return [number * scale[i % 2] for i, number in enumerate(numbers)]


def scaled_xmp(xmp: bytes, size: tuple[int, int], scale: tuple[float, float]) -> bytes:
    """Returns the XMP of an upscaled image: values in pixels are scaled.

    Args:
        size: (width, height) of the result.
        scale: Size of the result divided by that of the original image, (across, down).
    """

    def change(own: Properties, name: Name) -> None:
        namespace, local = name
        if name in SIDES:
            set_text(own[name], str(size[SIDES[name]]))
        elif local in PIXELS.get(namespace, ()):
            multiply(own[name], scale[1 if DOWN.search(local) else 0])
        elif namespace.endswith((AREA, DIMENSIONS)) and local in ("x", "y", "w", "h", "d"):
            missing = ("",) if namespace.endswith(DIMENSIONS) else ()
            if text_at(own, (namespace, "unit")) in ("pixel", "pixels", *missing):
                multiply(own[name], scale[local in ("y", "h")])
        elif namespace.startswith(IPTC_EXT) and local in ("rbX", "rbY", "rbW", "rbH", "rbRx"):
            if _in_pixels(own[name]):
                multiply(own[name], scale[local in ("rbY", "rbH")])
        elif namespace == CAMERA_RAW and local in ("CropWidth", "CropHeight"):
            if text_at(own, (CAMERA_RAW, "CropUnit")) == "0":  # pixels
                multiply(own[name], scale[local == "CropHeight"])
        elif name == (DJI, "DewarpData"):  # focal lengths and the centre, then distortion
            date, _, numbers = text_at(own, name).rpartition(";")
            *pixels, k = numbers.split(",", 4)
            pixels = [f"{float(v) * scale[i % 2]:.9g}" for i, v in enumerate(pixels)]
            set_text(own[name], f"{date};{','.join([*pixels, k])}")

    return _changed(xmp, change, partial(scaled_subject, scale=scale))


def _changed(
    xmp: bytes,
    change: Callable[[Properties, Name], None],
    subject: Callable[[list[float]], list[float]],
) -> bytes:
    """Applies `change` to each simple property and `subject` to the numbers of a SubjectArea.

    Returns:
        The same bytes if nothing changes or the XMP is damaged.
    """
    document = parsed(xmp)
    if document is None:
        return xmp
    before = serialised(document)
    for element in elements(document):
        own = properties(element)
        for name in own:
            with suppress(ValueError, KeyError):  # an invalid value is kept
                change(own, name)
        if name_of(element) in ((EXIF, "SubjectArea"), (EXIF, "SubjectLocation")):
            items = list(element.getElementsByTagNameNS(RDF, "li"))
            with suppress(ValueError, IndexError):
                numbers = subject([float(text_of(item)) for item in items])
                for item, number in zip(items, numbers, strict=True):
                    set_text(item, str(round(number)))
    after = serialised(document)
    return xmp if after == before else after


def _of_other_parts(name: Name) -> bool:
    """Returns whether a property is about a part of the file that a result does not have."""
    namespace, local = name
    return (
        namespace.startswith(OTHER_PARTS)
        or (namespace == CAMERA and local.startswith(("Motion", "MicroVideo")))
        or (namespace == XAP and local == "Thumbnails")
    )


def _has_properties(document: minidom.Document) -> bool:
    for element in elements(document):
        if name_of(element) != (RDF, "Description"):
            continue
        own = [a for a in attributes(element) if a.namespaceURI not in (RDF, XMLNS_NAMESPACE)]
        if own or any(isinstance(child, minidom.Element) for child in element.childNodes):
            return True
    return False


def with_rating(xmp: bytes, rating: int) -> bytes:
    """Returns XMP, which may be empty, with a rating in stars; one that it has is kept."""
    document = parsed(xmp or EMPTY)
    if document is None:
        return xmp
    named = [node for element in elements(document) for node in properties(element)]
    places = document.getElementsByTagNameNS(RDF, "RDF")
    if (XAP, "Rating") in named or not places:
        return xmp
    description = minidom.parseString(RATING_XML % rating).documentElement
    places[0].appendChild(document.importNode(description, True))  # type: ignore
    return serialised(document)
