"""Chats in the terminal: turns, streams, interruptions, commands."""

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import tailrace
from tailrace.command.chat import HELP, Chat
from tailrace.command.cli import main
from tailrace.command.terminal import Terminal
from tailrace.spec.errors import ModelError
from verification.unit.host.tiny_models import write_model


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1, context=256)


@pytest.fixture(scope="module")
def lm(path: Path) -> Iterator[tailrace.LanguageModel]:
    with tailrace.load(path) as model:
        yield model


def new_chat(lm: tailrace.LanguageModel, max_tokens: int = 4) -> Chat:
    return Chat(lm, Terminal(), "tiny.gguf", {"max_tokens": max_tokens})


def lines(*said: str | type[BaseException]) -> Callable[[str], str]:
    """A user who types these lines, or keys that raise, and then leaves."""
    left = list(said)

    def read(_: str) -> str:
        if not left:
            raise EOFError
        line = left.pop(0)
        if isinstance(line, str):
            return line
        raise line

    return read


def test_turns_are_the_models_own(lm: tailrace.LanguageModel, capsys: pytest.CaptureFixture[str]) -> None:
    chat = new_chat(lm)
    chat.lead(lines("Hi", "And\\", "you?", "//x"))
    messages, answers = [], []
    for said in ("Hi", "And\nyou?", "/x"):
        messages.append({"role": "user", "content": said})
        answers.append(lm.chat(messages, max_tokens=4).text)
        messages.append({"role": "assistant", "content": answers[-1]})
    assert chat.conversation.messages() == messages
    shown = capsys.readouterr()
    assert shown.out == "".join(a if a.endswith("\n") else f"{a}\n" for a in answers)
    assert "cut off by -n" in shown.err


def test_system_prompt_undo_and_reset(lm: tailrace.LanguageModel, capsys: pytest.CaptureFixture[str]) -> None:
    chat = new_chat(lm)
    chat.lead(lines("/system Be terse.", "Hi", "Ho", "/undo"))
    assert chat.conversation.messages()[0] == {"role": "system", "content": "Be terse."}
    assert [said for said, _ in chat.conversation.turns] == ["Hi"]
    assert "taken back: Ho" in capsys.readouterr().err
    chat.lead(lines("/reset", "/system", "/undo"))
    assert chat.conversation.messages() == []
    assert "nothing has been said yet" in capsys.readouterr().err


def test_unknown_commands_and_keys(lm: tailrace.LanguageModel, capsys: pytest.CaptureFixture[str]) -> None:
    chat = new_chat(lm)
    chat.lead(lines("/foo", "", "  ", KeyboardInterrupt, "/help", "/exit", "never said"))
    assert chat.conversation.turns == []
    assert capsys.readouterr().err == (
        "there is no /foo: /help lists what there is; // begins a line with a slash\n"
        f"Ctrl-D or /exit leaves; /help lists what else there is\n{HELP}\n"
    )


def test_an_interrupted_answer_stays_as_far_as_it_went(
    lm: tailrace.LanguageModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    chat = Chat(lm, terminal, "tiny.gguf", {"max_tokens": 12})
    whole = lm.chat("Hi", max_tokens=12).text
    write, written = terminal.write, []

    def interrupted(text: str) -> None:
        write(text)
        written.append(text)
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(terminal, "write", interrupted)
    chat.lead(lines("Hi"))
    said = "".join(text for text in written[:3])
    assert chat.conversation.turns == [("Hi", said)]
    assert whole.startswith(said)
    assert "interrupted\n" in capsys.readouterr().err
    monkeypatch.setattr(terminal, "write", write)
    chat.lead(lines("Ho"))
    messages = [*exchange("Hi", said), {"role": "user", "content": "Ho"}]
    assert chat.conversation.turns[1][1] == lm.chat(messages, max_tokens=12).text


def exchange(said: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]


@pytest.mark.parametrize(
    ("said", "note"),
    [("Hi", "interrupted before there was an answer: it is as if nothing had been said\n"), ("/undo", "interrupted\n")],
)
def test_interrupted_where_nothing_is_computed(
    lm: tailrace.LanguageModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], said: str, note: str
) -> None:
    """While the tokenizer is loaded, and in a command: the chat goes on."""
    chat = new_chat(lm)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lm.tokenizer, "encode_chat", interrupt)
        patch.setitem(chat._commands, "/undo", interrupt)
        chat.lead(lines(said))
    assert capsys.readouterr().err == note
    assert chat.conversation.turns == []
    chat.lead(lines("Hi"))
    assert len(chat.conversation.turns) == 1


