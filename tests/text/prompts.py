"""Texts that tokenizers are compared on: the same for each version of Python, since `Random.random` is."""

from __future__ import annotations

import random
import zlib

import numpy as np

WORDS = (
    "a photo of the small red circle on left Photograph COLOURFUL naïve café Straße ΟΔΥΣΣΕΥΣ "
    "İstanbul don't they're I'LL "
    "we've 'd it's O'Brien cat's-eye 3.14 1,000,000 No.5 R2D2 x² ½ Ⅷ ① &amp; &lt;b&gt; "
    "&amp;amp; &#233; &nbsp; "
    "https://a.b/c?d=e#f #hashtag @name <b>bold</b> <|endoftext|> <|startoftext|> "
    "<|ENDOFTEXT|> [MASK] [CLS] [sep] "
    "!!!<|startoftext|>!! ... ?!?! —–- “quoted” ‘it’s’ 日本語 東京タワー 한국어 привет Москва שלום مرحبا "
    "नमस्ते สวัสดี e\u0301te\u0301 "
    "👍🏽 👨‍👩‍👧‍👦 🇩🇪 ☃️ 🙂🙃 ﬁne ｆｕｌｌ zero\u200bwidth soft\u00adhyphen nbsp\u00a0here tab\there "
    "line\nbreak\r\n \u2028 \x85 \x1c \x00 "
    "\ufffd \ufeff \ue000 Ã© â€™ ZÍ̯̺a̵l̴go supercalifragilisticexpialidocious _under_score_ "
    "$100 50% a+b=c ~tilde~ ^ ` |"
).split(" ")
RANGES = (  # of code points, in blocks that have long been full
    (0x00, 0x7F), (0xA0, 0x24F), (0x300, 0x36F), (0x391, 0x3A1), (0x3A3, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA),
    (0x621, 0x64A), (0x905, 0x939), (0xE01, 0xE3A), (0x1E00, 0x1EFF), (0x2000, 0x2064), (0x2100, 0x218B),
    (0x2190, 0x23FA), (0x2460, 0x27BF), (0x3041, 0x3096), (0x30A0, 0x30FF), (0x3400, 0x4DB5), (0x4E00, 0x9FA5),
    (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFA2D), (0xFE00, 0xFE0F), (0xFF01, 0xFF5E), (0x1D400, 0x1D454),
    (0x1F300, 0x1F320), (0x1F330, 0x1F335), (0x1F600, 0x1F64F), (0x20000, 0x2A6D6), (0x2B740, 0x2B81D),
    (0x2B820, 0x2CEA1),
)  # fmt: skip


def prompts(n: int = 10_000, seed: int = 0) -> list[str]:
    """Makes `n` texts: of words, of random characters, and of both, some empty, some longer than any context."""
    draw = random.Random(seed).random

    def one_of(options):
        return options[int(draw() * len(options))]

    def piece() -> str:
        if draw() < 0.6:
            word = one_of(WORDS)
            return word if draw() < 0.8 else one_of((word.upper(), word.title(), word * 2, word * 40))
        low, high = one_of(RANGES)
        return "".join(chr(low + int(draw() * (high - low + 1))) for _ in range(1 + int(draw() * 6)))

    return [
        "".join(piece() + one_of((" ", " ", " ", "", "  ", "\t")) for _ in range(int(draw() * 14))) for _ in range(n)
    ]


def checksums(tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns a 32-bit number of each row of int32 tokens and its mask, which changes with either."""
    rows = zip(tokens.astype("<i4"), mask.astype(np.uint8), strict=True)
    return np.asarray([zlib.crc32(held.tobytes(), zlib.crc32(row.tobytes())) for row, held in rows], np.uint32)
