"""The curve of beats that leave."""

import pytest

from tailrace.sim.timing.departures import Departures


def test_runs_of_beats() -> None:
    curve = Departures()
    curve.add(10, 100)
    curve.add(5, 110)
    curve.add(4, 200, 2.5)
    assert curve.beats == 19
    assert [curve.cycle(beat) for beat in (0, 9, 10, 14, 15, 16, 18)] == [100, 109, 110, 114, 200, 202.5, 207.5]
    curve.shift(1000)
    assert [curve.cycle(beat) for beat in (0, 18)] == [1100, 1207.5]


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_recent_stays(count: int) -> None:
    """However many runs there are, those of the last beats are known."""
    curve = Departures()
    for n in range(20000):
        curve.add(count, 10 * n)
    for beat in range(curve.beats - 1000 * count, curve.beats):
        assert curve.cycle(beat) == 10 * (beat // count) + beat % count
