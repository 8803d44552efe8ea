"""Random programs are valid, safe, as the seed says, and use every command."""

from collections import Counter

import numpy as np
import pytest

from tailrace.golden.machine import Machine
from tailrace.spec.commands import decode
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import ErrorCode
from tailrace.spec.isa import Opcode
from verification.program_maker import DESTINATION, trace
from verification.programs import random_program
from verification.races.overlap import races


def test_every_command_is_drawn_and_no_program_races(rng: np.random.Generator) -> None:
    executed: Counter[Opcode] = Counter()
    pending = []
    for config in CONFIGS.values():
        for _ in range(8):
            program = random_program(rng, config, 12)
            run = [command for _, command in trace(program, config)]
            assert races(run, config) == [], str(program)
            decoded = [one for command in run if (one := decode(command))]
            executed.update(opcode for opcode, _ in decoded)
            pending += [fields["pending"] for _, fields in decoded if "pending" in fields]
    assert executed.keys() == set(Opcode)
    assert {0, 1, 15} <= set(pending)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_seed_gives_a_program(name: str) -> None:
    first, second, other = (random_program(np.random.default_rng(seed), CONFIGS[name], 10) for seed in (1, 1, 2))
    assert str(first) == str(second)
    assert np.array_equal(first.memory, second.memory)
    assert str(first) != str(other)
    assert first.summary.startswith(f"{len(first.commands)} commands at 0x")
    assert "\n" not in first.summary


def test_what_is_left_in_memory_shows_the_state(rng: np.random.Generator) -> None:
    """The same program from other contents of slots and buffer leaves the same memory, as it starts by writing what it uses."""
    config = CONFIGS["tiny"]
    machine = Machine(config, random_program(rng, config, 1).memory)
    for _ in range(6):
        program = random_program(rng, config, 10)
        results = []
        for one in (machine, Machine(config, program.memory.copy())):
            one.write(0, program.memory)
            assert one.run(program.queue, len(program.commands), program.arguments).code is ErrorCode.NONE
            results.append(one.memory.copy())
        assert np.array_equal(*results), str(program)
        assert np.array_equal(results[0][:DESTINATION], program.memory[:DESTINATION])
        assert not np.array_equal(results[0], program.memory)
