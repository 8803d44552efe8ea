"""What decode steps are made of, as short programs: close to what float64 computes."""

import numpy as np
import pytest

from tailrace.golden.device import GoldenDevice
from tailrace.spec.commands import encode, float_bits
from tailrace.spec.config import Config
from tailrace.spec.floats import Function
from tailrace.spec.formats import I8, Q8_0
from tailrace.spec.isa import ADDRESS_UNIT, Cache, Combine, Multiplier, Opcode, Reduce, Target
from tailrace.spec.kv_cache import CODE_STEP, key_bytes, quantise_keys, quantise_values, value_bytes, value_row_bytes
from verification.unit.golden.image import Image

ONE = float_bits(1)
BASE = {"p": ONE, "m": ONE, "segments": 1}


@pytest.fixture
def image() -> Image:
    return Image(Config("test", 256, 4, vector_blocks=64, buffer_entries=4096), 1 << 20)


def work(**fields: int) -> bytes:
    return encode(Opcode.ELEMENTWISE, **{**BASE, **fields})


def put(image: Image, d: int, values: np.ndarray) -> bytes:
    """A command that puts values in the buffer; rows of a matrix to places a multiple of 4 apart."""
    rows = values.reshape(-1, values.shape[-1]).astype(np.float32)
    padded = np.zeros((len(rows), -(-rows.shape[1] // 16) * 16), dtype=np.float32)
    padded[:, : rows.shape[1]] = rows
    source = image.place(padded.tobytes()) // ADDRESS_UNIT
    stride = -(-rows.shape[1] // 4) * 4
    return work(a_stream=1, source=source, target=Target.BUFFER, d=d, d_stride=stride, count=rows.shape[1], segments=len(rows))


def result(device: GoldenDevice, first: int, count: int) -> np.ndarray:
    return device.activations[first : first + count].astype(np.float64)


def test_rms_norm(image: Image, rng: np.random.Generator) -> None:
    x, gains = rng.standard_normal(576) * 3, rng.standard_normal(576)
    stream = image.place(gains.astype(np.float32).tobytes()) // ADDRESS_UNIT
    program = [
        put(image, 0, x),
        work(a=0, count=576, reduce=Reduce.SUM_OF_SQUARES, r=600),
        work(
            a=600,
            count=1,
            p=float_bits(1 / 576),
            q=float_bits(1e-5),
            function=Function.RECIPROCAL_SQUARE_ROOT,
            target=Target.BUFFER,
            d=604,
        ),
        work(a=0, count=576, p=604, load=1, multiplier=Multiplier.STREAM, source=stream, target=Target.BUFFER, d=1000),
    ]
    assert image.run(*program)[0] == 0
    expected = x / np.sqrt((x**2).mean() + 1e-5) * gains
    assert np.abs(result(image.device, 1000, 576) - expected).max() < 1e-6 * np.abs(expected).max()


def test_layer_norm(image: Image, rng: np.random.Generator) -> None:
    x = rng.standard_normal(300) * 3 + 5
    program = [
        put(image, 0, x),
        work(a=0, count=300, reduce=Reduce.SUM, r=400, m=float_bits(1 / 300), negate=1),
        work(a=0, count=300, q=400, load=2, target=Target.BUFFER, d=0, reduce=Reduce.SUM_OF_SQUARES, r=404),
        work(
            a=404,
            count=1,
            p=float_bits(1 / 300),
            q=float_bits(1e-5),
            function=Function.RECIPROCAL_SQUARE_ROOT,
            target=Target.BUFFER,
            d=408,
        ),
        work(a=0, count=300, p=408, load=1, target=Target.BUFFER, d=1000),
    ]
    assert image.run(*program)[0] == 0
    expected = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    assert np.abs(result(image.device, 1000, 300) - expected).max() < 2e-6 * np.abs(expected).max()


def test_softmax_of_several_heads(image: Image, rng: np.random.Generator) -> None:
    scores = rng.standard_normal((3, 101)) * 6
    program = [
        put(image, 0, scores),
        work(a=0, a_stride=104, count=101, segments=3, reduce=Reduce.MAXIMUM, negate=1, r=900),
        work(
            a=0,
            a_stride=104,
            count=101,
            segments=3,
            q=900,
            load=2,
            advance=2,
            function=Function.EXP,
            reduce=Reduce.SUM,
            r=904,
            target=Target.BUFFER,
            d=0,
            d_stride=104,
        ),
        work(a=904, count=3, function=Function.RECIPROCAL, target=Target.BUFFER, d=908),
        work(a=0, a_stride=104, count=101, segments=3, p=908, load=1, advance=1, target=Target.BUFFER, d=1000, d_stride=104),
    ]
    assert image.run(*program)[0] == 0
    expected = np.exp(scores - scores.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    for head in range(3):
        assert np.abs(result(image.device, 1000 + 104 * head, 101) - expected[head]).max() < 1e-6


def test_gated_silu(image: Image, rng: np.random.Generator) -> None:
    gate, up = rng.standard_normal(400) * 4, rng.standard_normal(400)
    program = [
        put(image, 0, gate),
        put(image, 400, up),
        work(a=0, count=400, function=Function.SIGMOID, multiplier=Multiplier.A, target=Target.BUFFER, d=0),
        work(a=0, b=400, count=400, combine=Combine.PRODUCT, target=Target.BUFFER, d=1000),
    ]
    assert image.run(*program)[0] == 0
    expected = gate / (1 + np.exp(-gate)) * up
    assert np.abs(result(image.device, 1000, 400) - expected).max() < 1e-6 * np.abs(expected).max()


def test_rotation(image: Image, rng: np.random.Generator) -> None:
    x, angles = rng.standard_normal((3, 64)), rng.uniform(0, 6, 32)
    program = [
        put(image, 0, x),
        put(image, 400, np.concatenate((np.cos(angles), np.sin(angles)))),
        encode(Opcode.ROTATE, a=0, d=0, table=400, count=32, segments=3, a_stride=64, d_stride=64),
    ]
    assert image.run(*program)[0] == 0
    turned = (x[:, :32] + 1j * x[:, 32:]) * np.exp(1j * angles)
    expected = np.concatenate((turned.real, turned.imag), axis=1)
    assert np.abs(result(image.device, 0, 192) - expected.reshape(-1)).max() < 1e-6


@pytest.mark.parametrize(("tokens", "size"), [(1, 64), (21, 64), (64, 40)])
def test_attention(image: Image, rng: np.random.Generator, tokens: int, size: int) -> None:
    """Keys and values are appended by the device; four query heads share them. The reference has the same quantised cache."""
    heads, capacity, lanes = 4, 64, image.config.lanes
    keys, values = (rng.standard_normal((tokens, size)).astype(np.float32) for _ in range(2))
    queries = rng.standard_normal((heads, size)) / np.sqrt(size)
    blocks, row = -(-size // 32), value_row_bytes(capacity, lanes) // ADDRESS_UNIT
    at_keys, at_values, at_scales = (
        image.reserve(n) // ADDRESS_UNIT
        for n in (key_bytes(size, capacity, lanes), value_bytes(size, capacity, lanes), 4 * capacity)
    )
    step = float_bits(float(CODE_STEP))
    for token in range(tokens):
        store_keys = [
            put(image, 0, keys[token]),
            # One scale for each block of 32 elements: the last block may be shorter.
            *(work(a=32 * n, count=min(32, size - 32 * n), reduce=Reduce.ABSOLUTE_MAXIMUM, r=300 + n) for n in range(blocks)),
            work(a=300, count=blocks, p=step, function=Function.HALF, target=Target.BUFFER, d=304),
            work(a=304, count=blocks, function=Function.RECIPROCAL, target=Target.BUFFER, d=308),
            *(
                work(a=32 * n, count=min(32, size - 32 * n), p=308 + n, load=1, target=Target.BUFFER, d=32 * n)
                for n in range(blocks)
            ),
            encode(Opcode.APPEND, cache=Cache.KEYS, a=0, b=304, destination=at_keys, count=size, segments=1, token=token),
        ]
        store_values = [
            put(image, 0, values[token]),
            work(a=0, count=size, reduce=Reduce.ABSOLUTE_MAXIMUM, r=300),
            work(a=300, count=1, p=step, target=Target.BUFFER, d=304),
            work(a=304, count=1, function=Function.RECIPROCAL, target=Target.BUFFER, d=308),
            work(a=0, count=size, p=308, load=1, target=Target.BUFFER, d=0),
            encode(
                Opcode.APPEND,
                cache=Cache.VALUES,
                a=0,
                b=304,
                destination=at_values,
                count=size,
                segments=1,
                token=token,
                row_stride=row,
                scales=at_scales,
            ),
        ]
        assert image.run(*store_keys, *store_values)[0] == 0
    stride = -(-tokens // 4) * 4
    program = [
        put(image, 0, queries),
        work(a=0, a_stride=-(-size // 4) * 4, count=size, segments=heads, target=Target.SLOT, next_slot=1),
        encode(Opcode.GEMV, slots=heads, rows=tokens, blocks=blocks, source=at_keys, offset=1000, slot_stride=stride),
        work(a=1000, a_stride=stride, count=tokens, segments=heads, reduce=Reduce.MAXIMUM, negate=1, r=900),
    ]
    for head in range(heads):
        # The scales of values are the same for all heads: one stream for each.
        program.append(
            work(
                a=1000 + head * stride,
                count=tokens,
                q=900 + head,
                load=2,
                function=Function.EXP,
                reduce=Reduce.SUM,
                reduce_u=1,
                r=904 + head,
                multiplier=Multiplier.STREAM,
                source=at_scales,
                target=Target.SLOT,
                slot=head,
                set=1,
                duplicate=1,
            )
        )
    program += [
        encode(
            Opcode.GEMV,
            format=I8.number,
            slots=heads,
            rows=size,
            blocks=-(-tokens // 16),
            set=1,
            source=at_values,
            stride=row,
            offset=2000,
            slot_stride=64,
        ),
        work(a=904, count=heads, function=Function.RECIPROCAL, target=Target.BUFFER, d=908),
        work(
            a=2000, a_stride=64, count=size, segments=heads, p=908, load=1, advance=1, target=Target.BUFFER, d=3000, d_stride=64
        ),
    ]
    assert image.run(*program)[0] == 0

    scales, codes = quantise_keys(keys)
    k = (codes * scales[..., None].astype(np.float64)).reshape(tokens, -1)[:, :size]
    scales, codes = quantise_values(values)
    v = codes * scales[:, None].astype(np.float64)
    weights = np.exp(queries @ k.T - (queries @ k.T).max(axis=1, keepdims=True))
    expected = weights / weights.sum(axis=1, keepdims=True) @ v
    for head in range(heads):
        difference = np.abs(result(image.device, 3000 + 64 * head, size) - expected[head]).max()
        assert difference < 1e-4 * np.abs(expected).max()
    assert image.counters()["WEIGHT_BEATS"] == Q8_0.matrix_beats(tokens, blocks, lanes) + I8.matrix_beats(
        size, -(-tokens // 16), lanes
    )
