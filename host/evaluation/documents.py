"""The documents of the tasks: read from this package, or made up with a seed."""

import json
from collections.abc import Callable
from typing import Any

from datasets import Dataset

from tailrace.spec.errors import ConfigError

from ..benchmark.prose import passages
from ..gguf.file import open_model
from ..models.fetch import resolve_model
from ..text.tokenizer import Tokenizer
from . import TASKS
from .needles import needles_of


def choices(**_: Any) -> dict[str, Dataset]:
    """Questions with four answers each."""
    lines = (TASKS / "choices.jsonl").read_text(encoding="utf-8").splitlines()
    return {"test": Dataset.from_list([json.loads(line) for line in lines])}


def prose(**_: Any) -> dict[str, Dataset]:
    """Passages of the text that comes along."""
    return {"test": Dataset.from_list([{"text": text} for text in passages()])}


def needles(*, length: int, **metadata: Any) -> dict[str, Dataset]:
    """Needles in texts of so many tokens of the model that is evaluated.

    Parameters
    ----------
    length : int
    **metadata : object
        lm_eval's: the arguments of the model, and what ``--metadata`` adds. `model` or `gguf` is a model as `tailrace.load`
        takes it; or else `tokenizer` or `pretrained` is one of Hugging Face.

    Raises
    ------
    ConfigError
        If none of these is there.
    """
    found = [{"prompt": needle.prompt, "number": needle.number} for needle in needles_of(length, _counter(metadata))]
    return {"test": Dataset.from_list(found)}


def found(document: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """1 if the number is in the answer."""
    return {"found": float(document["number"] in answers[0])}


def _counter(metadata: dict[str, Any]) -> Callable[[str], int]:
    model = metadata.get("gguf") or metadata.get("model")
    if isinstance(model, str):
        ours = Tokenizer(open_model(resolve_model(model)))
        return lambda text: len(ours.encode(text))
    name = metadata.get("tokenizer") or metadata.get("pretrained")
    if not name:
        raise ConfigError(
            'how long a text is depends on the tokenizer: give lm_eval --metadata \'{"gguf": "model.gguf"}\', or a tokenizer of'
            " Hugging Face as tokenizer"
        )
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(name)
    return lambda text: len(theirs(text).input_ids)
