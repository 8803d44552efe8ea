"""What is asked, and what is to be answered: computed alone, in this process, before anything is served."""

import random
from dataclasses import dataclass
from typing import Any

import tailrace

_TEXT = (
    "ROMEO: But soft, what light through yonder window breaks? It is the east, and Juliet is the sun. "
    "JULIET: O Romeo, Romeo, wherefore art thou Romeo? Deny thy father and refuse thy name. "
)


@dataclass(frozen=True)
class Question:
    """A request to ``/v1/completions`` and its answer.

    Attributes
    ----------
    body : dict
    text, reason : str
        Of the answer.
    """

    body: dict[str, Any]
    text: str
    reason: str


def questions(model: str, context: int, count: int, seed: int) -> list[Question]:
    """Draw questions of different lengths, and answer each of them alone, on a device with one sequence."""
    draw = random.Random(seed)
    found = []
    with tailrace.load(model, context=context) as lm:
        for number in range(count):
            start = draw.randrange(len(_TEXT) // 2)
            prompt = _TEXT[start : start + draw.randrange(4, 80)]
            options: dict[str, Any] = {"max_tokens": draw.randrange(8, 64)}
            if number % 2:
                options |= {"temperature": 0.9, "top_p": 0.95, "seed": number}
            lm.engine.decoder.reset()
            answer = lm.generate(prompt, **options)
            reason = {"context": "length"}.get(answer.finish_reason, answer.finish_reason)
            found.append(Question({"temperature": 0, **options, "prompt": prompt}, answer.text, reason))
    return found
