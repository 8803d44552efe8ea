"""What a simulation records for a timeline."""

from typing import Any

from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import Out


class CycleUse(enum.Enum, shape=3):
    """What the read port did in a cycle, as `Counters` tells it."""

    COMMAND_BEAT = 0
    VECTOR_BEAT = 1
    WEIGHT_BEAT = 2
    MEMORY = 3
    BUFFER = 4
    FENCE = 5
    DRAIN = 6
    COMMAND = 7


class ProbeSignature(wiring.Signature):
    """Facts of a cycle, seen from the core. Costs nothing where nobody looks at it.

    Members
    -------
    running : 1
    fetch, matrix_start, matrix_finish, vector_start, vector_finish : 1
        The sequencer is done with a command; a unit has taken one, or finished one.
    fetch_index, matrix_index, vector_index : 16
        Index of that command (for the starts).
    use : CycleUse
    level : 16
        Beats in the read FIFO.
    """

    def __init__(self) -> None:
        flags = ("running", "fetch", "matrix_start", "matrix_finish", "vector_start", "vector_finish")
        super().__init__(
            {
                **{name: Out(1) for name in flags},
                "fetch_index": Out(16),
                "matrix_index": Out(16),
                "vector_index": Out(16),
                "use": Out(CycleUse),
                "level": Out(16),
            }
        )


def probe_ports() -> dict[str, Any]:
    """The probe as flat output ports."""
    members = ProbeSignature().members
    return {f"probe_{name}": Out(3 if name == "use" else member.shape) for name, member in members.items()}


def unit_probe_layout() -> data.StructLayout:
    """What the dispatcher tells the probe."""
    return data.StructLayout(
        {
            "matrix_start": 1,
            "matrix_finish": 1,
            "vector_start": 1,
            "vector_finish": 1,
            "matrix_index": 16,
            "vector_index": 16,
        }
    )
