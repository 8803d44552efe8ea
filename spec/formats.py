"""Formats of weights and of the KV cache, and the layout of the streams that the device reads.

A stream is the order in which the device reads one matrix. It holds the integer codes, scales, minima and upper code bits of
the GGUF file, rearranged and never changed. Per 128 bits of bus there is one *lane*, and each lane has a stream of its own:
bus beat ``t`` carries beat ``t`` of every lane, lane ``i`` in bytes ``16*i`` to ``16*i + 15``. Lane ``i`` of ``lanes`` holds
the rows ``i``, ``i + lanes``, ``i + 2*lanes``, ... one after the other, without a gap between rows. Rows that are missing in
the last group of rows are blocks of zero bytes.

A weight is ``scale * subscale * (code - code_offset) + minimum * subminimum``; formats without subscales have 1 there. A
lane's stream is a sequence of blocks of 32 elements. Before block ``n`` (counted from the start of the stream, through all
rows) come, if they are due:

1. when ``n % scale_blocks == 0``, a *scale beat* with the scales of the next ``scale_blocks`` blocks:

   - ``FLOAT16``: for each block the float16 scale, followed by the float16 minimum if the format has minima;
   - ``EXPONENT``: for each block one byte ``e`` from 0 to 30; the scale is ``2**(e - 24)``, times ``2**exponent`` of the GEMV
     command, as an exponent of MXFP4 may lie anywhere, but those of one matrix within 31 powers of two;
   - ``SUPERBLOCK``: the first 16 bytes of ggml's ``block_q4_K`` as they are: float16 ``d`` and ``dmin``, and twelve bytes of
   6-bit
     subscales and subminima of 8 blocks. The minimum is ``-dmin``;
   - ``SIGNED_SUPERBLOCK``: for each 8 blocks the first 8 bytes of ggml's ``block_iq4_xs`` as they are: float16 ``d``, and six
     bytes of 6-bit subscales, from each of which 32 is subtracted;
   - ``FLOAT16_SUPERBLOCK``: for each 8 blocks one float16 scale, followed by the float16 minimum if the format has minima;
   - ``FLOAT8``: for each block two bytes, the scale of elements 0 to 15 and that of elements 16 to 31: numbers of FP8 (E4M3)
     without a sign. Times 128, a byte is the bits of a float16, that of the number times 2**-8;
   - ``UNIT``: none, the scale is 1;

2. when the format has subscales in beats of their own and ``n % subscale_blocks == 0``, a *subscale beat*: 16 bytes, two for
   each of the next 8 blocks, one for elements 0 to 15 and one for elements 16 to 31. A byte is a signed subscale, or, if the
   format has minima, a subscale in its lower half and a subminimum in its upper one, neither of them signed;
3. when the format has upper bits and ``n % high_blocks == 0``, a *high beat*: for each of the next ``high_blocks`` blocks
   ``4 * high_bits`` bytes. With one upper bit, bit ``j`` (little endian) is bit 4 of element ``j``'s code. With two, bits
   ``2*j`` and ``2*j + 1`` are bits 4 and 5 of element ``j``'s code;

and then one *nibble beat*, or two for 8-bit codes (first the upper nibbles, which are signed, then the lower ones, which are
not). Byte ``j`` of a nibble beat holds the nibble of element ``j`` in its lower half and of element ``j + 16`` in its upper
half, as GGUF's 4-bit formats do. Side beats at the end of the stream are padded with zeros.

``Q8_0x3`` holds plain numbers, those of F32, F16 and BF16 matrices, as sums of three of Q8_0: each block of the vector meets
three blocks of the stream, one of each *plane*, which follow each other. Each has 7 bits of what the planes before it leave, so
a number is held to within 2**-21 of the largest of its block.

``Q4_S16``, ``Q5_S16`` and ``IQ2_S16`` hold weights of files whose own formats the device does not read, with exactly the same
values: codes of 4 or 5 bits, or one of a codebook, with a subscale for 16 of them and a float16 for 256. ``Q4_SM16`` has a
minimum besides: a subminimum for 16, and a float16 for 256. ``Q4_256`` has no subscales.

``I8`` is the format of cached values (`tailrace.spec.kv_cache`): its block is one beat of 16 signed bytes. Byte ``j`` is
multiplied with elements ``j`` and ``j + 16`` of the vector's block, which must be equal: its lower nibble (unsigned) with the
first, its upper nibble (signed, 4 places up) with the second.

Sources: the block formats are those of ggml (``ggml-common.h``, ``block_q4_0`` and following); MXFP4 is that of the OCP
Microscaling Formats specification 1.0, E4M3 that of the OCP 8-bit Floating Point Specification 1.0.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

#: Elements in a block.
BLOCK = 32
#: Bytes of one lane's share of a beat.
LANE_BYTES = 16


class BeatKind(Enum):
    """What one beat of a lane's stream carries."""

    SCALE = "scale"
    SUBSCALE = "subscale"
    HIGH = "high"
    NIBBLE = "nibble"


