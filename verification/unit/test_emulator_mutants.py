"""The errors that are planted in the emulator fit its sources, and a text that is not there once is refused."""

import pytest

from verification.emulator_mutants import PLANTED, SOURCES, Planted
from verification.packages import ROOT


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.what)
def test_every_error_can_be_planted(planted: Planted) -> None:
    source = (ROOT / SOURCES / planted.file).read_text(encoding="utf-8")
    assert planted.applied(source) != source


def test_a_text_that_is_not_there_once() -> None:
    with pytest.raises(ValueError, match=r"^exact.h has 'x' 2 times: it can't be planted$"):
        Planted("it", "exact.h", "x", "y").applied("x x")
