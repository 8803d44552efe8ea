"""What `APPEND` does, step by step."""

from amaranth.lib import data, enum

from tailrace.spec.config import Config


class Step(enum.Enum, shape=3):
    """One cycle's work."""

    #: Keys: round a word of elements.
    GATHER = 0
    #: Keys: write the upper nibbles of the block that was gathered.
    UPPER = 1
    #: Keys: write its lower nibbles.
    LOWER = 2
    #: Keys: write its scale, as float16.
    KEY_SCALE = 3
    #: Values: round and write a word of elements.
    VALUES = 4
    #: Values: write the scale of the head.
    VALUE_SCALE = 5


def append_operation_layout(config: Config) -> data.StructLayout:
    """A step with a word of the buffer.

    `mask`: which of the word's elements there are. `element`: which one is the scale. `head_ends`: it is the head's last step.
    `final`: it is the command's.
    """
    return data.StructLayout(
        {"step": Step, "mask": config.lanes, "element": range(max(config.lanes, 2)), "head_ends": 1, "final": 1}
    )
