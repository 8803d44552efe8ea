"""The reader of headers: typed values, and what is said about those that are something else."""

import re
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tailrace.gguf.header import Header
from tailrace.gguf.types import TENSOR_TYPES
from tailrace.gguf.writer import NewTensor, tensor_of, write_gguf
from tailrace.spec.errors import ModelError

from .conftest import Limit

VALUES: dict[str, Any] = {
    "u8": np.uint8(255),
    "i8": np.int8(-1),
    "u16": np.uint16(65535),
    "i16": np.int16(-2),
    "u32": np.uint32(7),
    "i32": np.int32(-7),
    "u64": np.uint64((1 << 64) - 1),
    "i64": np.int64(-(1 << 63)),
    "f32": np.float32(0.5),
    "f64": np.float64(1e-5),
    "nan": np.float32("nan"),
    "inf": float("inf"),
    "yes": True,
    "no": False,
    "text": "Grüße",
    "empty": "",
    "escape": "a\x1b[31m\n",
    "numbers": [1, -2, 3],
    "reals": [0.5, float("inf")],
    "truths": [True, False],
    "texts": ["a", "", "ß"],
    "none": np.array([], dtype=np.int32),
}


@pytest.fixture
def header(tmp_path: Path) -> Header:
    return Header(write_gguf(tmp_path / "m.gguf", None, VALUES, []))


def test_every_type_is_read(header: Header) -> None:
    assert header.version == 3
    assert list(header) == list(VALUES)
    integers = {"u8": 255, "i8": -1, "u16": 65535, "i16": -2, "u32": 7, "i32": -7, "u64": (1 << 64) - 1, "i64": -(1 << 63)}
    assert {key: header.integer(key, -(1 << 64), 1 << 64) for key in integers} == integers
    assert (header.real("f32", 0, 1), header.real("f64", 0, 1), header.real("u32", 0, 10)) == (0.5, 1e-5, 7.0)
    assert (header.boolean("yes"), header.boolean("no")) == (True, False)
    assert (header.text("text"), header.text("empty"), header.text("escape")) == ("Grüße", "", "a\x1b[31m\n")
    assert header.integers("numbers", -2, 3).tolist() == [1, -2, 3]
    assert header.booleans("truths").tolist() == [True, False]
    assert header.texts("texts", count=3) == ["a", "", "ß"]
    assert header.integers("none", 0, 0).tolist() == []


def test_defaults_stand_for_what_is_missing(header: Header) -> None:
    assert header.integer("x", 0, 1, 5) == 5
    assert header.real("x", 0, 1, 5.5) == 5.5
    assert header.boolean("x", True)
    assert header.text("x", "y") == "y"
    assert header.integers("x", 0, 1, default=()).tolist() == []
    assert header.reals("x", 0, 1, default=(0.5,)).tolist() == [0.5]
    assert header.booleans("x", default=(True,)).tolist() == [True]
    assert header.texts("x", default=("a",)) == ["a"]
    assert header.per_layer("x", 0, 9, 3, 4) == (4, 4, 4)


def test_one_for_all_layers_or_one_for_each(header: Header) -> None:
    assert header.per_layer("u32", 0, 9, 3) == (7, 7, 7)
    assert header.per_layer("numbers", -9, 9, 3) == (1, -2, 3)


@pytest.mark.parametrize(
    ("ask", "found", "expected"),
    [
        (lambda h: h.integer("u32", 8, 9), "u32 in its header is 7", "a whole number from 8 to 9"),
        (lambda h: h.integer("u64", 0, 9), "u64 in its header is 18446744073709551615", "a whole number from 0 to 9"),
        (lambda h: h.integer("f32", 0, 9), "f32 in its header is 0.5", "a whole number from 0 to 9"),
        (lambda h: h.integer("yes", 0, 9), "yes in its header is true", "a whole number from 0 to 9"),
        (lambda h: h.integer("numbers", 0, 9), "numbers in its header is an array of 3 numbers", "a whole number from 0 to 9"),
        (lambda h: h.real("nan", 0, 1), "nan in its header is nan", "a number from 0 to 1"),
        (lambda h: h.real("inf", 0, 1e300), "inf in its header is inf", "a number from 0 to 1e+300"),
        (lambda h: h.real("f64", 0.1, 1), "f64 in its header is 1e-05", "a number from 0.1 to 1"),
        (lambda h: h.real("text", 0, 1), "text in its header is 'Grüße'", "a number from 0 to 1"),
        (lambda h: h.boolean("u8"), "u8 in its header is 255", "true or false"),
        (lambda h: h.text("u8"), "u8 in its header is 255", "a text"),
        (lambda h: h.text("texts"), "texts in its header is an array of 3 texts", "a text"),
        (lambda h: h.integer("escape", 0, 1), r"escape in its header is 'a\x1b[31m\n'", "a whole number from 0 to 1"),
        (
            lambda h: h.integers("numbers", 0, 9),
            "numbers in its header is an array of 3 numbers of which number 1 is -2",
            "an array of whole numbers from 0 to 9",
        ),
        (
            lambda h: h.reals("reals", 0, 9),
            "reals in its header is an array of 2 numbers of which number 1 is inf",
            "an array of numbers from 0 to 9",
        ),
        (lambda h: h.integers("texts", 0, 9), "texts in its header is an array of 3 texts", "an array of whole numbers from 0 to 9"),
        (lambda h: h.booleans("numbers", count=3), "numbers in its header is an array of 3 numbers", "an array of 3 truth values"),
        (lambda h: h.texts("texts", count=4), "texts in its header is an array of 3 texts", "an array of 4 texts"),
        (lambda h: h.texts("numbers"), "numbers in its header is an array of 3 numbers", "an array of texts"),
        (
            lambda h: h.per_layer("numbers", -9, 9, 2),
            "numbers in its header is an array of 3 numbers",
            "an array of 2 whole numbers from -9 to 9",
        ),
    ],
)  # fmt: skip
def test_what_is_something_else(ask: Callable[[Header], object], found: str, expected: str, header: Header) -> None:
    text = f"{header.path} can't be used: {found}, and {expected} is expected. Convert the model again."
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        ask(header)