def test_interrupted_before_the_answer(
    lm: tailrace.LanguageModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = new_chat(lm)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(chat._terminal, "progress", interrupt)
        chat.lead(lines("Hi"))
    assert chat.conversation.turns == []
    assert "interrupted before there was an answer" in capsys.readouterr().err
    chat.lead(lines("Hi"))
    assert len(chat.conversation.turns) == 1


def test_saved_and_loaded(lm: tailrace.LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chat = new_chat(lm)
    name = str(tmp_path / "talk")
    chat.lead(lines("Hi", f"/save {name}", "/reset", "/load", "/save", f"/load {name}x"))
    shown = capsys.readouterr().err
    assert "which one? /load NAME" in shown
    assert "under which name? /save NAME" in shown
    assert f"{name}x.json can't be read" in shown
    other = new_chat(lm)
    other.lead(lines(f"/load {name}", "Ho"))
    chat.lead(lines(f"/load {name}", "Ho"))
    assert other.conversation == chat.conversation
    assert [said for said, _ in chat.conversation.turns] == ["Hi", "Ho"]
    # Without what was computed it is computed again, and says so.
    (tmp_path / "talk.npz").unlink()
    capsys.readouterr()
    other.lead(lines(f"/load {name}", "Ho"))
    assert "will be computed again" in capsys.readouterr().err
    assert other.conversation == chat.conversation


def test_a_full_context_is_told(lm: tailrace.LanguageModel, capsys: pytest.CaptureFixture[str]) -> None:
    chat = new_chat(lm)
    chat.lead(lines("x" * 400))
    assert "; or /reset starts over" in capsys.readouterr().err
    assert chat.conversation.turns == []


def test_no_chat_template(tmp_path: Path) -> None:
    with tailrace.load(write_model(tmp_path / "m.gguf", chat_template=None, layers=1)) as model:
        with pytest.raises(ModelError) as error:
            Chat(model, Terminal(), "m.gguf", {})
    assert str(error.value) == "m.gguf has no chat template, so it can't chat: continue a text with tailrace run"


def test_turns_on_standard_input(path: Path) -> None:
    result = CliRunner().invoke(main, ["chat", str(path), "-n", "3", "-q"], input="Grüße\n/undo\nHo\n")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    with tailrace.load(path) as model:
        texts = [model.chat(said, max_tokens=3).text for said in ("Grüße", "Ho")]
    assert result.stdout == "".join(t if t.endswith("\n") else f"{t}\n" for t in texts)


def test_what_could_not_be_done_is_told_and_fails_a_script(path: Path, tmp_path: Path) -> None:
    """Even where nothing else is told; the other lines are done."""
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    name = f"{tmp_path}/none/x"
    cases = {
        f"/save {name}": f"{name}.json can't be written: No such file or directory",
        "/save a\0b": "a\\x00b.json can't be written: embedded null byte",
        f"/save {tmp_path}/folder": f"{tmp_path}/folder.json is not a file: name one, or a new one",
        f"/load {tmp_path}/pipe": f"{tmp_path}/pipe.json is no conversation that /save has written: it is not a file",
        "/none": "there is no /none: /help lists what there is; // begins a line with a slash",
    }
    said = "".join(f"{line}\n" for line in cases)
    result = CliRunner().invoke(main, ["chat", str(path), "-n", "3", "-q"], input=f"{said}Hi\n")
    assert result.stderr == "".join(f"{text}\n" for text in cases.values())
    assert result.stdout != ""
    assert result.exit_code == 1
    assert sorted(f.name for f in tmp_path.iterdir()) == ["folder.json", "pipe.json"]


def test_lines_that_are_not_utf8(path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "tailrace", "chat", str(path), "-n", "3", "-q"]
    done = subprocess.run(command, input=b"caf\xe9\n/system \xff\nHi\n", capture_output=True, env=environment, check=False)
    refused = "the prompt is not UTF-8: after {} characters there is the byte {}. Give it as UTF-8.\n"
    assert done.stderr.decode() == refused.format(3, "0xe9") + refused.format(0, "0xff")
    with tailrace.load(path) as model:
        assert done.stdout.decode().rstrip("\n") == model.chat("Hi", max_tokens=3).text.rstrip("\n")
    done = subprocess.run([*command, "--system", os.fsdecode(b"\xff")], input=b"Hi\n", capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == "tailrace: " + refused.format(0, "0xff")


def test_nobody_reads_the_answers(path: Path) -> None:
    """It ends at once, rather than to answer what is left."""
    command = f"yes Hi | head -n 10000 | {sys.executable} -m tailrace chat {path} -q"
    done = subprocess.run(["bash", "-c", f"{command} >/dev/full"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("tailrace: No space left on device: ")
    command = f"{command} | head -c 1 >/dev/null; echo ${{PIPESTATUS[2]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_bad_options(path: Path) -> None:
    result = CliRunner().invoke(main, ["chat", str(path), "--temperature", "nan"])
    assert result.exit_code != 0
    assert "temperature" in result.stderr.splitlines()[-1]


def own_terminal() -> None:
    """Make standard input the terminal whose Ctrl-C is heard, also where a shell in the background has the tests ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_control_c_at_a_terminal(path: Path) -> None:
    """A real Ctrl-C in the middle of an answer, then the chat goes on."""
    main_end, terminal_end = pty.openpty()
    process = subprocess.Popen(
        # On golden, where an answer takes long enough to be interrupted.
        [sys.executable, "-m", "tailrace", "chat", str(path), "--device", "golden"],
        stdin=terminal_end,
        stdout=terminal_end,
        stderr=terminal_end,
        env={**os.environ, "TERM": "dumb"},
        start_new_session=True,
        preexec_fn=own_terminal,
    )
    os.close(terminal_end)
    shown = b""

    def until(text: bytes) -> None:
        nonlocal shown
        end = time.monotonic() + 60
        while text not in shown:
            assert time.monotonic() < end, shown.decode(errors="replace")
            if select.select([main_end], [], [], 1)[0]:
                shown += os.read(main_end, 4096)
        shown = shown[shown.index(text) + len(text) :]

    try:
        until(b"> ")
        os.write(main_end, b"Hello\n")
        time.sleep(1.0)
        os.write(main_end, b"\x03")
        until(b"interrupted")
        until(b"> ")
        os.write(main_end, b"/exit\n")
        assert process.wait(30) == 0
    finally:
        process.kill()
        os.close(main_end)
