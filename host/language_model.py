"""A language model on a device: text in, text out."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from .device.decoder import Decoder
from .device.driver import Device
from .generation.answer import Answer
from .generation.completion import Completion, Stream
from .generation.engine import Engine
from .generation.options import Conversation, Options, Prompt, Prompts, Variables, wish_of
from .generation.sequences import Holder
from .gguf.printable import printable
from .session import Session
from .text.tokenizer import Tokenizer
from .transports.facts import config_of
from .transports.sizes import format_size


class LanguageModel:
    """A language model on a device. `tailrace.load` makes one; it is a context manager.

    It may be used from several threads: they take turns, a whole answer each, or a piece of a stream each. An answer is the
    same whatever else the model does, or has done before.

    Parameters
    ----------
    engine : Engine
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a language model is on a device, and can't be copied or pickled: load it where it is needed")

    def __repr__(self) -> str:
        build = f"configuration {self.config}, " if self.config else ""
        return (
            f"<LanguageModel {printable(Path(self.decoder.imported.name).name)} on {self.device.transport.name}: {build}"
            f"{format_size(self.memory_bytes)} of memory, context {self.context}, batch {self.batch}>"
        )

    def close(self) -> None:
        """Release the device, if `load` has opened it. Closing twice is harmless."""
        self._engine.close()

    @property
    def engine(self) -> Engine:
        """What computes answers; whoever takes it from here has the model for itself."""
        return self._engine

    @property
    def decoder(self) -> Decoder:
        """What decodes. Its sequences belong to this model: whoever steps it by hand makes one of its own."""
        return self._engine.decoder

    @property
    def device(self) -> Device:
        """The device."""
        return self.decoder.device

    @property
    def config(self) -> str | None:
        """Build of the device, as `tailrace.load` takes it; None: hardware, whose numbers are in `device.geometry`."""
        config = config_of(self.device.transport)
        return None if config is None else config.name

    @property
    def memory_bytes(self) -> int:
        """Bytes of the device's memory."""
        return self.device.memory_size

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to tokens and back."""
        return self._engine.tokenizer

    @property
    def context(self) -> int:
        """Tokens that prompt and answer have room for together."""
        return self.decoder.limit

    @property
    def batch(self) -> int:
        """Prompts that share steps."""
        return self.decoder.batch

    # A text is a sequence of texts, too, says Python: of the signatures the first one that fits counts.
    @overload
    def generate(  # type: ignore[overload-overlap]
        self, prompt: Prompt, *, stream: Literal[False] = False, **options: Unpack[Options]
    ) -> Completion: ...
    @overload
    def generate(self, prompt: Prompts, *, stream: Literal[False] = False, **options: Unpack[Options]) -> list[Completion]: ...
    @overload
    def generate(self, prompt: Prompt | Prompts, *, stream: Literal[True], **options: Unpack[Options]) -> Stream: ...

    def generate(
        self, prompt: Prompt | Prompts, *, stream: bool = False, **options: Unpack[Options]
    ) -> Completion | list[Completion] | Stream:
        """Continue a text, or several.

        Parameters
        ----------
        prompt : str, or tokens; or a sequence of them
            Several share the device's steps, as many as `batch` at a time; when one has its answer, the next one takes its
            place. Each has the answer that it has alone.
        stream : bool
            Return a stream of the answer's pieces.
        **options
            `Options`.

        Returns
        -------
        Completion, or list of Completion, or Stream

        Raises
        ------
        ConfigError
            If an option is out of range.
        LimitError
            If a prompt is longer than the context.
        TailraceError
            If a prompt is empty, or the model is closed.
        DeviceError, DeviceTimeout
            If the device stopped. The next call works.
        """
        several = _are_several(prompt)
        prompts: Any = prompt if several else [prompt]
        engine = self._engine
        answers = [engine.answer(n, engine.tokens(p), Holder(), wish_of(options)) for n, p in enumerate(prompts)]
        return self._deliver(answers, stream, not several)

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
        """Answer a conversation, as the model's chat template has it.

        What the device still holds of its beginning is not computed again.

        Parameters
        ----------
        messages : sequence of mapping, or str
            Each with ``role`` (``system``, ``user`` or ``assistant``) and ``content``; or what a user says, alone.
        stream : bool
            Return a stream of the answer's pieces.
        chat_template_kwargs : mapping or None
            More for the template, such as ``{"enable_thinking": False}``.
        **options
            `Options`.

        Returns
        -------
        Completion or Stream

        Raises
        ------
        ModelError
            If the model has no chat template, or one that refuses the conversation.
        ConfigError, LimitError, TailraceError, DeviceError, DeviceTimeout
            As `generate`.
        """
        tokens = self.tokenizer.encode_chat(messages, **(chat_template_kwargs or {}))
        return self._deliver([self._engine.answer(0, tokens, Holder(), wish_of(options))], stream, True)

    def session(self, prompt: Prompt = "") -> Session:
        """A text that is kept, with what the device has computed of it.

        Parameters
        ----------
        prompt : str or tokens
            What it begins with; computed when it is first used.
        """
        empty = isinstance(prompt, str) and not prompt
        return Session(self._engine, [] if empty else self._engine.tokens(prompt))

    def load_session(self, path: str | os.PathLike[str]) -> Session:
        """A session that was saved, by whichever build of the device.

        Raises
        ------
        ModelError
            If the file is no session, damaged, or one of another model.
        """
        return Session.load(self._engine, path)

    def load_handover(self, path: str | os.PathLike[str]) -> Session:
        """A session whose prompt was computed elsewhere, such as by vLLM: `tailrace.spec.handover` says what the file holds.

        ``generate`` goes on from there: the device takes the prompt's last token, and what follows.

        Raises
        ------
        ModelError
            If the file is no hand-over file, damaged, or of another model.
        LimitError
            If the prompt is longer than the context.
        MissingPackage
            If the package safetensors is not installed.
        """
        return Session.load_handover(self._engine, path)

    def _deliver(self, answers: list[Answer], stream: bool, is_one: bool) -> Any:
        result = Stream(self._engine.pieces(answers), lambda: [answer.completion() for answer in answers], is_one)
        if stream:
            return result
        with self._engine.lock:
            result.read_all()
        return result.result if is_one else result.results


def _are_several(prompt: Any) -> bool:
    if isinstance(prompt, str):
        return False
    if hasattr(prompt, "ndim"):
        return bool(prompt.ndim > 1)
    return (
        isinstance(prompt, Sequence)
        and len(prompt) > 0
        and (isinstance(prompt[0], str | list | tuple | range) or bool(getattr(prompt[0], "ndim", 0)))
    )
