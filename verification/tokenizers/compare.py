"""Our tokens, ends and texts of tokens beside llama.cpp's, our prompts beside those of transformers."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tailrace.gguf.file import open_model
from tailrace.spec.errors import TailraceError
from tailrace.text.chat import render_chat
from tailrace.text.tokenizer import Tokenizer

from .conversations import CONVERSATIONS
from .dress import dress
from .llama_cpp import ask
from .texts import WRITTEN, drawn

#: What separates the texts of an ``.inp`` file.
_BETWEEN = "\n__ggml_vocab_test__\n"
#: What llama.cpp makes of an ordinary token that is not spelled in the byte alphabet; ours is its text, as in transformers.
_UNTOLD = "[UNK_BYTE_"
#: Tokens whose own texts are compared.
_SAMPLED = 4000
_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


@dataclass
class Comparison:
    """What came of a vocabulary.

    Attributes
    ----------
    name : str
    how : str
        Kind and rules, or why it is refused.
    texts : int
        Texts that were compared.
    different : list of str
        Those with other tokens than llama.cpp's.
    ends : bool
        Whether the same tokens end an answer.
    pieces : int
        Tokens whose own texts are other than llama.cpp's.
    published : tuple of int or None
        Of the ``.out`` file's lines: how many, and how many are other tokens.
    """

    name: str
    how: str
    texts: int = 0
    different: list[str] = field(default_factory=list)
    ends: bool = True
    pieces: int = 0
    published: tuple[int, int] | None = None

    @property
    def equal(self) -> bool:
        """Whether all is equal."""
        return not (self.different or self.pieces) and self.ends and (self.published is None or self.published[1] == 0)


def compare_vocabulary(vocabulary: Path, rng: np.random.Generator, texts: int) -> Comparison:
    """Compare a vocabulary's tokens on written texts, those beside it, and `texts` random ones."""
    with tempfile.TemporaryDirectory() as folder:
        return compare_model(dress(vocabulary, Path(folder, "model.gguf")), vocabulary, rng, texts)


def compare_model(path: Path, vocabulary: Path, rng: np.random.Generator, texts: int) -> Comparison:
    """The same, of a whole model."""
    try:
        tokenizer = Tokenizer(open_model(path))
    except TailraceError as error:
        return Comparison(vocabulary.name, f"refused: {str(error).removeprefix(f'{path} ')}")
    v = tokenizer.vocabulary
    result = Comparison(vocabulary.name, f"{v.kind} {v.cut_name}".strip())
    beside = published_texts(vocabulary)
    # llama.cpp's bindings end a text at a NUL; nothing here has one.
    asked = [*WRITTEN, *beside, *drawn(rng, texts)]
    ids = sorted({int(i) for i in rng.integers(0, len(v.tokens), min(len(v.tokens), _SAMPLED))})
    theirs = ask(path, asked, ids)
    if theirs is None:
        result.how += "; llama.cpp refuses it"
        return result
    result.texts = len(asked)
    result.different = [text for text, tokens in zip(asked, theirs["tokens"], strict=True) if tokenizer.encode(text) != tokens]
    result.ends = sorted(tokenizer.ends) == theirs["ends"]
    result.pieces = sum(
        tokenizer.token_bytes(i).decode(errors="replace") != piece
        for i, piece in zip(ids, theirs["pieces"], strict=True)
        if piece is not None and not piece.startswith(_UNTOLD)
    )
    lines = published_tokens(vocabulary)
    if lines:
        start = len(tokenizer.encode("")) if v.start is not None else 0
        ours = [tokenizer.encode(text)[start:] for text in beside]
        result.published = (len(beside), sum(a != b for a, b in zip(ours, lines)))
    return result


def published_texts(vocabulary: Path) -> list[str]:
    """The texts of a vocabulary's ``.inp`` file, if it has one."""
    path = vocabulary.with_name(vocabulary.name + ".inp")
    return path.read_text(encoding="utf-8").split(_BETWEEN) if path.exists() else []


def published_tokens(vocabulary: Path) -> list[list[int]]:
    """The tokens of its ``.out`` file."""
    path = vocabulary.with_name(vocabulary.name + ".out")
    return [[int(n) for n in line.split()] for line in path.read_text().splitlines()] if path.exists() else []


@dataclass
class TemplateComparison:
    """What came of a chat template: conversations, those both refuse, and what differs."""

    name: str
    conversations: int = 0
    refused: int = 0
    different: list[str] = field(default_factory=list)


def compare_template(name: str, template: str, conversations: Sequence[Any] = CONVERSATIONS) -> TemplateComparison:
    """Compare our prompts with those of transformers: the same text, or refused by both."""
    from transformers.utils.chat_template_utils import render_jinja_template

    result = TemplateComparison(name)
    for what, messages, variables in conversations:
        result.conversations += 1
        try:
            theirs: str | None = render_jinja_template([messages], chat_template=template, **_TOKENS, **variables)[0][0]
        except Exception:  # whatever the template does, it is not to do another thing here
            theirs = None
        try:
            ours: str | None = render_chat(template, messages, {**_TOKENS, **variables})
        except TailraceError:
            ours = None
        result.refused += ours is None and theirs is None
        if ours != theirs:
            result.different.append(what)
    return result
