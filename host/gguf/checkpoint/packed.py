"""Matrices of 4 and 8 bits as AWQ and GPTQ pack them, as blocks of a format with exactly the same values.

A weight is ``scale * (code - zero)``, with a scale and a zero for each group of a row. Blocks have 32 weights, and groups are
several of them: their scale is repeated. Where all zeros are 8, four bits are Q4_0; else what is left after the zero is taken
off, from -16 to 15, is Q5_0, and of eight bits Q8_0.

Sources: AutoAWQ's awq/modules/linear/gemm.py and awq/utils/packing_utils.py; AutoGPTQ's auto_gptq/nn_modules/qlinear.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.errors import ModelError
from tailrace.spec.formats import BLOCK

from ..printable import printable
from ..writer import NewTensor
from .json_file import Values
from .lazy_rows import LazyRows
from .shards import Entry

Bytes = NDArray[np.uint8]
WORDS, ZEROS, SCALES, GROUPS = ".qweight", ".qzeros", ".scales", ".g_idx"
#: Which of eight columns each nibble of a word holds, from the lowest on.
_AWQ_ORDER = np.array([0, 2, 4, 6, 1, 3, 5, 7])
_MAX_GROUP = 1 << 20


@dataclass(frozen=True)
class Packing:
    """How matrices are packed.

    Attributes
    ----------
    awq : bool
        Whether words hold columns, in AWQ's order; else they hold rows.
    bits : int
    group : int
        Weights of a row that share scale and zero; -1: all.
    zero_step : int
        What is added to stored zeros.
    """

    awq: bool
    bits: int
    group: int
    zero_step: int


def read_packing(config: Values) -> Packing | None:
    """How a configuration says that matrices are packed; None if they are plain.

    Raises
    ------
    ModelError
        If it is a way that is not known here.
    """
    if "quantization_config" not in config:
        return None
    said = config.inner("quantization_config")
    method = said.text("quant_method")
    if method not in ("awq", "gptq"):
        raise said.unexpected("quant_method", "'awq' or 'gptq'")
    bits = said.integer("bits", 1, 64)
    if bits not in ((4,) if method == "awq" else (4, 8)):
        raise said.unexpected("bits", "4" if method == "awq" else "4 or 8")
    group = said.integer("group_size", -1, _MAX_GROUP)
    if group != -1 and (group < BLOCK or group % BLOCK):
        raise said.unexpected("group_size", f"a multiple of {BLOCK}, or -1")
    if method == "awq":
        if said.text("version", "gemm").lower() != "gemm":
            raise said.unexpected("version", "'gemm'")
        return Packing(True, bits, group, 0)
    layout = said.text("checkpoint_format", "gptq")
    if layout not in ("gptq", "gptq_v2"):
        raise said.unexpected("checkpoint_format", "'gptq' or 'gptq_v2'")
    return Packing(False, bits, group, layout == "gptq")


def unpacked(folder: Path, packing: Packing, module: str, place: str, entries: Mapping[str, Entry]) -> NewTensor:
    """A matrix by GGUF's name, whose blocks are made when they are asked for.

    Raises
    ------
    ModelError
        If a part is missing, does not fit the others, or can't be held exactly.
    """
    name = printable(module)
    missing = [part for part in (WORDS, ZEROS, SCALES) if module + part not in entries]
    if missing:
        raise ModelError(f"{folder} is not complete: it lacks {name}{missing[0]}. Download it again.")
    per_word = 32 // packing.bits
    scales = _scales(folder, name, entries[module + SCALES])
    groups, rows = scales.shape
    columns = groups * packing.group if packing.group != -1 else _columns(entries[module + WORDS], packing)
    group = columns // groups
    if packing.group == -1 and groups != 1:
        raise ModelError(f"{folder} can't be used: {name}{SCALES} has {groups} groups, and one is expected (group_size is -1)")
    shapes = {
        WORDS: (columns, rows // per_word) if packing.awq else (columns // per_word, rows),
        ZEROS: (groups, rows // per_word),
    }
    for part, shape in shapes.items():
        entry = entries[module + part]
        if entry.kind != "I32" or entry.shape != shape:
            raise ModelError(
                f"{folder} can't be used: {name}{part} is {entry.kind} of {list(entry.shape)}, and I32 of {list(shape)} is"
                " expected"
            )
    if module + GROUPS in entries:
        _check_order(folder, name, entries[module + GROUPS], columns, group)
    words, packed_zeros = (entries[module + part].octets.view("<u4").reshape(shape) for part, shape in shapes.items())
    order = _AWQ_ORDER if packing.awq else np.arange(per_word)
    # Of each column among those of a word, its place.
    places = np.argsort(order)
    zeros = _fields(packed_zeros, np.arange(rows), places, packing.bits).astype(np.int16) + np.int16(packing.zero_step)
    kind = "Q8_0" if packing.bits == 8 else "Q4_0" if (zeros == 8).all() else "Q5_0"
    if kind == "Q8_0" and (zeros != 128).any():
        raise ModelError(f"{folder} can't be run: {name} has 8 bits with zero points, which no block holds exactly")

    def blocks(numbers: NDArray[np.int64]) -> Bytes:
        if packing.awq:
            codes = _fields(words, numbers, places, packing.bits)
        else:
            taken = words[:, numbers][:, None] >> (np.uint32(packing.bits) * np.arange(per_word, dtype=np.uint32))[:, None]
            codes = (taken & np.uint32((1 << packing.bits) - 1)).reshape(columns, len(numbers))
        left = codes.T.astype(np.int16).reshape(len(numbers), groups, group) - zeros.T[numbers][:, :, None]
        repeated = np.repeat(scales.T[numbers], group // BLOCK, axis=1)
        return _blocks(kind, left.reshape(len(numbers), -1, BLOCK), repeated)

    size = {"Q4_0": 18, "Q5_0": 22, "Q8_0": 34}[kind] * (columns // BLOCK)
    return NewTensor(place, (rows, columns), kind, cast(NDArray[Any], LazyRows(rows, size, blocks)))


def _columns(words: Entry, packing: Packing) -> int:
    return words.shape[0] * (1 if packing.awq else 32 // packing.bits) if words.shape else 0


def _scales(folder: Path, name: str, entry: Entry) -> NDArray[np.float16]:
    """Scales as float16, shape (groups, rows)."""
    if entry.kind != "F16" or len(entry.shape) != 2 or 0 in entry.shape:
        raise ModelError(
            f"{folder} can't be used: {name}{SCALES} is {entry.kind} of {list(entry.shape)}, and F16 of groups and rows is"
            " expected"
        )
    return entry.octets.view("<f2").reshape(entry.shape)


def _check_order(folder: Path, name: str, entry: Entry, columns: int, group: int) -> None:
    """Check that groups are made of columns side by side."""
    if entry.kind != "I32" or entry.shape != (columns,):
        raise ModelError(f"{folder} can't be used: {name}{GROUPS} is not I32 of {columns}")
    if not np.array_equal(entry.octets.view("<i4"), np.arange(columns) // group):
        raise ModelError(
            f"{folder} can't be run: the groups of {name} are in the order of activations (desc_act), and groups of columns"
            " side by side are expected: get the model without act-order"
        )


def _fields(words: NDArray[np.uint32], numbers: NDArray[np.int64], places: NDArray[np.int64], bits: int) -> NDArray[np.uint32]:
    """Columns of a table whose words hold several, shape (rows, numbers)."""
    per_word = len(places)
    shifts = (bits * places[numbers % per_word]).astype(np.uint32)
    return words[:, numbers // per_word] >> shifts & np.uint32((1 << bits) - 1)


def _blocks(kind: str, left: NDArray[np.int16], scales: NDArray[np.float16]) -> Bytes:
    """Blocks of numbers of shape (rows, blocks, 32), with a scale for each."""
    parts: list[NDArray[Any]] = [np.ascontiguousarray(scales)[..., None].view(np.uint8)]
    if kind == "Q8_0":
        parts.append(left.astype(np.int8).view(np.uint8))
    else:
        codes = (left + (8 if kind == "Q4_0" else 16)).astype(np.uint8)
        if kind == "Q5_0":
            parts.append(np.packbits(codes >> 4, axis=-1, bitorder="little"))
            codes &= 15
        parts.append(codes[..., :16] | codes[..., 16:] << 4)
    return np.concatenate(parts, axis=-1).reshape(len(left), -1)
