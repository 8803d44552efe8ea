from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize

from tailrace.hdl.gemv.side_band import SideBand
from tailrace.hdl.gemv.traits import SCALE_KINDS
from tailrace.spec.formats import BY_NAME, FORMATS, BeatKind, Format, ScaleKind

from ..simulate import simulate
from . import bench
from .bench import Matrix


def expected(matrix: Matrix, row: int, block: int) -> dict[str, Any]:
    """What the side band says of a block, apart from upper bits."""
    format = matrix.format
    at = row, block
    if format.scale_kind is ScaleKind.UNIT:
        return {"scale": 0x3C00, "exponent_only": 0, "subscales": [1, 16]}
    if format.scale_kind is ScaleKind.FLOAT8:
        scale, second = int(matrix.scales[at]) << 7, int(matrix.minima[at]) << 7
        return {"scale": scale, "exponent_only": 0, "subscales": [1, 0], "minimum": second, "subminima": [1, 0]}
    found: dict[str, Any] = {
        "exponent_only": int(format.scale_kind is ScaleKind.EXPONENT),
        "subscales": matrix.subscales[at].tolist(),
        "scale": int(matrix.scales[at]),
    }
    if format.has_minimum:
        negative = format.scale_kind is ScaleKind.SUPERBLOCK
        found |= {"subminima": matrix.subminima[at].tolist(), "minimum": int(matrix.minima[at]) ^ 0x8000 * negative}
    return found


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_blocks_pass_by(format: Format, rng: np.random.Generator) -> None:
    dut = SideBand()
    matrix = bench.random_matrix(rng, format, 5, 16 if format.row_blocks > 1 else 9)
    traits = {
        "scale_kind": SCALE_KINDS.index(format.scale_kind),
        "has_minimum": format.has_minimum,
        "subscales": format.subscale_blocks > 0,
        "high_bits": format.high_bits,
    }

    async def drive(ctx: bench.Context) -> None:
        ctx.set(dut.traits, traits)
        # Whose scales come next, and whose are there: those stay until there is another nibble beat.
        coming: tuple[int, int, bool] | None = None
        told: tuple[int, int, bool] | None = None
        beats = list(bench.lane_stream(matrix, 0, 1, rng))
        schedule = list(format.schedule(matrix.rows * matrix.blocks))
        for number, ((kind, n), beat) in enumerate(zip(schedule, beats, strict=True)):
            second = number > 0 and schedule[number - 1] == (kind, n)
            upper = format.nibble_beats == 2 and not second
            # Cycles without a beat.
            for _ in range(int(rng.integers(2))):
                ctx.set(dut.data, int(rng.integers(1 << 62)))
                await ctx.tick()
                told = coming
            ctx.set(dut.data, int.from_bytes(beat, "little"))
            nibble = kind is BeatKind.NIBBLE
            ctx.set(dut.upper, nibble and upper)
            if nibble and format.high_bits:
                check_high(ctx, *divmod(n, matrix.stream_blocks))
            ctx.set(dut.load_scale, kind is BeatKind.SCALE)
            ctx.set(dut.load_subscale, kind is BeatKind.SUBSCALE)
            ctx.set(dut.load_high, kind is BeatKind.HIGH)
            ctx.set(dut.nibble, nibble)
            ctx.set(dut.advance, nibble and not upper)
            ctx.set(dut.superblock, n % 8 == 7)
            await ctx.tick()
            for port in (dut.load_scale, dut.load_subscale, dut.load_high, dut.nibble, dut.advance):
                ctx.set(port, 0)
            told = coming
            if told:
                check_scales(ctx, *told)
            if nibble:
                coming = *divmod(n, matrix.stream_blocks), upper

    def check_scales(ctx: bench.Context, row: int, block: int, upper: bool) -> None:
        found = dut.scales
        wanted = expected(matrix, row, block)
        if upper:
            wanted["subscales"] = [16, 16]
        scale = ctx.get(found.scale)
        seen: dict[str, Any] = {}
        for name in wanted:
            port = getattr(found, name)
            seen[name] = [ctx.get(port[half]) for half in range(2)] if name.startswith("sub") else ctx.get(port)
        seen["scale"] = scale & 0xFF if wanted["exponent_only"] else scale
        assert seen == wanted, (row, block)

    def check_high(ctx: bench.Context, row: int, block: int) -> None:
        high = ctx.get(dut.high) & (1 << 32 * format.high_bits) - 1
        assert high == sum((int(c) >> 4) << format.high_bits * j for j, c in enumerate(matrix.codes[row, block]))

    simulate(dut, drive)


def test_subscales_are_packed_as_in_ggml(rng: np.random.Generator) -> None:
    """What this bench packs, the gguf package unpacks to the same weights."""
    format = BY_NAME["Q4_K"]
    matrix = bench.random_matrix(rng, format, 3, 16)
    matrix.scales &= 0xBFFF
    matrix.minima &= 0xBFFF
    file = b""
    for row in range(matrix.rows):
        scale_beats = [b for (kind, _), b in zip(format.schedule(48), bench.lane_stream(matrix, 0, 1), strict=True)
                       if kind is BeatKind.SCALE]  # fmt: skip
        for superblock in range(2):
            file += scale_beats[2 * row + superblock]
            for low in range(8 * superblock, 8 * superblock + 8, 2):
                file += bytes(int(a) | int(b) << 4 for a, b in zip(*matrix.codes[row, low : low + 2], strict=True))
    blocks = np.frombuffer(file, dtype=np.uint8).reshape(matrix.rows, 2 * format.file_bytes)
    weights = dequantize(blocks, gguf.GGMLQuantizationType.Q4_K).reshape(matrix.rows, matrix.blocks, 32)
    for row, block in np.ndindex(matrix.rows, matrix.blocks):
        d, dmin = (
            np.ldexp(float(s), p - 24)
            for s, p in (bench.float16_parts(int(x[row, block])) for x in (matrix.scales, matrix.minima))
        )
        own = d * matrix.subscales[row, block, 0] * matrix.codes[row, block] - dmin * matrix.subminima[row, block, 0]
        assert np.allclose(weights[row, block], own, rtol=1e-6, atol=1e-6)
