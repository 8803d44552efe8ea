from dataclasses import replace

import pytest
from amaranth.hdl import Module, Signal

from tailrace.hdl.gemv import traits
from tailrace.hdl.gemv.traits import OFFSETS, decode_traits, traits_layout
from tailrace.spec.formats import BY_NUMBER, FORMATS

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
            assert ctx.get(found.two_beats) == f.nibble_beats - 1
            assert ctx.get(found.has_high) == f.high_bits
            assert ctx.get(found.has_minimum) == f.has_minimum
            assert OFFSETS[ctx.get(found.offset)] == f.code_offset
            assert ctx.get(found.scale_blocks) == f.blocks_per_scale_beat - 1
            assert not f.high_bits or ctx.get(found.high_blocks) == f.blocks_per_high_beat - 1

    simulate(m, drive)


@pytest.mark.parametrize("change", [{"high_bits": 2}, {"nibble_beats": 3}])
def test_format_beyond_the_engine_is_refused(change: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    beyond = replace(FORMATS[0], **change)  # type: ignore[arg-type]
    monkeypatch.setattr(traits, "FORMATS", (beyond,))
    with pytest.raises(ValueError, match="one or two nibbles and at most one upper bit") as error:
        decode_traits(Module(), Signal(8), Signal(traits_layout))
    assert str(error.value) == f"the engine reads one or two nibbles and at most one upper bit of a code, not {beyond}"
