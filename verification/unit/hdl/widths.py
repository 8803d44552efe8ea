"""Widths of the bus and of the vector unit, whose tests run with all of them."""

#: ``(bus_width, vector_width)``: as wide as the lanes (0), wider, and narrower.
WIDTHS = ((128, 0), (256, 0), (512, 0), (128, 2), (128, 4), (256, 1), (512, 1), (512, 2))
#: And those of beats of more than 64 bytes, for the blocks that know of these.
WITH_WIDE_BEATS = (*WIDTHS, (1024, 0), (1024, 1), (8192, 0))
#: The least and the most that differs.
SOME_WIDTHS = ((128, 0), (512, 0), (128, 4), (512, 1))


def ports(beat_width: int) -> dict[str, int]:
    """The fields of a configuration that make beats so wide."""
    return {"bus_width": beat_width} if beat_width <= 512 else {"bus_width": 256, "channels": beat_width // 256}
