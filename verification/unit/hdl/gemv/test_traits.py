from dataclasses import replace
from typing import Any

import pytest
from amaranth.hdl import Module, Signal

from tailrace.hdl.gemv import traits
from tailrace.hdl.gemv.traits import SCALE_KINDS, SIDE_KINDS, decode_traits, traits_layout
from tailrace.spec.formats import BY_NAME, BY_NUMBER, CODEBOOKS

from ..simulate import simulate
from . import bench


def test_every_number() -> None:
    m = Module()
    number, found = Signal(8), Signal(traits_layout)
    decode_traits(m, number, found)
    m.d.sync += Signal().eq(0)

    async def drive(ctx: bench.Context) -> None:
        for n in range(256):
            ctx.set(number, n)
            if n not in BY_NUMBER:
                assert ctx.get(found.as_value()) == 0
                continue
            f = BY_NUMBER[n]
            sides = [kind for n, kind in enumerate(SIDE_KINDS) if ctx.get(found.sides) >> n & 1]
            assert tuple((kind, ctx.get(found.last[SIDE_KINDS.index(kind)]) + 1) for kind in sides) == f.side_beats()
            assert ctx.get(found.two_beats) == f.nibble_beats - 1
            assert ctx.get(found.more_planes) == f.planes - 1
            assert SCALE_KINDS[ctx.get(found.lane.scale_kind)] is f.scale_kind
            assert ctx.get(found.lane.has_minimum) == f.has_minimum
            assert ctx.get(found.lane.subscales) == bool(f.subscale_blocks)
            assert ctx.get(found.lane.centred) == bool(f.code_offset)
            assert CODEBOOKS[ctx.get(found.lane.codebook)] == f.codebook
            assert ctx.get(found.lane.high_bits) == f.high_bits

    simulate(m, drive)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("Q6_K", {"high_bits": 3}),
        ("Q6_K", {"code_offset": 0}),
        ("Q5_0", {"code_offset": 8}),
        ("Q4_0", {"nibble_beats": 3}),
        ("Q8_0", {"high_bits": 1}),
        ("Q8_0", {"code_offset": 128}),
    ],
)
def test_format_beyond_the_engine_is_refused(name: str, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    beyond = replace(BY_NAME[name], **change)
    monkeypatch.setattr(traits, "FORMATS", (beyond,))
    with pytest.raises(ValueError) as error:
        decode_traits(Module(), Signal(8), Signal(traits_layout))
    assert str(error.value) == (
        "the engine reads codes of two nibbles, or of one nibble and at most two upper bits, and an offset of half their range"
        f" or, below 6 bits, none; not {beyond}"
    )
