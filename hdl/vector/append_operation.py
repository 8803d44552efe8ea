"""What `APPEND` does, step by step."""

from amaranth.lib import data, enum

from tailrace.spec.config import Config


class Step(enum.Enum, shape=3):
    """One cycle's work."""

    #: Keys: round elements.
    GATHER = 0
    #: Keys: write the upper nibbles of the block that was gathered.
    UPPER = 1
    #: Keys: write its lower nibbles.
    LOWER = 2
    #: Keys: write its scale, as float16.
    KEY_SCALE = 3
    #: Values: round elements, and write those of all lanes with the last of them.
    VALUES = 4
    #: Values: write the scale of the head.
    VALUE_SCALE = 5


def part_elements(config: Config) -> int:
    """Elements that a step takes: a word of the buffer, or as many of it as there are lanes."""
    return min(config.word_elements, config.lanes)


def append_operation_layout(config: Config) -> data.StructLayout:
    """A step with a word of the buffer.

    A word of the buffer has one part or, if it is wider than there are lanes, several. `part`: which one is taken. `mask`:
    which of its elements there are. `element`: which one of the whole word is the scale. `writes`: a beat is complete.
    `head_ends`: it is the head's last step. `final`: it is the command's.
    """
    elements, part = config.word_elements, part_elements(config)
    return data.StructLayout(
        {
            "step": Step,
            "part": range(elements // part),
            "mask": part,
            "element": range(elements),
            "writes": 1,
            "head_ends": 1,
            "final": 1,
        }
    )
