"""XMP packets (ISO 16684-1) that say that a picture is generated: IPTC's properties, and an origin's fields."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from imagegen_jax.core.provenance.origin import Origin

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED, COMPOSITE = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"
ALGORITHMIC = "algorithmicMedia"  # without a trained model
OWN = "urn:imagegen_jax:origin:1#"  # the namespace of an origin's fields
LARGEST = 1 << 22  # bytes of a packet that is read

_SPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "origin": OWN,
}
_META = "adobe:ns:meta/"
_FIELDS = tuple(field.name for field in dataclasses.fields(Origin))
_NUMBERS = frozenset({"step", "seed", "row"})


def packet_of(origin: Origin) -> bytes:
    """Writes the packet of an origin, UTF-8. What XML cannot hold, such as control characters, is left out of it."""
    for prefix, space in (*_SPACES.items(), ("x", _META)):
        ElementTree.register_namespace(prefix, space)
    root = ElementTree.Element(f"{{{_META}}}xmpmeta")
    outer = ElementTree.SubElement(root, _name("rdf", "RDF"))
    said = ElementTree.SubElement(outer, _name("rdf", "Description"), {_name("rdf", "about"): ""})

    def say(prefix: str, name: str, text: str) -> None:
        ElementTree.SubElement(said, _name(prefix, name)).text = _printable(text)

    say("xmp", "CreatorTool", "imagegen_jax")
    say("Iptc4xmpExt", "DigitalSourceType", SOURCE_TYPES + _kind_of(origin))
    say("Iptc4xmpExt", "AISystemUsed", "imagegen_jax")
    if origin.prompts:
        say("Iptc4xmpExt", "AIPromptInformation", "\n".join(dict.fromkeys(origin.prompts)))
    for name in _FIELDS:
        value = getattr(origin, name)
        if value is not None and value is not False and value not in ("", (), {}):
            say("origin", name, value if isinstance(value, str) else json.dumps(value, default=str))
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{body}<?xpacket end="w"?>'.encode()


def _kind_of(origin: Origin) -> str:
    if origin.untrained:
        return ALGORITHMIC
    return COMPOSITE if origin.edited else GENERATED


def properties_of(packet: bytes) -> dict[str, str]:
    """Reads the simple properties of a packet, by "{namespace}name"; {} where it is damaged, or none.

    Document types are refused, since entities in them may grow without end.
    """
    if len(packet) > LARGEST or b"<!DOCTYPE" in packet:
        return {}
    try:
        root = ElementTree.fromstring(packet.decode().strip("\x00 \n\ufeff"))
    except (ElementTree.ParseError, UnicodeDecodeError, ValueError):
        return {}
    found: dict[str, str] = {}
    for said in root.iter(_name("rdf", "Description")):
        found |= {name: text for name, text in said.attrib.items() if name != _name("rdf", "about")}
        found |= {child.tag: child.text or "" for child in said if not len(child)}
    return found


def source_type_of(properties: Mapping[str, str]) -> str:
    """Returns how a picture came to be, by its properties, such as "trainedAlgorithmicMedia"; "" for nothing."""
    return properties.get(_name("Iptc4xmpExt", "DigitalSourceType"), "").rpartition("/")[2]


def origin_in(properties: Mapping[str, str]) -> Origin | None:
    """Reads an origin out of properties; None where they have none. Values of wrong types are left out."""
    given = {name: properties[f"{{{OWN}}}{name}"] for name in _FIELDS if f"{{{OWN}}}{name}" in properties}
    found = {name: value for name, text in given.items() if (value := _read(name, text)) is not None}
    return Origin(**found) if found else None


def _read(name: str, text: str) -> Any:
    default = Origin.__dataclass_fields__[name].default
    if isinstance(default, str):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if name == "prompts":
        return tuple(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else None
    wanted = int if name in _NUMBERS else bool if default is False else dict
    return value if type(value) is wanted else None


def _name(prefix: str, name: str) -> str:
    return f"{{{_SPACES[prefix]}}}{name}"


def _printable(text: str) -> str:
    """Leaves out what XML 1.0 has no way to write."""
    return "".join(
        c
        for c in text
        if c in "\t\n\r" or (c >= " " and not "\ud800" <= c <= "\udfff" and c < "\ufffe" or c > "\uffff")
    )
