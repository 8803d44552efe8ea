"""Sessions: texts that are kept, with what the device has computed of them."""

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Unpack, overload

from tailrace.spec.errors import LimitError, TailraceError

from .generation.completion import Completion, Piece, Stream
from .generation.engine import Engine
from .generation.handover import read_handover
from .generation.options import Conversation, Options, Prompt, Variables, wish_of
from .generation.sequences import Holder
from .generation.session_file import fingerprint, read_session, write_session
from .gguf.whole_number import whole_number


class Session:
    """A text that is kept, with what the device has computed of it. `LanguageModel.session` makes one.

    It can be continued, cut short, copied and saved. What was computed lies on the device, or in this machine's memory while
    others use the device; what is missing is computed again when it is needed. An answer that fails leaves the session as it
    was; one whose stream is closed stays as far as it went.
    """

    def __init__(self, engine: Engine, tokens: Sequence[int], holder: Holder | None = None) -> None:
        self._engine, self._tokens, self._holder = engine, list(tokens), holder or Holder()
        self._is_busy = False

    @classmethod
    def load(cls, engine: Engine, path: str | os.PathLike[str]) -> "Session":
        """Read a session that was saved; see `LanguageModel.load_session`."""
        model = fingerprint(engine.imported, engine.decoder.image.request.quantise)
        tokens, snapshot, is_foreign = read_session(Path(path), model, engine.imported)
        return cls(engine, tokens, None if snapshot is None else Holder(tokens[: snapshot.length], snapshot, is_foreign))

    @classmethod
    def load_handover(cls, engine: Engine, path: str | os.PathLike[str]) -> "Session":
        """Take a prompt that was computed elsewhere; see `LanguageModel.load_handover`."""
        handover = read_handover(Path(path), engine.imported)
        return cls(engine, handover.tokens, handover.holder())

    def __reduce__(self) -> Any:
        raise TypeError("a session is on a device, and can't be copied or pickled: fork it, or save it to a file")

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens so far."""
        return tuple(self._tokens)

    @property
    def text(self) -> str:
        """The text so far, without special tokens."""
        return self._engine.tokenizer.decode(self._tokens)

    @overload
    def generate(self, prompt: Prompt = "", *, stream: Literal[False] = False, **options: Unpack[Options]) -> Completion: ...
    @overload
    def generate(self, prompt: Prompt = "", *, stream: Literal[True], **options: Unpack[Options]) -> Stream: ...

    def generate(self, prompt: Prompt = "", *, stream: bool = False, **options: Unpack[Options]) -> Completion | Stream:
        """Go on from the text so far and what is added to it; the answer becomes part of it.

        Parameters
        ----------
        prompt : str or tokens
            What is added first.
        stream : bool
            Return a stream of the answer's pieces.
        **options
            `Options`.

        Raises
        ------
        TailraceError
            As `LanguageModel.generate`; or if another answer is being streamed.
        """
        return self._deliver([*self._tokens, *self._engine.tokens(prompt, not self._tokens)], stream, options)

    @overload
    def chat(
        self, messages: Conversation, *, stream: Literal[False] = False, chat_template_kwargs: Variables = None,
        **options: Unpack[Options],
    ) -> Completion: ...  # fmt: skip
    @overload
    def chat(
        self, messages: Conversation, *, stream: Literal[True], chat_template_kwargs: Variables = None,
        **options: Unpack[Options],
    ) -> Stream: ...  # fmt: skip

    def chat(
        self, messages: Conversation, *, stream: bool = False, chat_template_kwargs: Variables = None,
        **options: Unpack[Options],
    ) -> Completion | Stream:  # fmt: skip
        """Answer a conversation, which takes the place of what the session was; what both begin with is not computed again.

        Parameters
        ----------
        messages : sequence of mapping, or str
            The whole conversation, as for `LanguageModel.chat`.
        chat_template_kwargs : mapping or None
            The same.
        stream, **options
            As for `generate`.
        """
        tokens = self._engine.tokenizer.encode_chat(messages, **(chat_template_kwargs or {}))
        return self._deliver(tokens, stream, options)

    def truncate(self, length: int) -> None:
        """Take it back to its first tokens.

        Raises
        ------
        ConfigError
            If the length is no whole number.
        LimitError
            If it has fewer.
        """
        with self._idle():
            length = whole_number("the length that a session is cut to", length)
            if not 0 <= length <= len(self._tokens):
                raise LimitError(
                    f"a session of {len(self._tokens)} tokens can be cut to 0 to {len(self._tokens)}, not {length}"
                )
            del self._tokens[length:]

    def fork(self) -> "Session":
        """Another session with the same text, which goes its own way from here."""
        with self._idle():
            return Session(self._engine, self._tokens, self._engine.sequences.copy(self._holder, self._tokens))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, exactly as the device has it: `LanguageModel.load_session` reads it, on any build.

        Raises
        ------
        TailraceError
            If it can't be written; an older file of this name stays as it was.
        """
        engine = self._engine
        with self._idle():
            held = engine.sequences.copy(self._holder, self._tokens)
            model = fingerprint(engine.imported, engine.decoder.image.request.quantise)
            write_session(Path(path), model, self._tokens, held.snapshot, held.is_foreign)

    @contextmanager
    def _idle(self) -> Iterator[None]:
        with self._engine.lock:
            if self._is_busy:
                raise TailraceError("the session is at work on an answer: read its stream to the end, or close it")
            yield

    def _deliver(self, tokens: list[int], stream: bool, options: Options) -> Any:
        answer = self._engine.answer(0, tokens, self._holder, wish_of(options))

        def pieces() -> Generator[Piece, None, None]:
            ours = False
            try:
                with self._idle():
                    # In this order, so that Ctrl-C in between does not leave it busy.
                    ours = self._is_busy = True
                yield from self._engine.pieces([answer], keep=True)
            except GeneratorExit:
                self._tokens = answer.tokens
                raise
            else:
                self._tokens = answer.tokens
            finally:
                if ours:
                    self._is_busy = False

        result = Stream(pieces(), lambda: [answer.completion()], True)
        if stream:
            return result
        with self._engine.lock:
            result.read_all()
        return result.result
