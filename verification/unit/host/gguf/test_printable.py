"""Text of files, fit to be shown."""

import pytest

from tailrace.gguf.printable import printable, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("Müller 東京 🎉 [/x] \\n", "Müller 東京 🎉 [/x] \\n"),
        ("a\x1b[31mb\r\n\t\x00\x7f\x9b", r"a\x1b[31mb\r\n\t\x00\x7f\x9b"),
        ("\u202egnp.exe\u200b\u2028\ud800", r"\u202egnp.exe\u200b\u2028\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_long_texts_are_cut() -> None:
    assert shortened("a" * 80) == "a" * 80
    assert shortened("a" * 81) == "a" * 80 + "…"
    assert len(shortened("\x1b" * 1000)) == 81
