"""Widths of the bus and of the vector unit, whose tests run with all of them."""

#: ``(bus_width, vector_width)``: as wide as the lanes (0), wider, and narrower.
WIDTHS = ((128, 0), (256, 0), (512, 0), (128, 2), (128, 4), (256, 1), (512, 1), (512, 2))
#: The least and the most that differs.
SOME_WIDTHS = ((128, 0), (512, 0), (128, 4), (512, 1))
