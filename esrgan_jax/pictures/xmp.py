"""XMP: what speaks of pixels follows the result's size, and what the result does not have goes."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from xml.dom import XMLNS_NAMESPACE, minidom
from xml.parsers.expat import ExpatError

GOOGLE, ADOBE = "http://ns.google.com/photos/", "http://ns.adobe.com/"
PANORAMA, EXIF, TIFF = f"{GOOGLE}1.0/panorama/", f"{ADOBE}exif/1.0/", f"{ADOBE}tiff/1.0/"
CAMERA, XAP, RAW = f"{GOOGLE}1.0/camera/", f"{ADOBE}xap/1.0/", f"{ADOBE}camera-raw-settings/1.0/"
DJI, RDF = "http://www.dji.com/drone-dji/1.0/", "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC, MICROSOFT = "http://iptc.org/std/Iptc4xmpExt/", "http://ns.microsoft.com/photo/1.2/t/Region#"
AREA, DIMENSIONS = "/sType/Area#", "/sType/Dimensions#"  # of several namespaces
# Of parts of a file that a result does not have: gain maps, depth, videos, XMP elsewhere.
OTHER_PARTS = (
    *(f"{ADOBE}hdr-gain-map/1.0/", f"{ADOBE}xmp/note/", f"{GOOGLE}dd/"),
    *(f"{GOOGLE}1.0/{name}/" for name in ("container", "depthmap", "image", "audio", "focus")),
    *("http://ns.apple.com/HDRGainMap/", "http://ns.apple.com/pixeldatainfo/"),
    *("http://ns.oplus.com/photos/", "http://ns.xiaomi.com/photos/"),
)
STRANGERS = ("Pantry", "Ingredients", "DerivedFrom")  # they describe other pictures than this one
# What counts pixels, by namespace: across and down.
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
SIZES = {(EXIF, "PixelXDimension"): 0, (EXIF, "PixelYDimension"): 1}
SIZES |= {(TIFF, "ImageWidth"): 0, (TIFF, "ImageLength"): 1, (TIFF, "ImageHeight"): 1}
DOWN = re.compile("Height|Top|Y")  # in a name of PIXELS
NUMBER = re.compile(r"[-+]?\d*\.?\d+")

Name = tuple[str, str]  # namespace and local name
Properties = dict[
    Name, minidom.Attr | minidom.Element
]  # the simple ones of an element, however they are written


def without_other_parts(xmp: bytes) -> bytes:
    """XMP that says nothing of a gain map, a depth map, a video or a thumbnail.

    Returns:
        The same bytes where it says nothing of them, and none where it says nothing else.
    """
    document = _parsed(xmp)
    if document is None:
        return xmp
    changed = False
    for element in list(_elements(document)):
        for attribute in _attributes(element):
            declared = attribute.namespaceURI == XMLNS_NAMESPACE and attribute.value
            if _of_other_parts(_name(attribute)) or str(declared).startswith(OTHER_PARTS):
                element.removeAttributeNode(attribute)
                changed = True
        if _of_other_parts(_name(element)) and element.parentNode is not None:
            element.parentNode.removeChild(element)
            changed = True
    if not changed:
        return xmp
    return _serialised(document) if _says_something(document) else b""


def turned_xmp(xmp: bytes, orientation: int, size: tuple[int, int]) -> bytes:
    """XMP of a picture that has been turned upright: regions lie elsewhere in it.

    Args:
        orientation: How the picture lay, 1 to 8 as in EXIF.
        size: (width, height) as it lay.
    """
    if orientation == 1:
        return xmp

    def change(own: Properties, name: Name) -> None:
        namespace, local = name
        if namespace.endswith(AREA) and local == "x" and _get(own, (namespace, "unit")) != "pixel":
            place = float(_get(own, name)), float(_get(own, (namespace, "y")))
            for side, value in zip("xy", turned(place, orientation), strict=True):
                _set(own[namespace, side], f"{value:.6g}")
        if namespace.endswith((AREA, DIMENSIONS)) and local == "w" and orientation >= 5:
            across, down = _get(own, name), _get(own, (namespace, "h"))
            _set(own[name], down)
            _set(own[namespace, "h"], across)
        if name == (MICROSOFT, "Rectangle"):
            x, y, w, h = map(float, NUMBER.findall(_get(own, name)))
            x, y = turned((x + w / 2, y + h / 2), orientation)
            w, h = (h, w) if orientation >= 5 else (w, h)
            _set(own[name], ", ".join(f"{v:.6g}" for v in (x - w / 2, y - h / 2, w, h)))

    subject = partial(turned_subject, orientation=orientation, size=size)
    return _changed(upright(xmp), change, subject)


def upright(xmp: bytes) -> bytes:
    """XMP that calls its picture upright where it says how it lay."""
    return re.sub(rb"(tiff:Orientation(?:\s*=\s*[\"']|>))[2-8]", rb"\g<1>1", xmp)


def turned(place: tuple[float, float], orientation: int) -> tuple[float, float]:
    """Where a place (x, y), both from 0 to 1, is after turning a picture upright."""
    x, y = place
    x = 1 - x if orientation in (2, 3, 7, 8) else x
    y = 1 - y if orientation in (3, 4, 6, 7) else y
    return (y, x) if orientation >= 5 else (x, y)


def turned_subject(numbers: list[float], orientation: int, size: tuple[int, int]) -> list[float]:
    """EXIF's SubjectArea, (x, y), (x, y, diameter) or (x, y, width, height), in pixels."""
    across, down = size
    x, y = turned((numbers[0] / across, numbers[1] / down), orientation)
    sides = numbers[2:][::-1] if orientation >= 5 else numbers[2:]
    across, down = (down, across) if orientation >= 5 else (across, down)
    return [x * across, y * down, *sides]


