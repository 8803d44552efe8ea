"""Constraints of pins."""

import re

from tailrace.hdl.boards.board import Board
from tailrace.hdl.boards.litedram import LiteDram
from tailrace.spec.config import CONFIGS


def constraints(board: Board, controller: LiteDram) -> str:
    """The file of constraints that goes with a board's top level."""
    plan = board.make_platform().prepare(board.top(CONFIGS["tiny"], controller, board.clock_hz), "board")
    text = plan.files["board.lpf"]
    return text if isinstance(text, str) else text.decode()


def located(text: str) -> dict[str, str]:
    """The site of each bit."""
    return dict(re.findall(r'LOCATE COMP "(\S+)" SITE "(\w+)";', text))


def by_bit(sites: dict[str, str]) -> dict[str, str]:
    """The site of each bit, from the sites of each signal, from bit 0."""
    return {
        signal + (f"[{i}]" if " " in bits else ""): site
        for signal, bits in sites.items()
        for i, site in enumerate(bits.split())
    }
