"""Boards, GPUs and a model for tests of the planner."""

from dataclasses import replace

from tailrace.plan.described import PlannedModel, find_model
from tailrace.plan.table import Board, Gpu, Hardware

BOARD = Board(
    "plain", "Plain", "base", 1, 1, 128, 100.0, "routed", "DDR4", "64MiB", 1.6, "ddr4", link_mb_s=1.0, watts=5.0, usd=100.0, source="none"
)  # fmt: skip
#: Four times the bus, four rows, and ten times the price.
WIDE = replace(BOARD, name="wide", build="wide", port_bits=512, memory_gb_s=6.4, watts=20.0, usd=1000.0)
GPU = Gpu(
    "small", "Small", fp16_tflops=10.0, part=0.5, memory_size="1GiB", memory_gb_s=100.0, watts=50.0, usd=200.0, source="none"
)
HARDWARE = Hardware((BOARD, WIDE), (GPU,))


def shakespeare(context: int = 64) -> PlannedModel:
    """The model of 1 MB that comes along."""
    return find_model("shakespeare", context, 4096)
