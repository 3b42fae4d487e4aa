"""The pickle machine against the standard library's: the same plain values, and none of its
powers.
"""

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_keras.errors import WeightsError
from weights.pickle_stream import MAX_TEXT_BYTES
from weights.restricted_pickle import (
    MAX_OPCODES,
    Buildable,
    Global,
    RestrictedUnpickler,
)

PATH = Path("w.pkl")
TEXTS = st.text(max_size=40)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 90), 1 << 90)
    | st.floats(allow_nan=False)
    | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.lists(inner, max_size=6).map(tuple)
        | st.dictionaries(TEXTS | st.integers(-9, 9), inner, max_size=6)
    ),
    max_leaves=30,
)


class Recorded(Buildable):
    def __init__(self, *arguments):
        self.arguments, self.states = arguments, []

    def set_state(self, state):
        self.states.append(state)


ALLOWED = {"some thing": Global("thing", Recorded), "some word": Global("word")}


def load(content, **options):
    return RestrictedUnpickler(memoryview(content), PATH, ALLOWED, **options).load()


def refusal(content):
    with pytest.raises(WeightsError) as caught:
        load(content)
    message = str(caught.value)
    assert message.startswith("w.pkl: pickle: ")
    assert message.isprintable()
    return message


@settings(max_examples=300, deadline=None)
@given(value=PLAIN, protocol=st.integers(0, 4))
def test_plain_values_are_those_of_the_standard_library(value, protocol):
    content = pickle.dumps(value, protocol)
    loaded = load(content)
    assert loaded == pickle.loads(content) == value
    assert repr(loaded) == repr(value)


@pytest.mark.parametrize("protocol", range(5))
def test_shared_values_stay_shared(protocol):
    shared = [1]
    loaded = load(pickle.dumps([shared, shared, (shared, {"a": shared})], protocol))
    assert loaded[0] is loaded[1] is loaded[2][0] is loaded[2][1]["a"]


def test_bytes_of_python_3_and_long_ones_of_python_2_are_views_of_the_file():
    content = pickle.dumps(b"abc" * 200, 3)
    loaded = load(content)
    assert bytes(loaded) == b"abc" * 200
    assert loaded.obj is content
    assert bytes(load(b"T\x2c\x01\x00\x00" + bytes(300) + b".")) == bytes(300)


def test_short_strings_of_python_2_are_text_byte_for_byte():
    assert load(b"U\x03\xe4\x00a.") == "\xe4\x00a"
    assert load(b"S'\\xe4\\n\\'a'\n.") == "\xe4\n'a"
    assert bytes(load(b'S"' + rb"\x00" * 300 + b'"\n.')) == bytes(300)


def test_a_global_builds_only_what_its_reader_says():
    built = load(b"csome\nthing\nK\x01K\x02\x86R}X\x01\x00\x00\x00aK\x03sb.")
    assert (built.arguments, built.states) == ((1, 2), [{"a": 3}])
    assert load(b"csome\nword\n.") is ALLOWED["some word"]
    assert load(b"\x8c\x04some\x8c\x04word\x93.") is ALLOWED["some word"]


def test_persistent_ids_go_to_the_reader():
    assert load(b"K\x07Q.", persistent_load=lambda identity: ("stored", identity)) == ("stored", 7)
    assert "BINPERSID at byte 2: expected no persistent id" in refusal(b"K\x07Q.")


def test_pickles_in_a_row_are_read_one_after_another():
    content = memoryview(pickle.dumps("first", 2) + pickle.dumps(["second"], 0) + b"rest")
    first = RestrictedUnpickler(content, PATH, {})
    assert first.load() == "first"
    second = RestrictedUnpickler(content, PATH, {}, position=first.position)
    assert second.load() == ["second"]
    assert bytes(content[second.position :]) == b"rest"


@pytest.mark.parametrize(
    "value",
    [
        {1},
        frozenset({1}),
        bytearray(b"a"),
        complex(1),
        OrderedDict(),
        range(3),
        Ellipsis,
        int,
        slice(1),
        Path("a"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_other_values_of_the_standard_library_are_refused(value, protocol):
    refusal(pickle.dumps(value, protocol))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "opcode missing at byte 0: expected 1 more bytes, got 0"),
        (b"K\x01K\x02", "opcode missing at byte 4: expected 1 more bytes, got 0"),
        (b"NX\x05\x00\x00\x00abc", "opcode BINUNICODE at byte 1: expected 5 more bytes, got 3"),
        (
            b"cos\nsystem\n.",
            "opcode GLOBAL at byte 0: expected a global of the array types, got 'os system', "
            "which is",
        ),
        (
            b"(ios\nsystem\n.",
            "opcode INST at byte 1: expected an opcode that builds plain values and arrays, got "
            "one",
        ),
        (b"\x80\x05N.", "opcode PROTO at byte 0: expected protocol 0 to 4, got 5"),
        (b"\xffN.", "opcode 0xff at byte 0: expected an opcode"),
        (
            b"}(U\x01aNU\x01aNu.",
            "opcode SETITEMS at byte 10: expected each key once, got 'a' twice",
        ),
        (
            b"}(csome\nword\nNu.",
            "opcode SETITEMS at byte 14: expected text or a small integer as a key, got global",
        ),
        (
            b"csome\nword\n)R.",
            "opcode REDUCE at byte 12: expected an allowed global and a tuple, got global 'word' "
            "and",
        ),
        (
            b"]}b.",
            "opcode BUILD at byte 2: expected an array, a dtype or an ordered dictionary to set, "
            "got list",
        ),
        (
            b"V" + b"a" * 300 + b"\n.",
            f"opcode UNICODE at byte 0: expected a line of at most {MAX_TEXT_BYTES} bytes",
        ),
        (
            b"\x8b\xff\xff\xff\x7f",
            "opcode LONG4 at byte 0: expected an integer of at most 16 bytes, got 2147483647",
        ),
        (b"N" * (MAX_OPCODES + 1), f"expected at most {MAX_OPCODES} opcodes, got more"),
    ],
)
def test_message_names_the_opcode_and_its_byte(content, expected):
    assert expected in refusal(content)


OPCODES = [
    b"csome\nthing\n",
    b"csome\nword\n",
    b"K\x01",
    b"U\x01a",
    b"q\x01",
    b"h\x01",
    *(bytes([opcode]) for opcode in b"()]}NRbsuaet201ldQ.\x85\x86\x94"),
]


@settings(max_examples=500, deadline=None)
@given(
    content=st.binary(max_size=60) | st.lists(st.sampled_from(OPCODES), max_size=40).map(b"".join)
)
def test_any_bytes_give_a_value_or_one_line(content):
    try:
        load(content)
    except WeightsError:
        refusal(content)
