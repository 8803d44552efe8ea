"""Files that are written here are those that the `gguf` package writes, byte for byte."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tailrace.gguf.writer import NewTensor, tensor_of, write_gguf


def test_the_bytes_are_those_of_the_gguf_package(tmp_path: Path, rng: np.random.Generator) -> None:
    numbers = {
        name: rng.standard_normal(shape).astype(np.float32) for name, shape in (("a", (3, 64)), ("b", (5,)), ("c", (2, 3, 32)))
    }
    kinds = {"a": "Q4_1", "b": "F32", "c": "BF16"}
    values: dict[str, Any] = {
        "text": "Grüße",
        "yes": True,
        "signed": -5,
        "real": 1e-5,
        "texts": ["a", "", "ß"],
        "numbers": [1, -2],
        "reals": [0.5, 2.0],
        "truths": [True, False],
    }
    writer = gguf.GGUFWriter(tmp_path / "theirs.gguf", "llama")
    for key, value in values.items():
        writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
    writer.add_uint32("count", 7)
    writer.add_uint16("split.no", 3)
    for name, of_tensor in numbers.items():
        kind = gguf.GGMLQuantizationType[kinds[name]]
        writer.add_tensor(name, gguf.quantize(of_tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensors = [tensor_of(name, of_tensor, kinds[name]) for name, of_tensor in numbers.items()]
    path = write_gguf(tmp_path / "ours.gguf", "llama", {**values, "count": 7, "split.no": np.uint16(3)}, tensors)
    assert path.read_bytes() == (tmp_path / "theirs.gguf").read_bytes()


def test_holes_take_no_room_and_read_as_zeros(tmp_path: Path) -> None:
    path = write_gguf(
        tmp_path / "m.gguf", "llama", {}, [NewTensor("a", (1 << 14, 1 << 10), "Q8_0"), tensor_of("b", np.ones(3))]
    )
    assert path.stat().st_size > 17_000_000
    assert path.stat().st_blocks * 512 < 1 << 17
    data = path.read_bytes()
    assert not any(data[4096:-64])
    assert data[-32:-20] == np.ones(3, np.float32).tobytes()


def test_alignment(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", {"general.alignment": 128}, [tensor_of(n, np.ones(3)) for n in "ab"])
    assert [t.data_offset % 128 for t in gguf.GGUFReader(path).tensors] == [0, 0]


def test_rows_that_are_no_blocks() -> None:
    with pytest.raises(ValueError, match="^rows of a have 33 elements, not whole blocks of 32$"):
        _ = NewTensor("a", (2, 33), "Q8_0").bytes