class ScaleKind(Enum):
    """What a scale beat holds."""

    FLOAT16 = "float16"
    EXPONENT = "exponent"
    SUPERBLOCK = "superblock"
    SIGNED_SUPERBLOCK = "signed superblock"
    FLOAT16_SUPERBLOCK = "float16 superblock"
    UNIT = "unit"
    FLOAT8 = "float8"


#: Blocks of 32 elements in a superblock of the K-quants.
SUPERBLOCK = 8
#: Value of each code of MXFP4 and NVFP4: FP4 (E2M1), doubled so that it is whole. The scale is halved for it.
FP4_CODEBOOK = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
#: Value of each code of IQ4_NL and IQ4_XS (``kvalues_iq4nl`` of ``ggml-common.h``).
IQ4_CODEBOOK = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
#: The values in the grids of IQ2_XXS, IQ2_XS and IQ2_S (``ggml-common.h``), and 8 times those of IQ1_S and IQ1_M, which are -1,
#: 0 or 1, an eighth more or less; with both signs. Codes 3, 7, 11 and 15 are not used.
IQ2_CODEBOOK = (8, 25, 43, 0, 1, 7, 9, 0, -8, -25, -43, 0, -1, -7, -9, 0)
#: All codebooks; the first is that of formats without one.
CODEBOOKS: tuple[tuple[int, ...], ...] = ((), FP4_CODEBOOK, IQ4_CODEBOOK, IQ2_CODEBOOK)


