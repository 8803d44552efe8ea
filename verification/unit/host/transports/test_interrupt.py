"""Waiting for the interrupt: events that come, come late, or never come."""

import time

import pytest

from tailrace.spec.registers import offset
from tailrace.transports.interrupt import InterruptWait


class Card:
    """Registers and events of a card whose run is over."""

    def __init__(self, events: list[bool]) -> None:
        self.events = events
        self.asked: list[float] = []

    def read(self, place: int) -> int:
        return 1 if place == offset("ISR") else 0

    def event(self, seconds: float) -> bool:
        self.asked.append(seconds)
        return self.events.pop(0)


@pytest.mark.parametrize(
    ("events", "interrupts", "missed", "asked"),
    [([True], 1, 0, 1), ([False, True], 1, 0, 2), ([False, False], 0, 1, 2)],
    ids=["in time", "late", "never"],
)
def test_events(events: list[bool], interrupts: int, missed: int, asked: int) -> None:
    card = Card(events)
    wait = InterruptWait(card.read, card.event)
    wait.wait(1)
    assert wait.statistics == {"interrupts": interrupts, "missed interrupts": missed}
    assert len(card.asked) == asked
    # The end of the run is known by then: its event can't be far.
    assert all(seconds < card.asked[0] for seconds in card.asked[1:])


def test_without_events() -> None:
    card = Card([])
    wait = InterruptWait(card.read, None)
    start = time.monotonic()
    wait.wait(1)
    assert time.monotonic() - start < 0.5
    assert wait.statistics == {}
