"""What Yosys' log and netlist say of memories and products."""

from typing import Any

from tailrace.fpga.families import FAMILIES
from tailrace.fpga.mapping import MappedMemory, MappedProduct, parse_memories, parse_products

ECP5 = FAMILIES["ecp5"]
DECLARED = [
    "  attribute \\x 1",
    "  memory width 36 size 512 \\core.fifo.storage",
    "  memory width 8 size 16 \\core.small",
    "  memory size 4 \\core.odd",
]
LOG = [
    "mapping memory top.core.fifo.storage via $__PDPW16KD_",
    "mapping memory top.core.small via $__TRELLIS_DPR16X4_",
    "using FF mapping for memory top.core.odd",
]
CELLS: dict[str, Any] = {
    "core.fifo.storage.0.0": {"type": "DP16KD"},
    "core.fifo.storage.0.1": {"type": "DP16KD"},
    "core.fifo.storage_LUT4_Z": {"type": "LUT4"},
    "core.small.0.0": {"type": "TRELLIS_DPR16X4"},
    "core.small.0.0_DO_TRELLIS_FF_DI": {"type": "TRELLIS_FF"},
    "core.smaller.0.0": {"type": "TRELLIS_DPR16X4"},
    "core.small.0.1": {"type": "TRELLIS_DPR16X4"},
}


def test_memories() -> None:
    found = parse_memories(DECLARED, LOG, CELLS, ECP5)
    assert found == [
        MappedMemory("core.fifo.storage", 512, 36, "block RAM", 2),
        MappedMemory("core.odd", 4, 1, "flip-flops", 0),
        MappedMemory("core.small", 16, 8, "distributed RAM", 2),
    ]
    assert [memory.reason for memory in found] == [
        "",
        "4 words of 1 bits: read at more places than a RAM has ports, read without a clock, or too small for any RAM",
        "16 words of 8 bits: Yosys takes distributed RAM where block RAM would stay nearly empty",
    ]


def test_products() -> None:
    def cell(kind: str, source: str) -> dict[str, Any]:
        return {"type": kind, "attributes": {"src": source}}

    cells = {
        "a": cell("MULT18X18D", "/x/tailrace/hdl/gemv/lane.py:7|/y/mul2dsp.v:1.2-3.4"),
        "b": cell("MULT18X18D", "/x/tailrace/hdl/gemv/lane.py:7"),
        "c": cell("LUT4", "/x/tailrace/hdl/gemv/lane.py:9"),
        "d": cell("MULT18X18D", "/y/mul2dsp.v:1.2-3.4"),
    }
    log = [
        "5.1. Executing ALUMACC pass (create $alu and $macc cells).",
        "  creating $macc model for $flatten\\core.\\early.$3 ($mul).",
        "5.9. Executing ALUMACC pass (create $alu and $macc cells).",
        "  creating $macc model for $flatten\\core.\\lane.$39 ($mul).",
        "  creating $macc model for $flatten\\core.\\lane.$40 ($add).",
    ]
    found = parse_products(log, cells, ECP5)
    assert found == [
        MappedProduct("core.lane.$39", "LUT", 1),
        MappedProduct("hdl/gemv/lane.py:7", "MULT18X18D", 2),
        MappedProduct("unknown", "MULT18X18D", 1),
    ]
    assert found[0].reason == "an operand or the product is narrower than Yosys gives a DSP block to"
    assert found[1].reason == ""
