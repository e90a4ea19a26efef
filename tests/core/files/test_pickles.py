"""The reader of pickles: the same values as Python's, no calls, and limits to what a file can ask for."""

import io
import pickle
from collections import OrderedDict

import pytest

from imagegen_jax.core.files.pickles import Opaque, read_pickle

SHARED = [1, "shared"]
VALUES = {
    "numbers": [0, 1, -1, 255, 256, 65536, -(2**31), 2**31, 2**70, -(2**70), 0.1, -0.0, float("inf"), True, False,
                None],
    "texts": ["", "a", "é\n'\"\\ \u20ac \U0001f600", "x" * 300, b"", b"\x00\xff", b"y" * 300],
    "containers": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}, {1: {2: [3]}}, {(1, "a"): SHARED},
                   list(range(2000))],
    "again": [SHARED, SHARED],
}  # fmt: skip


def read(content, known=None):
    file = io.BytesIO(content)
    return read_pickle(file, len(content), known or {})


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_those_of_python(protocol):
    content = pickle.dumps(VALUES, protocol)
    encoded = {"_codecs.encode": lambda text, encoding: text.encode(encoding), "__builtin__.bytes": bytes}
    encoded["builtins.bytes"] = bytes  # of protocols 0 to 2, which have none
    found = read(content, encoded)
    assert found == VALUES == pickle.loads(content)
    assert found["again"][0] is found["again"][1]
    assert repr(found) == repr(VALUES)  # types of numbers and the sign of zero too


def test_texts_of_python_2_and_all_that_protocols_write_for_objects():
    assert read(b"(S'a\\x00b'\nU\x01\xe9T\x02\x00\x00\x00abl.") == ["a\x00b", "é", "ab"]
    for content in (
        b"(K\x01icollections\nThing\n.",
        b"(ccollections\nThing\nK\x01o.",
        b"ccollections\nThing\nK\x01\x85R.",
    ):
        found = read(content)
        assert isinstance(found, Opaque) and (found.name, found.arguments) == ("collections.Thing", (1,))
    found = read(b"ca\nB\n)\x81}K\x05K\x06sb.")
    assert isinstance(found, Opaque) and found.state == {5: 6}
    found = read(b"ca\nB\n)\x81(K\x01K\x02uK\x03a.")
    assert found.items == {1: 2}


def test_what_a_pickle_names_is_a_name():
    given = {"a": OrderedDict(b=1), "print": print, "kind": OSError}
    found = read(pickle.dumps(given))
    assert found["print"].name == "builtins.print" and found["print"].arguments is None
    assert found["kind"].name == "builtins.OSError"
    assert found["a"].name == "collections.OrderedDict" and found["a"].arguments == () and found["a"].items == {"b": 1}
    with pytest.raises(ValueError, match="a call of what is no function"):
        read(b"K\x01)R.")


def many(*parts):
    """A pickle of a list of the parts, each so many times."""
    return b"](" + b"".join(part * count for part, count in parts) + b"e."


@pytest.mark.parametrize(
    "content, message",
    [
        (b"X\xff\xff\xff\x7fabc.", "2,147,483,647 bytes are declared and 4 left"),
        (b"\x8e" + b"\xff" * 7 + b"\x7f.", "bytes are declared and 1 left"),
        (b"\x80\x04\x95" + b"\xff" * 8 + b"N.", "a frame longer"),
        (b"\x80\x06N.", "a protocol newer than 5"),
        (b"(" * 1001 + b".", "more than 1,000 values inside others"),
        (b"cos\n" + b"x" * 2000 + b"\n.", "a line without end"),
        (b"\x8b\x00\x10\x00\x00" + bytes(4096) + b".", "an integer of 4,096 bytes"),
        (b"\x82\x01.", "opcode 130"),
        (b"\x97.", "opcode 151"),
        (b"K\x01Q.", "a value outside of the pickle"),
        (b"}]K\x01s.", "a key that is a list"),
        (b"})" + b"\x85" + b"K\x01s.", "a key that is a tuple"),
        (b"})" + b"2\x86" * 60 + b"K\x01s.", "a key that is a tuple"),  # 2^60 hashes
        (b"K\x01}b.", "a state of what has none"),
        (b"K\x01K\x01a.", "values in what is no list"),
        (b"K\x01K\x01K\x01s.", "items of what is no mapping"),
        (b"h\x07.", "nothing is kept at 7"),
        (b"", "1 bytes are declared and 0 left"),
        (b"1.", "pop from empty list"),
        (b"2.", "out of range"),
    ],
)
def test_what_has_no_end_or_is_none_is_refused(content, message):
    with pytest.raises(ValueError, match=f"damaged or refused at byte .*{message}"):
        read(content)


def test_calls_that_would_copy_much_are_refused():
    found = read(many((b"N", 100)) + b"")
    assert found == [None] * 100
    with pytest.raises(ValueError, match="a.b of 17 arguments"):
        read(b"ca\nb\n(" + b"N" * 17 + b"tR.", {"a.b": lambda *arguments: arguments})
