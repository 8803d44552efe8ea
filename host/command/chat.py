"""A chat in the terminal: turns, streams, and commands that begin with a slash."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tailrace.spec.errors import LimitError, ModelError, TailraceError

from ..device.counters import Counters
from ..generation.completion import Completion
from ..generation.options import Options
from ..language_model import LanguageModel
from ..loading import load as load_model
from ..text.chat import check_unicode
from .conversation import Conversation
from .terminal import Terminal

HELP = """\
/reset        start over
/undo         take the last turn back
/system TEXT  what the model is told before anything is said, from the next turn on; without TEXT: nothing
/save NAME    keep the conversation: NAME.json has the messages, NAME.npz what the device has computed of them
/load NAME    go on with one that was kept
/exit         leave, as Ctrl-D does
Ctrl-C ends an answer; what was said of it stays. A line that ends with \\ goes on; // begins a line with a slash."""
#: What the user types after.
_PROMPT, _MORE = "> ", "… "


class Chat:
    """A conversation with a model, as a user leads it line by line.

    Parameters
    ----------
    model : LanguageModel
    terminal : Terminal
    name : str
        Of the model, for what is saved.
    options : Options
        How answers are made.
    system : str
        What the model is told before anything is said.

    Raises
    ------
    ModelError
        If the model has no chat template.
    TailraceError
        If `system` is not UTF-8.
    """

    def __init__(self, model: LanguageModel, terminal: Terminal, name: str, options: Options, system: str = "") -> None:
        if not model.tokenizer.chat_template:
            raise ModelError(f"{name} has no chat template, so it can't chat: continue a text with tailrace run")
        check_unicode(system)
        self._model, self._terminal, self._name, self._options = model, terminal, name, options
        self.conversation, self._session = Conversation(system), model.session()
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": self._help,
            "/load": self.load,
            "/reset": self._reset,
            "/save": self._save,
            "/system": self._tell,
            "/undo": self._undo,
        }

    def lead(self, read: Callable[[str], str]) -> bool:
        """Go on until the user leaves.

        Parameters
        ----------
        read : callable
            Shows a prompt and returns the next line; raises EOFError after the last one, as `input` does.

        Returns
        -------
        bool
            Whether everything could be done that was asked for.

        Raises
        ------
        OSError
            If nobody takes what the model says.
        """
        all_done = True
        while True:
            try:
                said = _line(read)
            except EOFError:
                return all_done
            except KeyboardInterrupt:
                self._note("Ctrl-D or /exit leaves; /help lists what else there is")
                continue
            word, _, rest = said.strip().partition(" ")
            if word == "/exit":
                return all_done
            try:
                if word in self._commands:
                    self._commands[word](rest.strip())
                elif word.startswith("/") and not word.startswith("//"):
                    raise TailraceError(f"there is no {word}: /help lists what there is; // begins a line with a slash")
                elif word:
                    self.say(said[1:] if word.startswith("//") else said)
            except KeyboardInterrupt:
                self._note("interrupted")
            except TailraceError as error:
                self._terminal.complain(f"{error}")
                all_done = False

    def say(self, said: str) -> None:
        """Let the model answer; an answer that is interrupted stays as far as it went, if it had begun.

        Raises
        ------
        TailraceError
            If there is no answer; the conversation is as it was.
        """
        messages = self.conversation.messages(said)
        expected, steps, start = 1, 0, time.monotonic()

        def count(counters: Counters) -> None:
            nonlocal steps
            steps += 1
            self._terminal.progress("computing the prompt", min(steps / expected, 1.0))

        text = ""
        self._model.decoder.on_step = count
        try:
            # The first text is when the tokenizer is loaded, which can take seconds.
            expected = len(self._model.tokenizer.encode_chat(messages))
            with self._session.chat(messages, stream=True, **self._options) as stream:
                with self._terminal.phase("computing the prompt"):
                    first = next(stream, None)
                with self._terminal.generation():
                    for piece in [first] if first is not None else []:
                        text += piece.text
                        self._terminal.write(piece.text)
                    for piece in stream:
                        text += piece.text
                        self._terminal.write(piece.text)
        except KeyboardInterrupt:
            self._terminal.end_line(text)
            self._note("interrupted" if text else "interrupted before there was an answer: it is as if nothing had been said")
        except LimitError as error:
            raise LimitError(f"{error}; or /reset starts over") from None
        else:
            self._terminal.end_line(text)
            self._close(stream.result, time.monotonic() - start)
        finally:
            self._model.decoder.on_step = None
        if text:
            self.conversation.turns.append((said, text))

    def load(self, name: str) -> None:
        """Go on with a conversation that was kept.

        Raises
        ------
        TailraceError
            If it can't be read; this one is as it was.
        """
        if not name:
            raise TailraceError("which one? /load NAME")
        found = Conversation.load(Path(f"{name}.json"))
        computed = Path(f"{name}.npz")
        try:
            session = self._model.load_session(computed)
        except TailraceError as error:
            self._note(f"what was computed of it is not to be had, and will be computed again: {error}")
            session = self._model.session()
        self.conversation, self._session = found, session
        self._note(f"{len(found.turns)} turns")

    def _save(self, name: str) -> None:
        if not name:
            raise TailraceError("under which name? /save NAME")
        self.conversation.save(Path(f"{name}.json"), self._name)
        self._session.save(f"{name}.npz")
        self._note(f"{name}.json, {name}.npz: {len(self.conversation.turns)} turns")

    def _reset(self, _: str) -> None:
        self.conversation.turns.clear()
        self._note("started over")

    def _undo(self, _: str) -> None:
        if not self.conversation.turns:
            raise TailraceError("nothing has been said yet")
        said, _ = self.conversation.turns.pop()
        self._note(f"taken back: {said}")

    def _tell(self, text: str) -> None:
        check_unicode(text)
        self.conversation.system = text
        self._note("from the next turn on" if text else "nothing is told any more")

    def _help(self, _: str) -> None:
        self._note(HELP)

    def _close(self, completion: Completion, seconds: float) -> None:
        """Say how the answer came about, in one line."""
        count = len(completion.tokens)
        parts = [f"{count} tokens in {seconds:.1f} s"]
        if completion.counters.cycles:
            parts.append(f"{completion.counters.cycles:,} cycles")
        if completion.seed is not None:
            parts.append(f"seed {completion.seed}")
        parts.append(f"{completion.prompt_tokens + count} of {self._model.context} tokens of context")
        ends = {"length": "cut off by -n", "context": "the context is full: /reset starts over"}
        if completion.finish_reason in ends:
            parts.append(ends[completion.finish_reason])
        self._note(", ".join(parts))

    def _note(self, text: str) -> None:
        self._terminal.remark(text)


