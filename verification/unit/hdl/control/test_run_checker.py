import random

import pytest

from tailrace.hdl.control.run_checker import RunChecker
from tailrace.spec.commands import check_queue, reach
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.isa import MAX_COMMANDS
from tailrace.spec.registers import PAGE_BYTES

from ..simulate import simulate


@pytest.mark.parametrize(
    "config",
    [
        CONFIGS["base"],
        Config("few addresses", 128, address_width=32),
        Config("all addresses", 128, address_width=64),
        Config("two channels", 128, address_width=32, channels=2),
        Config("four channels", 128, address_width=64, channels=4),
    ],
    ids=lambda c: c.name,
)
@pytest.mark.parametrize("memory_bytes", [None, PAGE_BYTES, 1 << 25, (1 << 31) + PAGE_BYTES, 1 << 32])
def test_it_finds_what_the_contract_says(config: Config, memory_bytes: int | None, seed: int):
    """Around every bound, and anywhere; the pages are those from BASE to the end of what may be used."""
    if config.channels > 1 and memory_bytes:
        pytest.skip("for builds of one channel")
    dut, chance = RunChecker(config, memory_bytes), random.Random(seed)
    end, row = 1 << config.address_width, PAGE_BYTES * config.channels
    near = [
        value + step
        for value in (0, PAGE_BYTES, 1 << 31, memory_bytes or 0, end // 2, end - end // 4, end - PAGE_BYTES, end)
        for step in (-row, -PAGE_BYTES, -1, 0, 1, 64, PAGE_BYTES, row)
    ]
    edges = [value for value in near if 0 <= value < 1 << 64]
    lengths = [0, 1, MAX_COMMANDS, MAX_COMMANDS + 1, MAX_COMMANDS + 2, 1 << 31, (1 << 32) - 1]
    cases = [(address, length, 0, 0) for address in edges for length in lengths]
    cases += [(0, 1, base, limit) for base in edges for limit in edges]
    for _ in range(300):
        base = chance.randrange(end) // PAGE_BYTES * PAGE_BYTES
        cases.append(
            (64 * chance.randrange(end // 64), 1, base, chance.choice((0, chance.randrange(end) // PAGE_BYTES * PAGE_BYTES)))
        )
    # Every other channel's base is that of the first one, or anywhere.
    others = [
        [chance.choice((base, base, chance.choice(edges))) for _ in range(config.channels - 1)] for _, _, base, _ in cases
    ]
    seen = set()

    async def testbench(ctx):
        for (address, length, base, limit), other_bases in zip(cases, others, strict=True):
            for name, value in (("address", address), ("length", length), ("limit", limit)):
                ctx.set(getattr(dut, name), value)
            bases = (base, *other_bases)
            for channel, value in enumerate(bases):
                ctx.set(dut.base[channel], value)
            await ctx.tick().repeat(RunChecker.latency)
            code = check_queue(address, length, config, base, limit, memory_bytes, other_bases)
            seen.add(code)
            assert ctx.get(dut.code) == code, f"{address:#x} {length} {bases} {limit:#x}"
            if code is ErrorCode.NONE:
                assert [ctx.get(page) * PAGE_BYTES for page in dut.first_page] == list(bases)
                assert (ctx.get(dut.last_page) + 1) * row == reach(base, limit, config, memory_bytes)

    simulate(dut, testbench)
    assert seen == {ErrorCode.NONE, ErrorCode.OUT_OF_RANGE, ErrorCode.MISALIGNED}


@pytest.mark.parametrize("memory_bytes", [0, -4096, 4097, (1 << 40) + 4096])
def test_memory_is_whole_pages(memory_bytes: int):
    with pytest.raises(ValueError) as error:
        RunChecker(CONFIGS["base"], memory_bytes)
    assert str(error.value) == f"memory_bytes must be a multiple of 4096, at most 2**40, not {memory_bytes}"
