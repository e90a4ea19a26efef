"""Kinds of characters as the regular expressions of other tokenizers have them, from Unicode's own table.

Python's `re` knows no classes of letters and numbers, and its spaces are four control characters more than Unicode's.
"""

from __future__ import annotations

import functools
import unicodedata

SPACES = frozenset("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {
    chr(at) for at in range(0x2000, 0x200B)
}


@functools.lru_cache(maxsize=1 << 16)
def kind(character: str) -> str:
    """Tells what a character is: "L" a letter, "N" a number, " " a space, "O" any other."""
    if character in SPACES:
        return " "
    major = unicodedata.category(character)[0]
    return major if major in "LN" else "O"


@functools.lru_cache(maxsize=1 << 16)
def lower(character: str) -> str:
    """Returns a character in lower case, whatever is around it: a sigma at a word's end is one like others."""
    return character.lower()
