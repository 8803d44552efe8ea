"""Whole boards: the core with memory, link, clocks and pins."""

#: The boards, by their modules' names.
BOARDS = ("ulx3s", "ecpix5")
