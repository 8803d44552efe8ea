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
    assert digest == "92ad79f3380b8095b082bb8f5d79a0240b9529d6831cb340c0fd3830b288cbf5"
    assert len(CODE.read_text(encoding="utf-8")) == 1500
    assert FACTS.read_text(encoding="utf-8").startswith("Some facts, ")


def test_answers_of_four_are_drawn() -> None:
    drawn = {name: one.options for name, one in texts().items() if one.options}
    options = {"temperature": 1.0, "seed": 1}
    assert drawn == dict.fromkeys(["prose, drawn", "facts, drawn", "story, drawn", "numbers, drawn"], options)
    assert texts()["prose, drawn"].text == texts()["prose, continued"].text


def test_a_model_that_knows_no_chats_goes_on_with_the_text(tmp_path: Path) -> None:
    knows = Tokenizer(open_model(write_model(tmp_path / "chat.gguf")))
    does_not = Tokenizer(open_model(write_model(tmp_path / "plain.gguf", chat_template=None)))
    story, facts = texts()["story, drawn"], texts()["facts, drawn"]
    assert story.tokens(knows) == knows.encode_chat(story.text)
    assert story.tokens(does_not) == does_not.encode(story.text)
    assert facts.tokens(knows) == knows.encode(facts.text)
