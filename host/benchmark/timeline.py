"""A timeline of one token at any position, without computing the ones before it."""

from collections.abc import Callable
from pathlib import Path

from tailrace.sim.verilated import VerilatedDevice
from tailrace.spec.config import parse_config

from ..command.trace import write_trace
from ..device.decoder import Decoder
from ..device.driver import Device
from ..gguf.describe import import_model
from ..gguf.file import open_model

#: Memory of the device.
MEMORY = 1 << 30


def trace_token(
    path: str,
    output: Path,
    *,
    position: int,
    config: str,
    memory: str,
    bucket: int,
    on_progress: Callable[[str, float], None] | None = None,
) -> int:
    """Run one decode step and write its timeline.

    The KV cache of the positions before it holds zeros: what a step takes does not depend on numbers.

    Parameters
    ----------
    path : str
        GGUF file.
    output : Path
        Trace to write.
    position : int
        Tokens in the KV cache before this one.
    config, memory : str
        The build, and the timing of its memory.
    bucket : int
        Cycles of a row of the memory port's use.

    Returns
    -------
    int
        Cycles of the token.
    """
    tell = on_progress or (lambda what, part: None)
    imported = import_model(open_model(path), position + 1)
    tell("opening the device", 0.0)
    transport = VerilatedDevice(parse_config(config), MEMORY, memory=memory, timeline=bucket)
    with Device(transport, timeout=600.0) as device:
        decoder = Decoder(device, imported, on_progress=tell)
        decoder.positions[0] = position
        transport.record()
        tell("decoding", 1.0)
        decoder.step(0)
        program = decoder.programs.program_at("logits", position)
        title = f"{imported.model.path.stem}, {config}, {memory} memory, position {position}"
        write_trace(output, transport.timeline(), program.commands, program.sections, title)
        return device.counters.cycles