def chat_with(
    model: str,
    *,
    device: str,
    config: str,
    memory: str,
    context: int | None,
    new_tokens: int | None,
    tokens_per_doorbell: int,
    quantise: str | None,
    draft: str | None,
    system: str,
    load: str | None,
    quiet: bool,
    **sampling: Any,
) -> bool:
    """Load a model and chat with it; the parameters are the options of ``tailrace chat``.

    Returns
    -------
    bool
        Whether all lines could be done; of a user at a terminal, who has seen what could not, that is always so.

    Raises
    ------
    TailraceError
        For everything that a user can mend.
    """
    options: Any = {**sampling, "max_tokens": new_tokens}
    terminal = Terminal(quiet)
    with terminal.phase(f"loading {model} into {device}"):
        loaded = load_model(
            model,
            device,
            config=config,
            memory=memory,
            context=context,
            tokens_per_doorbell=tokens_per_doorbell,
            quantise=quantise,
            draft=draft if sampling.get("speculate", True) else False,
            progress=terminal.progress,
        )
    with loaded:
        chat = Chat(loaded, terminal, Path(model).name, options, system)
        if load is not None:
            chat.load(load)
        terminal.remark(f"{Path(model).name} on {device}, a context of {loaded.context} tokens; /help lists the commands")
        return chat.lead(keyboard()) or _at_terminal()


def _line(read: Callable[[str], str]) -> str:
    """What the user says, which may go on over several lines."""
    lines = [read(_PROMPT)]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(read(_MORE))
    return "\n".join(lines)


def keyboard() -> Callable[[str], str]:
    """What reads lines: with editing and history at a terminal, without prompts otherwise."""
    if _at_terminal():
        try:
            import readline  # noqa: F401
        except ImportError:
            pass
        return input

    def read(_: str) -> str:
        line = sys.stdin.readline() if sys.stdin is not None else ""
        if not line:
            raise EOFError
        return line.rstrip("\r\n")

    return read


def _at_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
