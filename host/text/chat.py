"""Chat templates: Jinja programs that come with a model and turn a conversation into its prompt.

A model's file is not to be trusted, and no sandbox within Python bounds what an expression may cost. So a template runs in a
process of its own, which the operating system stops.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tailrace.spec.errors import ModelError, TailraceError

from ..gguf.printable import shown
from .renderer import Renderer, StoppedError

#: What a template may use: seconds of processor time, seconds in all, bytes of memory, characters of its prompt.
CPU_SECONDS, SECONDS, MEMORY, CHARACTERS = 5, 60, 1 << 29, 1 << 22
_RENDERER = Renderer()


def render_chat(template: str, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
    """The prompt for a conversation.

    Parameters
    ----------
    template : str
        As the GGUF file has it.
    messages : sequence of mapping
        Each with a ``role`` and its ``content``.
    variables : mapping of str to object
        More that the template may use: texts of special tokens by names such as ``bos_token``, ``add_generation_prompt``, ...

    Raises
    ------
    ModelError
        If the template has an error, refuses the conversation, or needs more than it may use.
    TailraceError
        If the conversation holds what JSON can't.
    """
    given = {"tools": None, "documents": None, **variables, "messages": list(messages)}
    request = {"template": template, "variables": given, "memory": MEMORY, "characters": CHARACTERS}
    try:
        answer = _RENDERER.ask(request, CPU_SECONDS, SECONDS)
    except StoppedError as error:
        raise _refusal(str(error)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise TailraceError(f"the conversation can't be given to the chat template: {error}") from error
    if "limit" in answer:
        memory = f"it needs more than {MEMORY >> 20} MiB of memory"
        raise _refusal(memory if answer["limit"] == "memory" else "it calls itself too deeply")
    if "text" not in answer:
        raise _refusal(answer["error"])
    try:
        check_unicode(answer["text"])
    except TailraceError:
        raise _refusal("it makes halves of characters") from None
    return answer["text"]


def _refusal(reason: str) -> ModelError:
    reason = reason.removesuffix(".")
    return ModelError(f"the model's chat template can't be used: {reason}. Give --raw to continue the prompt as it is.")


class GuardedChat:
    """A conversation in which no control token can be found, for a guard lies between their characters.

    Parameters
    ----------
    messages : list of mapping
    variables : mapping of str to object
        More that people wrote, such as descriptions of tools.
    control : Pattern or None
        Finds control tokens.
    template : str

    Attributes
    ----------
    guard : str
        A character that neither the conversation nor the template has; empty if there is nothing to guard.
    """

    def __init__(
        self, messages: list[Mapping[str, Any]], variables: Mapping[str, Any], control: re.Pattern[str] | None, template: str
    ) -> None:
        self.guard, self._control = "", control
        self.messages, self.variables = messages, dict(variables)
        texts = list(texts_of([messages, self.variables]))
        if control is None or not any(map(control.search, texts)):
            return
        used = {character for text in (template, *texts) for character in text}
        self.guard = next(chr(code) for code in range(0xE000, 0xF900) if chr(code) not in used)
        self.messages, self.variables = self._guarded(messages), self._guarded(self.variables)

    def _guarded(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._guarded_text(value)
        if isinstance(value, Mapping):
            return {self._guarded(key): self._guarded(item) for key, item in value.items()}
        return [self._guarded(item) for item in value] if isinstance(value, list | tuple) else value

    def _guarded_text(self, text: str) -> str:
        assert self._control is not None
        inside: set[int] = set()
        place = 0
        # Tokens may overlap: the next one may begin within this one.
        while (match := self._control.search(text, place)) is not None:
            inside.update(range(match.start() + 1, match.end()))
            place = match.start() + 1
        return "".join(self.guard * (place in inside) + character for place, character in enumerate(text))


def texts_of(value: Any) -> list[str]:
    """All texts in what JSON can hold, and its keys."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for item in pair for text in texts_of(item)]
    return [text for item in value for text in texts_of(item)] if isinstance(value, list | tuple) else []


def check_unicode(text: str) -> None:
    """Check that a text has no halves of characters; bytes that are not UTF-8 reach Python as such.

    Raises
    ------
    TailraceError
        If it has one, or is no text.
    """
    if not isinstance(text, str):
        raise TailraceError(f"a text is expected, not {shown(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        what = f"the byte {code - 0xDC00:#x}" if 0xDC80 <= code < 0xDD00 else f"half a character ({code:#x})"
        raise TailraceError(
            f"the prompt is not UTF-8: after {error.start} characters there is {what}. Give it as UTF-8."
        ) from None
