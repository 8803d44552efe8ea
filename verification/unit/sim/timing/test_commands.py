"""Commands with registers added, against the contract's own decoding."""

import numpy as np

from tailrace.sim.timing.commands import Command
from tailrace.spec.commands import decode, resolve
from tailrace.spec.config import CONFIGS
from tailrace.spec.isa import REGISTERS, Opcode
from verification.programs import random_program


def test_fields_are_those_of_the_contract(rng: np.random.Generator) -> None:
    seen = set()
    for _ in range(20):
        for code in random_program(rng, CONFIGS["base"], 20).commands:
            command = Command(code)
            registers = [0, *rng.integers(0, 1 << 32, REGISTERS - 1).tolist()]
            expected = decode(resolve(code, registers))
            assert expected is not None
            assert command.opcode is expected[0]
            fields = command.fields(registers)
            # Those of the modifiers stay, which nobody looks at any more.
            names = [name for name in fields if not name.startswith("modifier_")]
            assert {name: fields[name] for name in names} == {name: expected[1][name] for name in names}
            assert (command.target is not None) == (command.opcode is Opcode.LOOP)
            seen.add(bool(command.modifiers))
    assert seen == {False, True}
