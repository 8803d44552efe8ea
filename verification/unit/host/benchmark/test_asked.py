"""The texts that drafts are measured with are fixed, and so are their seeds."""

import hashlib
from pathlib import Path

from tailrace.benchmark.asked import CODE, FACTS, texts
from tailrace.gguf.file import open_model
from tailrace.text.tokenizer import Tokenizer
from verification.unit.host.tiny_models import write_model


def test_texts_stay_the_same() -> None:
    """Rows of docs/speculation.md are compared over time; whoever changes a text measures all of them again."""
    digest = hashlib.sha256("\0".join(f"{name}\0{one.text}" for name, one in texts().items()).encode()).hexdigest()
    assert digest == "b7ee0cb4b17cdbdb110f949c8a46ca260bb61267ee068b5723905bbe6870621e"
    assert len(CODE.read_text(encoding="utf-8")) == 1500
    assert FACTS.read_text(encoding="utf-8").startswith("Some facts, ")


def test_answers_of_three_are_drawn() -> None:
    drawn = {name: one.options for name, one in texts().items() if one.options}
    options = {"temperature": 1.0, "seed": 1}
    assert drawn == {"facts, drawn": options, "story, drawn": options, "numbers, drawn": options}


def test_a_model_that_knows_no_chats_goes_on_with_the_text(tmp_path: Path) -> None:
    knows = Tokenizer(open_model(write_model(tmp_path / "chat.gguf")))
    does_not = Tokenizer(open_model(write_model(tmp_path / "plain.gguf", chat_template=None)))
    story, facts = texts()["story, drawn"], texts()["facts, drawn"]
    assert story.tokens(knows) == knows.encode_chat(story.text)
    assert story.tokens(does_not) == does_not.encode(story.text)
    assert facts.tokens(knows) == knows.encode(facts.text)