@pytest.mark.parametrize(
    "ask",
    [
        lambda h: h.integer("x.y", 0, 1),
        lambda h: h.real("x.y", 0, 1),
        lambda h: h.boolean("x.y"),
        lambda h: h.text("x.y"),
        lambda h: h.integers("x.y", 0, 1),
        lambda h: h.reals("x.y", 0, 1),
        lambda h: h.booleans("x.y"),
        lambda h: h.texts("x.y"),
        lambda h: h.per_layer("x.y", 0, 1, 3),
    ],
)
def test_what_is_missing(ask: Callable[[Header], object], header: Header) -> None:
    text = f"{header.path} is not a complete model: its header lacks x.y. Convert it again."
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        ask(header)


def test_who_asked_for_what(header: Header) -> None:
    header.integer("u8", 0, 255)
    assert header.unasked("u") == ["u16", "u32", "u64"]
    assert [key for key in header if header.is_neutral(key)] == ["no", "empty", "none"]


def test_text_that_is_none(header: Header) -> None:
    path = header.path
    path.write_bytes(path.read_bytes().replace("Grüße".encode(), b"Gr\xffxxxe").replace("ß".encode(), b"\xc3x"))
    damaged = Header(path)
    for ask, what in ((lambda: damaged.text("text"), "text"), (lambda: damaged.texts("texts"), "item 2 of texts")):
        with pytest.raises(
            ModelError, match=f"^{re.escape(f'{path} is corrupt: {what} is not text in UTF-8. Download it again.')}$"
        ):
            ask()
    assert damaged.shown("text") == "'Gr\ufffdxxxe'"


def refuses(path: Path, text: str) -> None:
    with pytest.raises(ModelError, match=f"^{re.escape(f'{path} {text}')}$"):
        Header(path)


def test_version_2_is_read_and_others_are_not(header: Header) -> None:
    path, data = header.path, header.path.read_bytes()
    path.write_bytes(data[:4] + struct.pack("<I", 2) + data[8:])
    assert Header(path).integer("u32", 0, 9) == 7
    for version in (0, 1, 4, 1 << 30):
        path.write_bytes(data[:4] + struct.pack("<I", version) + data[8:])
        refuses(path, f"has GGUF version {version}, and this reads 2 and 3: convert the model again")
    path.write_bytes(data[:4] + struct.pack(">I", 3) + data[8:])
    refuses(path, "is big endian, and this reads little endian only: convert the model again")


def test_counts_are_checked_before_anything_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    for tensors, values, text in (
        (0, 1 << 62, f"is corrupt: its header speaks of {1 << 62} values. Download it again."),
        (1 << 62, 0, f"is corrupt: its header speaks of {1 << 62} tensors. Download it again."),
        (0, 60000, "is truncated: its header goes on after the end of the file. Download it again."),
        (60000, 0, "is truncated: its header goes on after the end of the file. Download it again."),
    ):
        path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensors, values) + bytes(1000))
        refuses(path, text)


@pytest.mark.parametrize("inner", [4, 8])
def test_lengths_of_arrays_are_checked_too(inner: int, tmp_path: Path, at_most: Limit) -> None:
    path = tmp_path / "m.gguf"
    for count in (1000, 1 << 40, (1 << 64) - 1):
        entry = struct.pack("<Q", 1) + b"x" + struct.pack("<IIQ", 9, inner, count)
        path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry + bytes(64))
        with at_most(1 << 20):
            refuses(path, "is truncated: its header goes on after the end of the file. Download it again.")


