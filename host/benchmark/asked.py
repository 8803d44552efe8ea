"""What is asked for to find out what drafts bring: texts that say the same again, and texts that do not."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..text.tokenizer import Tokenizer
from .prose import passages

_FOLDER = Path(__file__).parent
#: The beginning of `tailrace.generation.depth` as it was when draft models came: this text stays when the module changes.
CODE = _FOLDER / "code.txt"
#: Facts that have nothing to do with each other.
FACTS = _FOLDER / "facts.txt"


@dataclass(frozen=True)
class Asked:
    """A prompt, and how its answer is chosen.

    Attributes
    ----------
    text : str
    is_message : bool
        Whether it is what a user says in a chat; a model that knows no chats goes on with it.
    options : dict
        Of `LanguageModel.generate`; none: the answer is greedy.
    """

    text: str
    is_message: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def tokens(self, tokenizer: Tokenizer) -> list[int]:
        """Tokens of the prompt."""
        if self.is_message and tokenizer.chat_template:
            return tokenizer.encode_chat(self.text)
        return tokenizer.encode(self.text)


#: A model of any size repeats itself less where its tokens are drawn.
_DRAWN = {"temperature": 1.0, "seed": 1}


def texts() -> dict[str, Asked]:
    """Prose, code, and what people ask of both; then prose, facts, a story and numbers, none of which says the same twice."""
    first, second, *_ = passages()
    prose = second[:1200]
    code = CODE.read_text(encoding="utf-8")
    program = f"```python\n{code}\n```"
    return {
        "prose, continued": Asked(prose),
        "summary of a passage": Asked(f"Summarise this in a few sentences:\n\n{first}", True),
        "passage, edited": Asked(f"Repeat this text word for word, but write every name in capitals:\n\n{first[:1200]}", True),
        "code, edited": Asked(f"Repeat this program, with its names spelled out:\n\n{program}", True),
        "code, continued": Asked(code),
        "prose, drawn": Asked(prose, options=_DRAWN),
        "facts, drawn": Asked(FACTS.read_text(encoding="utf-8").rstrip("\n"), options=_DRAWN),
        "story, drawn": Asked("Tell me a story of a lighthouse keeper who finds a map.", True, _DRAWN),
        "numbers, drawn": Asked(_numbers(), options=_DRAWN),
    }


def _numbers() -> str:
    """Random digits: whatever the last few were, they say nothing of the next one."""
    return " ".join(map(str, np.random.default_rng(1).integers(100, 1000, 100)))
