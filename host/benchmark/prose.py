"""The text that comes along, for whatever needs real text."""

from pathlib import Path

#: The first two acts of The Tempest (W. Shakespeare, 1611; in the public domain).
PROSE = Path(__file__).with_name("tempest.txt")


def passages(size: int = 2000) -> list[str]:
    """The text in passages that end where a speech does.

    Parameters
    ----------
    size : int
        Characters that a passage has at least, but for the last one.
    """
    found, passage = list[str](), ""
    for speech in PROSE.read_text(encoding="utf-8").split("\n\n"):
        passage += speech.strip("\n") + "\n\n" if speech.strip("\n") else ""
        if len(passage) >= size:
            found.append(passage)
            passage = ""
    return [*found, passage] if passage else found