def scaled_subject(numbers: list[float], scale: tuple[float, float]) -> list[float]:
    """EXIF's SubjectArea in a picture that is larger by `scale`, (across, down)."""
    return [number * scale[i % 2] for i, number in enumerate(numbers)]


def scaled_xmp(xmp: bytes, size: tuple[int, int], scale: tuple[float, float]) -> bytes:
    """XMP of an enlarged picture.

    Args:
        size: (width, height) of the result.
        scale: Of the result over the picture that the XMP is of, (across, down).
    """

    def change(own: Properties, name: Name) -> None:
        namespace, local = name
        if name in SIZES:
            _set(own[name], str(size[SIZES[name]]))
        elif local in PIXELS.get(namespace, ()):
            _scale(own[name], scale[1 if DOWN.search(local) else 0])
        elif namespace.endswith((AREA, DIMENSIONS)) and local in ("x", "y", "w", "h", "d"):
            unspoken = ("",) if namespace.endswith(DIMENSIONS) else ()
            if _get(own, (namespace, "unit")) in ("pixel", "pixels", *unspoken):
                _scale(own[name], scale[local in ("y", "h")])
        elif namespace.startswith(IPTC) and local in ("rbX", "rbY", "rbW", "rbH", "rbRx"):
            if _get(own, (namespace, "rbUnit")) == "pixel":
                _scale(own[name], scale[local in ("rbY", "rbH")])
        elif namespace == RAW and local in ("CropWidth", "CropHeight"):
            if _get(own, (RAW, "CropUnit")) == "0":  # pixels
                _scale(own[name], scale[local == "CropHeight"])
        elif name == (DJI, "DewarpData"):  # focal lengths and the centre, then distortion
            date, _, numbers = _get(own, name).rpartition(";")
            *pixels, k = numbers.split(",", 4)
            pixels = [f"{float(v) * scale[i % 2]:.9g}" for i, v in enumerate(pixels)]
            _set(own[name], f"{date};{','.join([*pixels, k])}")

    return _changed(xmp, change, partial(scaled_subject, scale=scale))


