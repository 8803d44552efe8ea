"""What is appended lies where `tailrace.spec.kv_cache` says, and is read back as the matrices that attention multiplies."""

import numpy as np
import pytest

from tailrace.golden.append import appended
from tailrace.golden.buffer import ActivationBuffer
from tailrace.golden.stream import unpack
from tailrace.spec.floats import multiply, reciprocal
from tailrace.spec.formats import I8, Q8_0
from tailrace.spec.isa import FIELDS, Cache, Opcode
from tailrace.spec.kv_cache import key_bytes, quantise_keys, quantise_values, value_bytes, value_row_bytes

CAPACITY, HEADS = 64, 3


def fields_of(**values: int) -> dict[str, int]:
    return {f.name: 0 for f in FIELDS[Opcode.APPEND]} | values


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("head_size", [32, 40, 64, 256])
def test_keys(rng: np.random.Generator, lanes: int, head_size: int) -> None:
    tokens, blocks = 2 * lanes + 3, -(-head_size // 32)
    keys = (rng.standard_normal((tokens, HEADS, head_size)) * 3).astype(np.float32)
    scales, codes = quantise_keys(keys)
    size = key_bytes(head_size, CAPACITY, lanes)
    memory = np.zeros(64 * 7 + HEADS * size, dtype=np.uint8)
    for token in range(tokens):
        buffer = ActivationBuffer(2048)
        padded = np.zeros((HEADS, blocks * 32), dtype=np.float32)
        padded[:, :head_size] = keys[token]
        factors = np.repeat(reciprocal(scales[token].astype(np.float32)), 32, axis=1)
        scaled = multiply(padded, factors)[:, :head_size]
        buffer.write(2000, 256, scaled)
        buffer.write(901, 1, scales[token].astype(np.float32).reshape(-1, 1))
        fields = fields_of(
            cache=Cache.KEYS, a=2000, a_stride=256, b=901, destination=7, head_stride=size // 64, count=head_size
        )
        written = appended(buffer, fields | {"segments": HEADS, "token": token}, lanes)
        memory[written.addresses] = written.data
        assert written.beats == 1 + np.count_nonzero(np.diff(written.addresses // (16 * lanes)))
    for head in range(HEADS):
        start = 64 * 7 + head * size
        stream = memory[start : start + Q8_0.matrix_bytes(tokens, blocks, lanes)]
        matrix = unpack(stream, Q8_0, tokens, blocks, lanes)
        assert np.array_equal(matrix.codes.swapaxes(0, 1), codes[:, head])
        assert np.array_equal(matrix.scales.T * 2.0**-24, scales[:, head].astype(np.float64))


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("head_size", [32, 41, 64, 256])
def test_values(rng: np.random.Generator, lanes: int, head_size: int) -> None:
    tokens = 35
    values = (rng.standard_normal((tokens, HEADS, head_size)) * 3).astype(np.float32)
    scales, codes = quantise_values(values)
    size = value_bytes(head_size, CAPACITY, lanes)
    at_scales = 64 * 5 + HEADS * size
    memory = np.zeros(at_scales + HEADS * CAPACITY * 4, dtype=np.uint8)
    for token in range(tokens):
        buffer = ActivationBuffer(1024)
        buffer.write(1000, 256, multiply(values[token], reciprocal(scales[token])[:, None]))
        buffer.write(901, 1, scales[token][:, None])
        fields = fields_of(
            cache=Cache.VALUES,
            a=1000,
            a_stride=256,
            b=901,
            destination=5,
            head_stride=size // 64,
            count=head_size,
            segments=HEADS,
            token=token,
            row_stride=value_row_bytes(CAPACITY, lanes) // 64,
            scales=at_scales // 64,
            scale_stride=CAPACITY * 4 // 64,
        )
        written = appended(buffer, fields, lanes)
        memory[written.addresses] = written.data
        assert written.beats == 1 + np.count_nonzero(np.diff(written.addresses // (16 * lanes)))
    blocks = -(-tokens // 16)
    for head in range(HEADS):
        start = 64 * 5 + head * size
        groups, row = -(-head_size // lanes), value_row_bytes(CAPACITY, lanes)
        part = blocks * 16 * lanes
        stream = np.concatenate([memory[start + g * row : start + g * row + part] for g in range(groups)])
        matrix = unpack(stream, I8, head_size, blocks, lanes)
        both = matrix.codes.astype(int)
        read = (both[..., :16] + both[..., 16:]).swapaxes(0, 1).reshape(head_size, -1)
        assert np.array_equal(read[:, :tokens], codes[:, head].T)
        assert not read[:, tokens:].any()
        stored = memory[at_scales + head * CAPACITY * 4 :][: 4 * tokens].view("<f4")
        assert np.array_equal(stored, scales[:, head])


def test_codes_are_rounded_to_even_and_limited() -> None:
    buffer = ActivationBuffer(1024)
    x = np.array([0.5, 1.5, -2.5, 126.5, 127.5, 1000, -np.inf, 1e-40], dtype=np.float32)
    buffer.bits[:8] = x.view(np.uint32)
    fields = fields_of(cache=Cache.VALUES, a=0, b=8, count=8, segments=1, row_stride=1)
    assert appended(buffer, fields, 1).data[:8].view(np.int8).tolist() == [0, 2, -2, 126, 127, 127, -127, 0]