@dataclass(frozen=True)
class Format:
    """A format that the device reads as it is.

    Attributes
    ----------
    name : str
        Name as ggml writes it.
    number : int
        Value of a command's ``format`` field; bit of the ``FORMATS`` register.
    ggml_type : int
        Tensor type number in a GGUF file; -1 if it is no weight format.
    file_elements, file_bytes : int
        Elements and bytes of a block in the file: 32, 64 for NVFP4, or 256 for the K-quants.
    scale_kind : ScaleKind
    scale_blocks : int
        Blocks of 32 elements served by one scale beat; 0 if there are none.
    nibble_beats : int
        Nibble beats of a block: 1, or 2 for 8-bit codes.
    high_bits : int
        Bits of a code that travel in high beats: 0, 1 or 2.
    code_offset : int
        What is subtracted from the stored code.
    has_minimum : bool
        Whether there are minima.
    subscale_blocks : int
        Blocks served by one subscale beat; 0 if there are none.
    planes : int
        Blocks of the stream that one block of the vector meets: 1, or more if a weight is a sum of several.
    codebook : tuple of int
        The 16 values that codes stand for, one of `CODEBOOKS`; empty if they stand for themselves.
    """

    name: str
    number: int
    ggml_type: int
    file_elements: int
    file_bytes: int
    scale_kind: ScaleKind
    scale_blocks: int
    nibble_beats: int = 1
    high_bits: int = 0
    code_offset: int = 0
    has_minimum: bool = False
    subscale_blocks: int = 0
    codebook: tuple[int, ...] = ()
    planes: int = 1

    @property
    def block_elements(self) -> int:
        """Elements of a row that one block of the stream holds: 32, or 16 for `I8`."""
        return BLOCK // 2 if self.scale_kind is ScaleKind.UNIT else BLOCK

    @property
    def high_blocks(self) -> int:
        """Blocks served by one high beat; 0 if the format has no high beats."""
        return LANE_BYTES * 8 // (BLOCK * self.high_bits) if self.high_bits else 0

    @property
    def row_blocks(self) -> int:
        """Blocks of 32 elements that a row must be a multiple of: 1, 2 for NVFP4, or 8 for the K-quants."""
        return max(self.file_elements // BLOCK, 1)

    @property
    def splits_blocks(self) -> bool:
        """Whether the two halves of a block have scales, or subscales and subminima, of their own."""
        return self.subscale_blocks > 0 or self.scale_kind is ScaleKind.FLOAT8

    @property
    def bits_per_weight(self) -> float:
        """Bits that one weight takes in file and stream, scales and minima included."""
        return self.file_bytes * 8 / self.file_elements

    @property
    def plane(self) -> "Format":
        """The format of a stream that has the same blocks one after the other, as a matrix of `planes` times the columns."""
        return replace(self, file_bytes=self.file_bytes // self.planes, planes=1)

    def row_bytes(self, columns: int) -> int:
        """Bytes of a row of `columns` elements in the file."""
        return columns // self.file_elements * self.file_bytes

    def side_beats(self) -> tuple[tuple[BeatKind, int], ...]:
        """The side beats before a block, in order: kind, and the blocks that one of them serves."""
        beats = (
            (BeatKind.SCALE, self.scale_blocks),
            (BeatKind.SUBSCALE, self.subscale_blocks),
            (BeatKind.HIGH, self.high_blocks),
        )
        return tuple((kind, blocks) for kind, blocks in beats if blocks)

    def schedule(self, blocks: int) -> Iterator[tuple[BeatKind, int]]:
        """Yield the beats of one lane's stream in order.

        Parameters
        ----------
        blocks : int
            Blocks in the lane's stream, all rows together, those of a plane only.

        Yields
        ------
        tuple of (BeatKind, int)
            The kind of the beat, and the index of the (first) block of the stream that it belongs to.
        """
        for block in range(blocks * self.planes):
            for kind, period in self.side_beats():
                if block % period == 0:
                    yield kind, block
            for _ in range(self.nibble_beats):
                yield BeatKind.NIBBLE, block

    def stream_beats(self, blocks: int) -> int:
        """Beats of one lane's stream that holds `blocks` blocks of each plane."""
        blocks *= self.planes
        return blocks * self.nibble_beats + sum(-(-blocks // period) for _, period in self.side_beats())

    def matrix_beats(self, rows: int, blocks: int, lanes: int) -> int:
        """Bus beats of a matrix of `rows` rows of `blocks` blocks on a bus of `lanes` lanes."""
        return self.stream_beats(-(-rows // lanes) * blocks)

    def matrix_bytes(self, rows: int, blocks: int, lanes: int) -> int:
        """Bytes of that matrix in device memory."""
        return self.matrix_beats(rows, blocks, lanes) * lanes * LANE_BYTES


_F16, _K = ScaleKind.FLOAT16, ScaleKind.SUPERBLOCK
#: Cached keys are of this format.
Q8_0 = Format("Q8_0", 0, 8, 32, 34, _F16, 8, nibble_beats=2)
#: Cached values are of this one.
I8 = Format("I8", 15, -1, 16, 16, ScaleKind.UNIT, 0)

#: What a matrix of a model can be.
WEIGHT_FORMATS: tuple[Format, ...] = (
    Q8_0,
    Format("Q4_0", 1, 2, 32, 18, _F16, 8, code_offset=8),
    Format("Q4_1", 2, 3, 32, 20, _F16, 4, has_minimum=True),
    Format("Q5_0", 3, 6, 32, 22, _F16, 8, high_bits=1, code_offset=16),
    Format("Q5_1", 4, 7, 32, 24, _F16, 4, high_bits=1, has_minimum=True),
    Format("MXFP4", 5, 39, 32, 17, ScaleKind.EXPONENT, 16, codebook=FP4_CODEBOOK),
    Format("Q4_K", 6, 12, 256, 144, _K, SUPERBLOCK, has_minimum=True),
    Format("Q5_K", 7, 13, 256, 176, _K, SUPERBLOCK, high_bits=1, has_minimum=True),
    Format(
        "Q6_K",
        8,
        14,
        256,
        210,
        ScaleKind.FLOAT16_SUPERBLOCK,
        8 * SUPERBLOCK,
        high_bits=2,
        code_offset=32,
        subscale_blocks=SUPERBLOCK,
    ),
    Format("IQ4_NL", 9, 20, 32, 18, _F16, 8, codebook=IQ4_CODEBOOK),
    Format("IQ4_XS", 10, 23, 256, 136, ScaleKind.SIGNED_SUPERBLOCK, 2 * SUPERBLOCK, codebook=IQ4_CODEBOOK),
    Format("NVFP4", 11, 40, 64, 36, ScaleKind.FLOAT8, 8, codebook=FP4_CODEBOOK),
)
#: What matrices of plain numbers become.
Q8_0X3 = Format("Q8_0x3", 16, -1, 32, 3 * 34, _F16, 8, nibble_beats=2, planes=3)
_S16 = Format(
    "Q4_S16", 18, -1, 256, 146, ScaleKind.FLOAT16_SUPERBLOCK, 8 * SUPERBLOCK, code_offset=8, subscale_blocks=SUPERBLOCK
)
#: What holds the weights of some other formats exactly.
HOLDERS: tuple[Format, ...] = (
    replace(_S16, name="Q4_SM16", number=17, file_bytes=148, scale_blocks=4 * SUPERBLOCK, code_offset=0, has_minimum=True),
    _S16,
    replace(_S16, name="Q5_S16", number=19, file_bytes=178, high_bits=1, code_offset=16),
    replace(_S16, name="IQ2_S16", number=20, code_offset=0, codebook=IQ2_CODEBOOK),
    replace(_S16, name="Q4_256", number=21, file_bytes=130, subscale_blocks=0),
)
FORMATS: tuple[Format, ...] = (*WEIGHT_FORMATS, I8, Q8_0X3, *HOLDERS)

BY_NAME: dict[str, Format] = {f.name: f for f in FORMATS}
BY_NUMBER: dict[int, Format] = {f.number: f for f in FORMATS}
BY_GGML_TYPE: dict[int, Format] = {f.ggml_type: f for f in WEIGHT_FORMATS}
#: Value of the ``FORMATS`` register.
FORMAT_MASK: int = sum(1 << f.number for f in FORMATS)