def _changed(
    xmp: bytes,
    change: Callable[[Properties, Name], None],
    subject: Callable[[list[float]], list[float]],
) -> bytes:
    """XMP after a change of each simple property; the same bytes where nothing is another."""
    document = _parsed(xmp)
    if document is None:
        return xmp
    before = _serialised(document)
    for element in _elements(document):
        own = _properties(element)
        for name in own:
            with suppress(ValueError, KeyError):  # a value that nobody understands stays
                change(own, name)
        if _name(element) in ((EXIF, "SubjectArea"), (EXIF, "SubjectLocation")):
            items = list(element.getElementsByTagNameNS(RDF, "li"))
            with suppress(ValueError, IndexError):
                numbers = subject([float(_text(item)) for item in items])
                for item, number in zip(items, numbers, strict=True):
                    _set(item, str(round(number)))
    after = _serialised(document)
    return xmp if after == before else after


def _parsed(xmp: bytes) -> minidom.Document | None:
    text = xmp.rstrip(b"\0 \r\n\t")
    if not text or b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        return None
    with suppress(ExpatError, ValueError, AttributeError):
        return minidom.parseString(text)
    return None


def _serialised(document: minidom.Document) -> bytes:
    return "".join(node.toxml() for node in document.childNodes).encode()


def _elements(node: minidom.Node) -> Iterator[minidom.Element]:
    """All elements below a node that are about this picture."""
    for child in node.childNodes:
        if isinstance(child, minidom.Element) and child.localName not in STRANGERS:
            yield child
            yield from _elements(child)


def _attributes(element: minidom.Element) -> list[minidom.Attr]:
    return [element.attributes.item(i) for i in range(element.attributes.length)]  # type: ignore


def _name(node: minidom.Element | minidom.Attr) -> Name:
    return node.namespaceURI or "", node.localName or ""


def _properties(element: minidom.Element) -> Properties:
    own: Properties = {_name(attribute): attribute for attribute in _attributes(element)}
    for child in element.childNodes:
        simple = child.childNodes and all(n.nodeType == n.TEXT_NODE for n in child.childNodes)
        if simple and isinstance(child, minidom.Element):
            own[_name(child)] = child
    return own


def _text(node: minidom.Attr | minidom.Element) -> str:
    if isinstance(node, minidom.Attr):
        return node.value
    return "".join(child.data for child in node.childNodes if isinstance(child, minidom.Text))


def _get(own: Properties, name: Name) -> str:
    return _text(own[name]).strip() if name in own else ""


def _set(node: minidom.Attr | minidom.Element, text: str) -> None:
    if isinstance(node, minidom.Attr):
        node.value = text
    else:
        while node.firstChild is not None:
            node.removeChild(node.firstChild)
        node.appendChild(node.ownerDocument.createTextNode(text))  # type: ignore


def _scale(node: minidom.Attr | minidom.Element, scale: float) -> None:
    """Multiplies a number; whole ones stay whole, and of a rational the first is multiplied."""
    number, slash, below = _text(node).strip().partition("/")
    value = float(number) * scale
    whole = slash or (NUMBER.fullmatch(number) and "." not in number)
    _set(node, f"{round(value) if whole else f'{value:.9g}'}{slash}{below}")


def _of_other_parts(name: Name) -> bool:
    namespace, local = name
    return (
        namespace.startswith(OTHER_PARTS)
        or (namespace == CAMERA and local.startswith(("Motion", "MicroVideo")))
        or (namespace == XAP and local == "Thumbnails")
    )


def _says_something(document: minidom.Document) -> bool:
    for element in _elements(document):
        if _name(element) != (RDF, "Description"):
            continue
        about = [a for a in _attributes(element) if a.namespaceURI not in (RDF, XMLNS_NAMESPACE)]
        if about or any(isinstance(child, minidom.Element) for child in element.childNodes):
            return True
    return False