@pytest.mark.parametrize(
    ("values", "tensors", "text"),
    [
        ({"a\x1b": 1}, 0, None),
        ({"x" * 65536: 1}, 0, "the name of value 0 has 65536 bytes, and names have up to 65535"),
        ({}, ["x" * 65], "the name of tensor 0 has 65 bytes, and names have up to 64"),
        ({}, ["a\x1b", "b", "a\x1b"], r"it has two tensors of the name a\x1b"),
    ],
)
def test_names(values: dict[str, Any], tensors: Any, text: str | None, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", None, values, [tensor_of(n, np.zeros(4)) for n in tensors or ()])
    if text is None:
        assert list(Header(path)) == list(values)
    else:
        refuses(path, f"is corrupt: {text}. Download it again.")


def test_a_key_twice(header: Header) -> None:
    path = header.path
    path.write_bytes(path.read_bytes().replace(b"\x03\0\0\0\0\0\0\0u16", b"\x03\0\0\0\0\0\0\0u32"))
    refuses(path, "is corrupt: its header has u32 twice. Download it again.")


def test_unknown_types_of_values(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    for kind, text in ((struct.pack("<I", 13), "x has the unknown type 13"),
                       (struct.pack("<IIQ", 9, 9, 1), "x is an array of the unknown type 9")):  # fmt: skip
        path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"x" + kind + bytes(64))
        refuses(path, f"is corrupt: {text}. Download it again.")


def test_tensors_lie_where_the_gguf_package_finds_them(tmp_path: Path) -> None:
    values = {"general.alignment": 64}
    tensors = [
        tensor_of("a", np.arange(6.0).reshape(2, 3)),
        tensor_of("b", np.ones((4, 64)), "Q4_0"),
        tensor_of("c", np.ones(5)),
    ]
    header = Header(write_gguf(tmp_path / "m.gguf", "llama", values, tensors))
    reader = gguf.GGUFReader(header.path)
    assert [(t.name, t.start, t.end - t.start) for t in header.tensors] == [
        (t.name, t.data_offset, t.n_bytes) for t in reader.tensors
    ]
    assert [t.shape for t in header.tensors] == [(2, 3), (4, 64), (5,)]


@pytest.mark.parametrize("alignment", [0, 33, -1, "x", 32.0, 1 << 31])
def test_alignments_that_are_none(alignment: Any, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", {"general.alignment": 64}, [])
    data = path.read_bytes()
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"can't be used: general.alignment in its header is "):
        Header(_replaced(path, alignment))


def _replaced(path: Path, alignment: Any) -> Path:
    """A file whose alignment is what its writer can't obey."""
    other = write_gguf(path.with_name("o.gguf"), "llama", {"general.alignmend": alignment}, [])
    other.write_bytes(other.read_bytes().replace(b"alignmend", b"alignment"))
    return other


def test_tensors_that_overlap_or_lie_askew(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", {}, [tensor_of("first", np.zeros(16)), tensor_of("other", np.zeros(16))])
    data = path.read_bytes()
    place = data.index(b"other") + len("other") + 4 + 8 + 4
    for offset, text in ((32, "first and other overlap"), (0, "first and other overlap"),
                         (65, "other begins at byte 65 of the tensors, which is no multiple of 32")):  # fmt: skip
        path.write_bytes(data[:place] + struct.pack("<Q", offset) + data[place + 8 :])
        refuses(path, f"is corrupt: {text}. Download it again.")
    path.write_bytes(data[:place] + struct.pack("<Q", 1 << 63) + data[place + 8 :])
    with pytest.raises(ModelError, match=r"is truncated: other ends at byte \d+, but the file has \d+\. Download it again\.$"):
        Header(path)


def test_tensor_types_are_those_of_gguf() -> None:
    theirs = {int(kind): (kind.name, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert {number: (t.name, t.elements, t.bytes) for number, t in TENSOR_TYPES.items()} == theirs


def test_a_large_vocabulary_opens_fast_and_small(tmp_path: Path, at_most: Limit) -> None:
    """As large as Llama 3's. It took the gguf package's reader 9 seconds and 600 MB."""
    texts = [f"token {n}" for n in range(128_256)]
    values = {"tokenizer.ggml.tokens": texts, "tokenizer.ggml.merges": [f"a{n} b{n}" for n in range(280_147)]}
    path = write_gguf(tmp_path / "m.gguf", "llama", values, [NewTensor("x", (32,), "F32")])
    start = time.process_time()
    header = Header(path)
    opened = time.process_time() - start
    assert header.texts("tokenizer.ggml.tokens") == texts
    assert opened < 1
    write_gguf(path, None, {"tokenizer.ggml.tokens": texts[:20000]}, [])
    with at_most(1 << 17):
        Header(path)
