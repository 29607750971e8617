"""Parses XMP to an XML tree; reads and writes its simple properties, in either notation."""

import re
from collections.abc import Iterator
from contextlib import suppress
from xml.dom import minidom
from xml.parsers.expat import ExpatError

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
OTHER_IMAGES = ("Pantry", "Ingredients", "DerivedFrom")  # elements about other images
NUMBER = re.compile(r"[-+]?\d*\.?\d+")

Name = tuple[str, str]  # namespace and local name
# Properties with a simple value, which XMP writes as attributes or as elements.
Properties = dict[Name, minidom.Attr | minidom.Element]


def parsed(xmp: bytes) -> minidom.Document | None:
    """Parses XMP; None if it is empty or damaged, or declares entities, which may be huge."""
    text = xmp.rstrip(b"\0 \r\n\t")
    if not text or b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        return None
    with suppress(ExpatError, ValueError, AttributeError):
        return minidom.parseString(text)
    return None


def serialised(document: minidom.Document) -> bytes:
    """Returns a document as bytes, without an XML declaration."""
    return "".join(node.toxml() for node in document.childNodes).encode()


def elements(node: minidom.Node) -> Iterator[minidom.Element]:
    """Yields all elements below a node, except those that describe other images."""
    for child in node.childNodes:
        if isinstance(child, minidom.Element) and child.localName not in OTHER_IMAGES:
            yield child
            yield from elements(child)


def attributes(element: minidom.Element) -> list[minidom.Attr]:
    return [element.attributes.item(i) for i in range(element.attributes.length)]  # type: ignore


def name_of(node: minidom.Element | minidom.Attr) -> Name:
    return node.namespaceURI or "", node.localName or ""


def properties(element: minidom.Element) -> Properties:
    """Returns the simple properties of an element."""
    own: Properties = {name_of(attribute): attribute for attribute in attributes(element)}
    for child in element.childNodes:
        simple = child.childNodes and all(n.nodeType == n.TEXT_NODE for n in child.childNodes)
        if simple and isinstance(child, minidom.Element):
            own[name_of(child)] = child
    return own


def text_of(node: minidom.Attr | minidom.Element) -> str:
    if isinstance(node, minidom.Attr):
        return node.value
    return "".join(child.data for child in node.childNodes if isinstance(child, minidom.Text))


def text_at(own: Properties, name: Name) -> str:
    """Returns the value of a property; "" if it is missing."""
    return text_of(own[name]).strip() if name in own else ""


def set_text(node: minidom.Attr | minidom.Element, text: str) -> None:
    if isinstance(node, minidom.Attr):
        node.value = text
    else:
        while node.firstChild is not None:
            node.removeChild(node.firstChild)
        node.appendChild(node.ownerDocument.createTextNode(text))  # type: ignore


def multiply(node: minidom.Attr | minidom.Element, scale: float) -> None:
    """Multiplies a number: integers stay integers; of a rational, the numerator is multiplied."""
    number, slash, denominator = text_of(node).strip().partition("/")
    value = float(number) * scale
    whole = slash or (NUMBER.fullmatch(number) and "." not in number)
    set_text(node, f"{round(value) if whole else f'{value:.9g}'}{slash}{denominator}")
