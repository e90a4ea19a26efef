"""XMP packets in videos: GIF has an application block for one (XMP specification, part 3), MP4 a box of its own."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from imagegen_jax.core.provenance.xmp import LARGEST

_BLOCK = b"\x21\xff\x0bXMP DataXMP"  # an extension, for an application, of 11 letters
# Readers that skip blocks take each byte of the packet for the length of one: wherever they are, this leads to the end.
_TRAILER = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"
_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_BOXES = 10_000  # that are looked at


def gif_with(packet: bytes, content: bytes) -> bytes:
    """Puts a packet into a GIF, behind the colours that all its frames share."""
    at = 13 + (3 << (content[10] % 8 + 1) if content[10] & 0x80 else 0)
    return content[:at] + _BLOCK + packet + _TRAILER + content[at:]


def mp4_box(packet: bytes) -> bytes:
    """Makes the box that holds a packet: it stands at the end of an MP4, where nothing else has to move for it."""
    return struct.pack(">I", 24 + len(packet)) + b"uuid" + _BOX + packet


def packet_in_video(file: BinaryIO) -> bytes | None:
    """Reads the packet of a GIF or an MP4, b"" where it has none; None where the file is neither."""
    head = file.read(12)
    if head[:4] == b"GIF8":
        return _in_gif(head + file.read(LARGEST))
    return _in_mp4(file) if head[4:8] == b"ftyp" else None


def without_packet(content: bytes) -> bytes:
    """Returns a GIF or an MP4 without its packet."""
    packet = packet_in_video(io.BytesIO(content))
    if not packet:
        return content
    return content.replace(_BLOCK + packet + _TRAILER, b"", 1).replace(mp4_box(packet), b"", 1)


def _in_gif(content: bytes) -> bytes:
    _, found, rest = content.partition(_BLOCK)
    packet, ends, _ = rest.partition(_TRAILER[:4])  # no UTF-8 has such bytes
    return packet if found and ends else b""


def _in_mp4(file: BinaryIO) -> bytes:
    at, end = 0, file.seek(0, 2)  # 2: from the end
    for _ in range(_BOXES):
        if at >= end:  # a box may say that it is longer than any file
            return b""
        file.seek(at)
        head = file.read(24)
        if len(head) < 8:
            return b""
        size, header = struct.unpack(">I", head[:4])[0], 8
        if size == 1 and len(head) >= 16:  # the length did not fit
            size, header = struct.unpack(">Q", head[8:16])[0], 16
        if head[4:8] == b"uuid" and head[header:] == _BOX and header == 8:
            return file.read(min(size - 24, LARGEST)) if size > 24 else b""
        if size < header:  # 0: up to the end of the file
            return b""
        at += size
    return b""
