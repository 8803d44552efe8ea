"""Weight formats and the layout of a weight stream.

A weight stream is the order in which the device reads one matrix. It holds the integer codes, scales, minima and
upper code bits of the GGUF file, rearranged and never changed. Per 128 bits of bus there is one *lane*, and each lane
has a stream of its own: bus beat ``t`` carries beat ``t`` of every lane, lane ``i`` in bytes ``16*i`` to ``16*i + 15``.
Lane ``i`` of ``lanes`` holds the rows ``i``, ``i + lanes``, ``i + 2*lanes``, ... one after the other, without a gap
between rows. Rows that are missing in the last group of rows are blocks of zero bytes.

A lane's stream is a sequence of blocks of 32 elements. Before block ``n`` (counted from the start of the stream,
through all rows) come, if they are due:

1. when ``n % blocks_per_scale_beat == 0``, a *scale beat*: for each of the next ``blocks_per_scale_beat`` blocks the
   float16 scale, or for formats with a minimum the float16 scale followed by the float16 minimum;
2. when the format has upper bits and ``n % blocks_per_high_beat == 0``, a *high beat*: for each of the next
   ``blocks_per_high_beat`` blocks the bytes that hold bit 4 of the codes; bit ``j`` (little endian) belongs to element
   ``j``;

and then one *nibble beat* (4- and 5-bit codes), or two (8-bit codes: first the upper nibbles, which are signed, then the
lower ones, which are not). Byte ``j`` of a nibble beat holds the nibble of element ``j`` in its lower half and of element
``j + 16`` in its upper half, as GGUF's 4-bit formats do. Side beats at the end of the stream are padded with zeros.

Sources: the block formats are those of ggml (``ggml-common.h``, ``block_q4_0`` and following).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

#: Elements in a block.
BLOCK = 32
#: Bytes of one lane's share of a beat.
LANE_BYTES = 16


class BeatKind(Enum):
    """What one beat of a lane's stream carries."""

    SCALE = "scale"
    HIGH = "high"
    NIBBLE = "nibble"


@dataclass(frozen=True)
class Format:
    """A weight format that the device reads as it is.

    Attributes
    ----------
    name : str
        Name as ggml writes it.
    number : int
        Value of a command's ``format`` field; bit of the ``FORMATS`` register.
    ggml_type : int
        Tensor type number in a GGUF file.
    block_bytes : int
        Bytes of a block of 32 elements, in the file and (alignment apart) in the stream.
    nibble_beats : int
        Nibble beats of a block: 1, or 2 for 8-bit codes.
    high_bits : int
        Bits of a code that travel in high beats: 0 or 1.
    code_offset : int
        What is subtracted from the stored code: ``w = scale * (code - code_offset) + minimum``.
    has_minimum : bool
        Whether a minimum follows each scale.
    """

    name: str
    number: int
    ggml_type: int
    block_bytes: int
    nibble_beats: int
    high_bits: int
    code_offset: int
    has_minimum: bool

    @property
    def blocks_per_scale_beat(self) -> int:
        """Blocks served by one scale beat: 8, or 4 with minima."""
        return LANE_BYTES // (4 if self.has_minimum else 2)

    @property
    def blocks_per_high_beat(self) -> int:
        """Blocks served by one high beat; 0 if the format has no high beats."""
        return LANE_BYTES * 8 // (BLOCK * self.high_bits) if self.high_bits else 0

    @property
    def bits_per_weight(self) -> float:
        """Bits that one weight takes in file and stream, scale and minimum included."""
        return self.block_bytes * 8 / BLOCK

    def schedule(self, blocks: int) -> Iterator[tuple[BeatKind, int]]:
        """Yield the beats of one lane's stream in order.

        Parameters
        ----------
        blocks : int
            Blocks in the lane's stream, all rows together.

        Yields
        ------
        tuple of (BeatKind, int)
            The kind of the beat, and the index of the (first) block that it belongs to.
        """
        for block in range(blocks):
            if block % self.blocks_per_scale_beat == 0:
                yield BeatKind.SCALE, block
            if self.high_bits and block % self.blocks_per_high_beat == 0:
                yield BeatKind.HIGH, block
            for _ in range(self.nibble_beats):
                yield BeatKind.NIBBLE, block

    def stream_beats(self, blocks: int) -> int:
        """Beats of one lane's stream that holds `blocks` blocks."""
        beats = blocks * self.nibble_beats + -(-blocks // self.blocks_per_scale_beat)
        if self.high_bits:
            beats += -(-blocks // self.blocks_per_high_beat)
        return beats

    def matrix_beats(self, rows: int, blocks: int, lanes: int) -> int:
        """Bus beats of a matrix of `rows` rows of `blocks` blocks on a bus of `lanes` lanes."""
        return self.stream_beats(-(-rows // lanes) * blocks)

    def matrix_bytes(self, rows: int, blocks: int, lanes: int) -> int:
        """Bytes of that matrix in device memory."""
        return self.matrix_beats(rows, blocks, lanes) * lanes * LANE_BYTES


FORMATS: tuple[Format, ...] = (
    Format("Q8_0", 0, 8, 34, nibble_beats=2, high_bits=0, code_offset=0, has_minimum=False),
    Format("Q4_0", 1, 2, 18, nibble_beats=1, high_bits=0, code_offset=8, has_minimum=False),
    Format("Q4_1", 2, 3, 20, nibble_beats=1, high_bits=0, code_offset=0, has_minimum=True),
    Format("Q5_0", 3, 6, 22, nibble_beats=1, high_bits=1, code_offset=16, has_minimum=False),
)

BY_NAME: dict[str, Format] = {f.name: f for f in FORMATS}
BY_NUMBER: dict[int, Format] = {f.number: f for f in FORMATS}
BY_GGML_TYPE: dict[int, Format] = {f.ggml_type: f for f in FORMATS}
#: Value of the ``FORMATS`` register.
FORMAT_MASK: int = sum(1 << f.number for f in FORMATS)
