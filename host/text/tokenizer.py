"""The tokenizer of a GGUF file, without PyTorch and transformers.

Two kinds of vocabulary are known: byte-pair encoding and SentencePiece with scores.
"""

import codecs
import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from tailrace.spec.errors import ModelError, TailraceError

from ..gguf.file import Model, check_open
from ..gguf.whole_number import whole_number
from .byte_pairs import BYTE_OF, BytePairs
from .chat import GuardedChat, check_unicode, render_chat, texts_of
from .sentencepiece import SPACE, SentencePiece
from .vocabulary import KINDS, TokenType, Vocabulary, byte_of, read_vocabulary


class _Encoder(Protocol):
    def encode(self, text: str) -> list[int]: ...


class Tokenizer:
    """Text to tokens and back.

    Parameters
    ----------
    model : Model

    Attributes
    ----------
    vocabulary : Vocabulary
        The tables behind it.
    ends : frozenset of int
        Tokens that end an answer.
    notes : list of str
        What a user should know: what the file lacks or gets wrong, and what is done about it. What is wrong with a text is
        added when it is encoded.
    chat_template : str or None

    Raises
    ------
    ModelError
        If the file has no vocabulary, one of an unknown kind, or one that contradicts itself.
    """

    def __init__(self, model: Model) -> None:
        check_open(model)
        self._path = model.path
        v = self.vocabulary = read_vocabulary(model)
        self._encoder: _Encoder = (
            SentencePiece(v.ids, v.scores, v.special.get("unknown")) if v.cut is None else BytePairs(v.ids, v.merges, v.cut)
        )
        self._control = _any_of(v, TokenType.CONTROL, TokenType.UNKNOWN)
        self._whole = _any_of(v, TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED)
        self.ends, self.notes = v.ends, v.notes
        self.chat_template = model.header.text("tokenizer.chat_template", "") or None

    def encode(self, text: str, at_start: bool = True) -> list[int]:
        """Tokens of a text as it is, after a begin-of-text token if the model wants one; names of control tokens are those.

        Parameters
        ----------
        text : str
        at_start : bool
            False: it goes on from another text.

        Raises
        ------
        TailraceError
            If the text is not Unicode, or the vocabulary can't express it.
        """
        check_unicode(text)
        start = [self.vocabulary.start] if at_start and self.vocabulary.start is not None else []
        tokens = self._encode(text, at_start=at_start)
        if start and tokens[:1] == start:
            name = self.vocabulary.named(start)
            self._note(f"the text begins with {name}, which the model puts before every text: now there are two of them")
        return start + tokens

    def encode_chat(
        self, messages: str | Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True, **variables: Any
    ) -> list[int]:
        """Tokens of a conversation, up to where the model is to answer.

        The template alone decides whether a begin-of-text token comes first, as in transformers. Names of control tokens are
        those only where the template writes them: what people wrote stays text.

        Parameters
        ----------
        messages : str or sequence of mapping
            The turns, each with a ``role`` (system, user, assistant, ...) and its ``content``; a text is a user's only one.
        add_generation_prompt : bool
            Whether the beginning of an answer follows.
        **variables : object
            More for the template, such as ``tools`` or ``enable_thinking``; what JSON can hold.

        Raises
        ------
        ModelError
            If the model has no chat template, or one that fails or needs too much time or memory.
        TailraceError
            If it is no conversation, the text is not Unicode, or the vocabulary can't express it.
        """
        text, guard = self._rendered(messages, {**variables, "add_generation_prompt": add_generation_prompt})
        return self._encode(text, guard)

    def render(
        self, messages: str | Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The text of a conversation, as the model's chat template makes it; parameters and errors as of `encode_chat`."""
        text, guard = self._rendered(messages, {**variables, "add_generation_prompt": add_generation_prompt})
        return text.replace(guard, "") if guard else text

    def _rendered(self, messages: str | Sequence[Mapping[str, Any]], variables: dict[str, Any]) -> tuple[str, str]:
        """The text of a conversation, and the guard in it."""
        if not self.chat_template:
            raise ModelError(f"{self._path} has no chat template: continue the prompt as it is, with `generate` or --raw")
        turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        if not isinstance(turns, Sequence) or not all(isinstance(turn, Mapping) and "role" in turn for turn in turns):
            raise TailraceError(
                "a conversation is a text or a list of messages such as {'role': 'user', 'content': 'Hello'}, not"
                f" {reprlib.repr(turns)}"
            )
        for text in texts_of([turns, variables]):
            check_unicode(text)
        v = self.vocabulary
        names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
        tokens = {name: v.tokens[v.special[part]] for part, name in names.items() if part in v.special}
        chat = GuardedChat(list(turns), variables, self._control, self.chat_template)
        text = render_chat(
            self.chat_template,
            chat.messages,
            {**tokens, **chat.variables},
        )
        return text, chat.guard

    def _encode(self, text: str, guard: str = "", at_start: bool = True) -> list[int]:
        """Tokens of a text; `guard` keeps apart what is no control token, and is no part of it."""
        v, result = self.vocabulary, list[int]()
        prefix, strip = v.space_prefix and at_start, False
        pieces = self._whole.split(text) if self._whole else [text]
        for place, piece in enumerate(pieces):
            if place % 2:
                token = v.ids[piece]
                result.append(token)
                prefix, strip = v.space_prefix and not v.space_once, token in v.strip_right
                continue
            if strip:
                piece = piece.lstrip()
            if place + 1 < len(pieces) and v.ids[pieces[place + 1]] in v.strip_left:
                piece = piece.rstrip()
            if piece := piece.replace(guard, "") if guard else piece:
                prefix = prefix and not (v.space_once and piece.startswith((" ", SPACE)))
                result += self._encoder.encode(" " + piece if prefix else piece)
                prefix = False
        if isinstance(self._encoder, BytePairs) and (lost := self._encoder.lost):
            self._note(f"the vocabulary has no tokens for {', '.join(sorted(lost))}: these bytes are left out of the text")
            lost.clear()
        return result

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def token_bytes(self, token: int) -> bytes:
        """What a token adds to a text; nothing for control tokens, and for tokens that have no text."""
        v = self.vocabulary
        if not 0 <= token < len(v.tokens):
            return b""
        kind, text = v.types[token], v.tokens[token]
        if kind in (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.UNUSED):
            return b""
        if kind == TokenType.BYTE:
            return bytes([byte_of(text) or 0])
        if v.cut is None or not v.cut.bytes:
            return text.replace(SPACE, " ").encode()
        if kind == TokenType.NORMAL and all(character in BYTE_OF for character in text):
            return bytes(BYTE_OF[character] for character in text)
        return text.encode()

    def decode(self, ids: Iterable[int], at_start: bool | None = None) -> str:
        """Text of tokens, without control tokens; bytes that are no UTF-8 become U+FFFD.

        Parameters
        ----------
        ids : iterable of int
        at_start : bool or None
            Whether they are the first of their text: then a leading space may be the one that `encode` has put there, and goes.
            None: they are if they begin with the begin-of-text token. A continuation's first space is part of it.
        """
        ids = [whole_number("a token", i) for i in ids]
        if at_start is None:
            at_start = bool(ids) and ids[0] == self.vocabulary.start
        text = b"".join(map(self.token_bytes, ids)).decode(errors="replace")
        return text.removeprefix(" ") if at_start and self.vocabulary.space_prefix else text

    def stream(self, write: Callable[[str], object], shown: Collection[int] = ()) -> "TextStream":
        """A place for generated tokens, which hands their text on as soon as it is whole; of those in `shown` the names."""
        return TextStream(self, write, shown)

    def describe(self) -> list[str]:
        """The tokenizer, line by line."""
        v = self.vocabulary
        merges = f", {len(v.merges):,} merges, text cut as {v.cut_name!r}" if v.cut else ""
        start = "nothing" if v.start is None else v.named([v.start])
        template = "a chat template" if self.chat_template else "no chat template"
        return [
            f"tokenizer: {KINDS[v.kind]} ({v.kind}), {len(v.tokens):,} tokens{merges}; text begins with {start}, answers end"
            f" with {v.named(v.ends) or 'nothing'}; {template}",
            *(f"tokenizer: {note}" for note in self.notes),
        ]


class TextStream:
    """Hands text on, token by token, but no half characters."""

    def __init__(self, tokenizer: Tokenizer, write: Callable[[str], object], shown: Collection[int] = ()) -> None:
        self._tokenizer, self._write = tokenizer, write
        self._names = {token: tokenizer.vocabulary.tokens[token].encode() for token in shown}
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def put(self, token: int) -> None:
        """Take a token."""
        self._give(self._decoder.decode(self._names.get(token) or self._tokenizer.token_bytes(token)))

    def end(self) -> None:
        """Hand on what is left: half a character becomes U+FFFD."""
        self._give(self._decoder.decode(b"", final=True))

    def _give(self, text: str) -> None:
        if text:
            self._write(text)


def _any_of(v: Vocabulary, *types: TokenType) -> re.Pattern[str] | None:
    """What finds the tokens of some types, at each place the longest."""
    texts = sorted({v.tokens[i] for i in v.of_type(*types) if v.ids.get(v.tokens[i]) == i}, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, texts))})") if texts else None
