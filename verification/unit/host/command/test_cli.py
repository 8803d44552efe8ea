"""The command line: what goes to which output, exit codes, and one message for everything that goes wrong."""

import errno
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tailrace.command.cli import main
from tailrace.command.inspect import described_layer
from tailrace.command.trace import read_trace
from tailrace.firmware.description import Activation, Attention, Experts, FeedForward, Layer, Scores
from tailrace.generation import drafting
from tailrace.generation.depth import Costs
from tailrace.spec.errors import MissingPackage
from verification.unit.host.generation.draft_models import Fixed
from verification.unit.host.tiny_models import write_model, write_undescribed


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def fails(text: str, *arguments: object, code: int = 1) -> None:
    result = invoke(*arguments)
    assert result.output.splitlines()[-len(text.splitlines()) :] == text.splitlines(), result.output
    assert result.stdout == ""
    assert result.exit_code == code


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny.gguf")


@pytest.fixture
def _torch() -> None:
    for name in ("torch", "transformers", "accelerate"):
        pytest.importorskip(name)


def test_help_and_version() -> None:
    for arguments in (["--help"], ["run", "--help"], ["inspect", "-h"], ["devices", "--help"]):
        result = invoke(*arguments)
        assert result.exit_code == 0
        assert "Usage:" in result.stdout
    assert "version" in invoke("--version").stdout


def test_help_imports_nothing_slow() -> None:
    code = "import sys, tailrace.command.cli; print([m for m in ('torch', 'transformers', 'amaranth', 'gguf', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_devices() -> None:
    result = invoke("devices")
    lines = result.stdout.splitlines()
    assert lines[:2] == [
        "devices without hardware: emulator, golden, verilator",
        "configurations of these (--config), and what can be changed in them:",
    ]
    assert lines[2].startswith("  tiny: bus_width=128, ")
    assert lines[3].startswith("  base: ")


def test_inspect(tiny: Path) -> None:
    result = invoke("inspect", tiny)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    row = next(line for line in lines if line.startswith("blk.1.ffn_down.weight")).split()
    assert row[1:] == ["64", "x", "96", "Q8_0", "8.50", "6,528", "layers.1.down"]
    assert lines[0].startswith("llama: 2 layers, hidden size 64, vocabulary 288, trained for 64 tokens; rms norms")
    assert lines[1] == "layers 0-1: 2 heads of 32 on 1 KV heads, RoPE on 32, feed-forward gated SILU of 96"
    areas = [
        "embedding",
        "rope",
        "layers: weights, norms and biases",
        "final norm and head",
        "KV cache: 1 sequences of 64 tokens",
    ]
    places = [
        next(i for i, line in enumerate(lines) if line.strip().endswith(what) and line.lstrip().startswith("0x"))
        for what in areas
    ]
    assert places == sorted(places)
    assert any(line.startswith("bytes per token with 64 tokens in the cache: ") for line in lines)
    assert "GEMV" not in result.stdout


def test_inspect_disassembles_the_program(tiny: Path) -> None:
    result = invoke("inspect", tiny, "--program", "--context", 32)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    sections = [line.strip() for line in lines if line.startswith("        ; ")]
    assert sections[0] == "; start" or sections[0] == "; embedding"
    assert sections[-1] == "; head"
    commands = [line.split() for line in lines if line[:5].strip().isdigit() and line[11:14] == " x "]
    assert [int(c[0]) for c in commands] == list(range(len(commands)))
    # Times that a command runs, times bytes, make up what a token reads.
    total = sum(int(c[1]) * int(c[3].replace(",", "")) for c in commands)
    assert f"bytes per token with 32 tokens in the cache: {total:,} (" in result.stdout
    assert {"GEMV", "ELEMENTWISE", "ROTATE", "APPEND", "STORE"} <= {c[4] for c in commands}


def test_inspect_gives_reasons(tmp_path: Path) -> None:
    path = write_model(
        tmp_path / "m.gguf",
        types={"blk.0.ffn_up.weight": "F64", "blk.0.ffn_gate.weight": "F16"},
        hidden=256,
    )
    result = invoke("inspect", path)
    assert result.exit_code == 1
    assert "refused: blk.0.ffn_up.weight (1): this device does not read F64" in result.stdout
    assert "F16 → Q8_0x3" in result.stdout
    row = next(line for line in result.stdout.splitlines() if line.startswith("blk.0.ffn_up.weight"))
    assert row.split()[-1] == "refused"
    assert "F64 " in result.stdout
    quantised = invoke("inspect", path, "--quantise", "Q8_0")
    assert "F16 → Q8_0" in quantised.stdout


def test_inspect_of_what_does_not_fit(tiny: Path) -> None:
    result = invoke("inspect", tiny, "--memory", "64KiB")
    assert result.exit_code == 1
    assert "which does not fit the 65,536 available" in result.stdout


def test_run_writes_only_text_to_standard_output(tiny: Path) -> None:
    result = invoke("run", tiny, "-p", "Hello", "-n", 5, "--device", "golden", "--config", "tiny")
    assert result.exit_code == 0, result.output
    quiet = invoke("run", tiny, "-p", "Hello", "-n", 5, "--device", "golden", "--config", "tiny", "--quiet")
    assert quiet.stderr == ""
    assert quiet.stdout == result.stdout
    assert "SHA-256" in result.stderr
    assert "after a prompt of 6" in result.stderr
    assert re.search(r"expected +│ [0-9,]+ cycles a token", result.stderr), result.stderr


def test_a_run_with_drafts_is_the_run_without(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same text and the same digest of results, in fewer steps."""
    monkeypatch.setattr(Costs, "of", lambda costs, rows: 1.0)
    arguments = ["run", tiny, "-p", "yes yes yes yes ye", "-n", 30, "--config", "base,right_hand_sides=4", "--raw"]
    for more in ([], ["--temperature", 1, "--seed", 3]):
        with_drafts, without = invoke(*arguments, *more), invoke(*arguments, *more, "--no-speculate")
        assert with_drafts.exit_code == without.exit_code == 0, with_drafts.output
        assert with_drafts.stdout == without.stdout
        digests = [re.search(r"SHA-256 ([0-9a-f]{16})", found.stderr) for found in (with_drafts, without)]
        assert digests[0]
        assert digests[1]
        assert digests[0].group(1) == digests[1].group(1)
        assert "speculation" not in without.stderr
    found = invoke(*arguments).stderr
    counts = re.search(r"(\d+) of (\d+) drafted tokens were right", found)
    assert counts, found
    assert 0 < int(counts.group(1)) <= int(counts.group(2))
    assert re.search(r"expected with drafts +│ [0-9,]+ cycles a token", found), found


def test_a_run_with_a_draft_model_is_the_run_without(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model itself, which is always right: its cycles are among those that are predicted."""
    monkeypatch.setattr(Costs, "of", lambda costs, rows: 1.0)
    monkeypatch.setattr(drafting, "Costs", lambda: Fixed(0.01, 0))
    arguments = ["run", tiny, "-p", "one two", "-n", 30, "--config", "base,right_hand_sides=4", "--raw"]
    drafted, without = invoke(*arguments, "--draft", tiny), invoke(*arguments, "--no-speculate")
    assert drafted.exit_code == without.exit_code == 0, drafted.output
    assert drafted.stdout == without.stdout
    counts = re.search(r"(\d+) of (\d+) drafted tokens were right", drafted.stderr)
    assert counts, drafted.stderr
    assert 15 < int(counts.group(1)) <= int(counts.group(2))
    cycles = [re.search(rf"expected{more} +│ ([0-9,]+) cycles a token", drafted.stderr) for more in ("", " with drafts")]
    assert cycles[0]
    assert cycles[1]
    assert int(cycles[1].group(1).replace(",", "")) > int(cycles[0].group(1).replace(",", ""))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--no-speculate"],
            "--draft is for tokens that are verified together, and --no-speculate verifies none: leave one out",
        ),
        (
            ["--tokens-per-doorbell", 2],
            "--draft is for tokens that the host verifies, and with --tokens-per-doorbell the device goes on by itself: leave one"
            " out",
        ),
    ],
)
def test_a_draft_model_without_drafts(tiny: Path, arguments: list[object], text: str) -> None:
    for command in (["run", tiny, "-p", "a"], ["chat", tiny]):
        result = invoke(*command, "--draft", tiny, *arguments)
        assert result.exit_code == 2
        assert f"Error: {text}\n" in result.stderr
    if "--no-speculate" in arguments:
        result = invoke("serve", tiny, "--draft", tiny, *arguments)
        assert f"Error: {text}\n" in result.stderr


def test_a_draft_model_where_operations_run_one_by_one(tiny: Path) -> None:
    result = invoke("run", tiny, "-p", "a", "--draft", tiny, "--path", "operations")
    assert result.exit_code == 1
    assert result.stderr.endswith(
        "tailrace: --draft is for whole decode steps, and here operations run one by one: leave it out\n"
    )


def test_predicted_cycles_are_those_of_the_build_and_the_memory(tiny: Path) -> None:
    """`inspect` and `run` say the same as the model, and a slower memory takes longer."""
    cycles = {}
    for memory in ("ideal", "ddr4"):
        result = invoke("inspect", tiny, "--context", 32, "--config", "tiny", "--memory-timing", memory, "--clock", 250)
        assert result.exit_code == 0
        lines = [line for line in result.stdout.splitlines() if line.startswith("predicted with ") and "drafts" not in line]
        assert [line.split()[2] for line in lines] == ["0", "31"]
        cycles[memory] = [int(line.split()[7].replace(",", "")) for line in lines]
        speed = f"{250e6 / cycles[memory][0]:,.2f} tokens/s at 250 MHz (model's error at most 0.5%); memory: "
        assert speed in lines[0]
    assert cycles["ideal"][0] < cycles["ideal"][1]
    assert cycles["ideal"] != cycles["ddr4"]


def test_raw_leaves_the_chat_template_out(tiny: Path) -> None:
    result = invoke("run", tiny, "-p", "Hello", "-n", 2, "--device", "golden", "--config", "tiny", "--raw")
    assert result.exit_code == 0
    assert "after a prompt of 5" in result.stderr
    assert "chat template" not in result.stderr


def test_a_model_without_a_chat_template_continues_the_prompt_and_says_so(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", chat_template=None)
    arguments = ["run", path, "-p", "Hello", "-n", 2, "--device", "golden", "--config", "tiny"]
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert f"{path} has no chat template: the prompt is continued as it is, as with --raw\n" in result.stderr
    assert result.stdout == invoke(*arguments, "--raw").stdout


def test_sampling_depends_on_the_seed(tiny: Path) -> None:
    def text(*more: object) -> str:
        options = ["-n", 8, "--device", "golden", "--config", "tiny", "--temperature", 2, "--quiet"]
        return invoke("run", tiny, "-p", "Hello", *options, *more).stdout

    assert text("--seed", 1) == text("--seed", 1)
    assert len({text("--seed", s) for s in range(3)}) > 1


def test_a_seed_that_was_drawn_can_be_given(tiny: Path) -> None:
    arguments = ["run", tiny, "-p", "ab", "-n", 6, "--device", "golden", "--config", "tiny", "--temperature", 2]
    first, second = (invoke(*arguments) for _ in range(2))
    seeds = [re.search(r"with --seed (\d+)", result.stderr) for result in (first, second)]
    assert seeds[0] is not None
    assert seeds[1] is not None
    assert seeds[0][1] != seeds[1][1]
    assert invoke(*arguments, "--seed", seeds[0][1]).stdout == first.stdout
    assert "--seed" not in invoke(*arguments[:-2]).stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--temperature", 1, "--seed", -1), "seed must be a whole number from 0 to 18446744073709551615, not -1"),
        (("--temperature", "nan"), "temperature must be 0, for the best token, or from 1e-06 to 1e+06, not nan"),
        (("--temperature", "1e-310"), "temperature must be 0, for the best token, or from 1e-06 to 1e+06, not 1e-310"),
        (("--temperature", 1, "--top-p", "nan"), "top_p must be above 0 and at most 1, not nan"),
        (("--top-p", 0.5), "top_p chooses what is drawn from, and nothing is drawn without a temperature: give one"),
        (("--stop", ""), "a stop string must be some text, not ''"),
    ],
)
def test_sampling_out_of_range_is_a_usage_error(options: tuple[object, ...], text: str, tiny: Path) -> None:
    result = invoke("run", tiny, "-p", "ab", "--device", "golden", *options)
    assert result.exit_code == 2
    assert f"Error: {text}\n" in result.stderr


def test_an_answer_ends_before_a_stop_string(tiny: Path) -> None:
    arguments = ["run", tiny, "-p", "ab", "-n", 8, "--device", "golden", "--config", "tiny", "--quiet"]
    whole = invoke(*arguments).stdout.removesuffix("\n")
    assert len(whole) > 3
    assert invoke(*arguments, "--stop", whole[2:4], "--stop", "no such text").stdout == whole[: whole.index(whole[2:4])] + "\n"


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_empty_prompt(tiny: Path, prompt: str) -> None:
    fails("tailrace: the prompt is empty: give some text with -p", "run", tiny, "-p", prompt)


def test_context_that_overflows(tiny: Path) -> None:
    text = "tailrace: the prompt has 6 tokens and 60 more were asked for, but the model's context is 64: ask for at most 58 with -n"
    fails(text, "run", tiny, "-p", "Hello", "-n", 60, "--device", "golden")
    text = "tailrace: the prompt has 81 tokens and 1 more were asked for, but the model's context is 64: shorten it"
    fails(text, "run", tiny, "-p", "x" * 80, "-n", 1, "--device", "golden")


def test_bad_models(tmp_path: Path, tiny: Path) -> None:
    missing = tmp_path / "no.gguf"
    text = f"tailrace: {missing} does not exist: give the path of a GGUF file, or 'smollm2' or 'shakespeare'"
    fails(text, "run", missing, "-p", "x")
    fails(text, "inspect", missing)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny.read_bytes()[:-30000])
    result = invoke("run", cut, "-p", "x")
    assert result.exit_code == 1
    assert f"tailrace: {cut} is truncated: " in result.stderr
    by_operations = write_undescribed(tmp_path / "s.gguf")
    reason = "its heads have 36 elements, which is not a multiple of 8"
    fails(
        f"tailrace: {by_operations} can't be decoded as a whole: {reason}", "run", by_operations, "-p", "x", "--path", "decoder"
    )


@pytest.mark.parametrize("name", ["falcon", "foo", "[/x]", "mamba[link=http://x]", "\x1b[31m", "ü"])
def test_unknown_architectures_are_refused_at_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without asking for PyTorch first."""
    monkeypatch.setitem(sys.modules, "torch", None)
    path = write_model(tmp_path / "m.gguf", name)
    shown = name.replace("\x1b", "\\x1b")
    text = (
        f"tailrace: {path} can't be run: its architecture '{shown}' is not known here: `tailrace models` lists those that are"
    )
    for path_option in ("auto", "decoder", "operations"):
        fails(text, "run", path, "-p", "x", "--path", path_option)
    fails(text, "inspect", path)


@pytest.mark.parametrize("name", ["[/x]", "blk.0.[/red]x", "[link=http://x]", "ü \x1b[31m", "a\nb"])
def test_names_of_tensors_and_files_are_text(name: str, tmp_path: Path) -> None:
    shown = name.replace("\x1b", "\\x1b").replace("\n", "\\n")
    path = write_model(tmp_path / "tiny[q4][link=x]ü.gguf", extra={name: np.zeros(32)})
    text = f"{path} can't be run: it has tensors that no other llama model has that is known here, such as {shown}, so its results would be wrong"
    fails(f"tailrace: {text}", "run", path, "-p", "x")
    fails(f"tailrace: {text}", "inspect", path)
    good = write_model(path)
    result = invoke("run", good, "-p", "x", "--raw", "-n", "1", "--device", "golden")
    assert "importing tiny[q4][link=x]ü.gguf …" in result.stderr
    strange = write_model(tmp_path / "\x1b[31m.gguf", "foo")
    assert invoke("inspect", strange).stderr.startswith(f"tailrace: {tmp_path}/\\x1b[31m.gguf can't be run: ")


def test_inspect_by_operations_shows_names_as_they_are(tmp_path: Path) -> None:
    path = write_undescribed(tmp_path / "m.gguf", extra={"[/x]": np.zeros(32), "[link=http://x]\x1b": np.zeros(32)})
    output = invoke("inspect", path).stdout
    assert "[/x]" in output
    assert "[link=http://x]\\x1b" in output
    assert "\x1b" not in output


def test_refusals_come_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    path = write_model(
        tmp_path / "m.gguf",
        types={"blk.0.ffn_up.weight": "F64"},
        hidden=256,
    )
    result = invoke("run", path, "-p", "x")
    assert result.exit_code == 1
    assert "can't run on this device: 1 of its matrices are refused." in result.stderr
    result = invoke("run", write_model(path), "-p", "x", "--memory", "64K")
    assert "bytes of device memory, but only 65536 are available: " in result.stderr
    assert "Use a device with more memory (a simulated one takes what is needed: --memory auto)" in result.stderr


def test_without_torch(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in ("torch", "accelerate") else find(name, *a)
    )
    text = f"tailrace: {MissingPackage('torch, accelerate', 'to run models on the host', 'torch')}"
    fails(text, "run", tiny, "-p", "x", "--path", "operations")
    fails(text, "run", tiny, "-p", "x", "--prefill", "torch")
    assert invoke("inspect", tiny).exit_code == 0


def test_a_run_imports_neither_torch_nor_transformers(tiny: Path) -> None:
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] in ('torch', 'transformers', 'accelerate', 'amaranth', 'pyosys', 'sentencepiece'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from tailrace.__main__ import main\n"
        "main()"
    )
    arguments = ["run", str(tiny), "-p", "Hello", "-n", "3", "--device", "golden", "--config", "tiny", "-q"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == invoke(*arguments).stdout


def test_a_run_of_tokens_with_one_doorbell(tiny: Path) -> None:
    arguments = ["run", tiny, "-p", "Hello", "-n", 5, "--device", "golden", "--config", "tiny"]
    single, several = invoke(*arguments), invoke(*arguments, "--tokens-per-doorbell", 4)
    assert several.stdout == single.stdout
    assert "5 doorbells" in single.stderr
    assert "2 doorbells" in several.stderr
    assert invoke(*arguments, "--tokens-per-doorbell", 4, "--temperature", 1).exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--temperature", 1)])
def test_a_trace_names_the_commands_that_ran(options: tuple[object, ...], tiny: Path, tmp_path: Path) -> None:
    """Those of the program that lets the device choose, or of the one that hands its logits over."""
    arguments = ["run", tiny, "-p", "Hi", "-n", 1, "--device", "verilator", "--config", "tiny", "--trace", tmp_path / "t.json"]
    result = invoke(*arguments, *options)
    assert result.exit_code == 0, result.output
    names = {name for spans in read_trace(tmp_path / "t.json").spans.values() for name, _, _ in spans}
    assert not [name for name in names if name.startswith("command ")]
    assert any(name.endswith("next token") for name in names) is not bool(options)


def test_room_for_the_context(tiny: Path) -> None:
    arguments = ["run", tiny, "-p", "Hello", "--device", "golden", "--config", "tiny"]
    text = "tailrace: the prompt has 6 tokens and 9 more were asked for, but the context is 8: ask for at most 2 with -n"
    fails(text, *arguments, "-n", 9, "--context", 8)
    fails(
        f"tailrace: {tiny} was made for a context of 64 tokens: ask for 1 to 64, not 65",
        *arguments,
        "--context",
        65,
    )
    assert invoke(*arguments, "-n", 2, "--context", 8).exit_code == 0


def test_build_and_memory_are_those_that_the_model_needs(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", context=1 << 14)
    short = invoke("run", path, "-p", "Hello", "-n", 2, "--device", "golden")
    assert (
        "taken: configuration base, the smallest that takes this model with this context; 1MiB of device memory" in short.stderr
    )
    assert "golden, configuration base (128-bit bus)" in short.stderr
    long = invoke(
        "run", path, "-p", "Hello", "-n", 2, "--device", "golden", "--context", 10_000, "--config", "auto", "--memory", "1GiB"
    )
    assert "taken: configuration base, the smallest that takes this model with this context\n" in long.stderr
    assert long.stdout == short.stdout
    asked = invoke("run", path, "-p", "Hello", "-n", 2, "--device", "golden", "--config", "tiny", "--memory", "1GiB")
    assert "taken" not in asked.stderr
    quiet = invoke("run", path, "-p", "Hello", "-n", 2, "--device", "golden", "-q")
    assert (quiet.stderr, quiet.stdout) == ("", short.stdout)


def test_inspect_says_which_build_takes_the_model(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", context=1 << 14)
    lines = invoke("inspect", path).stdout.splitlines()
    (line,) = [
        line for line in lines if line.startswith("configuration base, the smallest that takes this model with this context:")
    ]
    assert line.endswith("its longest context here is 16,384 tokens")
    assert invoke("inspect", path, "--config", "base", "--context", 1 << 14).exit_code == 0
    small = "base,buffer_entries=2048"
    result = invoke("inspect", path, "--config", small, "--context", 2048)
    found = re.search(
        r"The longest context of this model on this device is (\d+) tokens, and a build that takes 2048 is base \(--config base\)$",
        result.output.splitlines()[-1],
    )
    assert found is not None, result.output
    assert result.exit_code == 1
    assert invoke("inspect", path, "--config", small, "--context", found[1]).exit_code == 0
    assert any(line.startswith("device memory: ") and line.endswith(" bytes needed") for line in lines)
    fails_with = invoke("inspect", path, "--context", (1 << 14) + 1)
    assert fails_with.output.splitlines() == [
        f"tailrace: {path} was made for a context of 16384 tokens: ask for 1 to 16384, not 16385"
    ]


LONG_ROPE = {
    "context": 128,
    "metadata": {"llama.rope.scaling.type": "longrope", "llama.rope.scaling.original_context_length": 64},
    "extra": {"rope_factors_short.weight": np.ones(16), "rope_factors_long.weight": np.full(16, 4.0)},
}


def test_long_rope_goes_by_the_context_in_use(tmp_path: Path) -> None:
    """Prompt and answer are short: so are the factors, unless a longer context is asked for."""
    path = write_model(tmp_path / "m.gguf", **LONG_ROPE)
    plain = write_model(tmp_path / "plain.gguf", context=128)
    arguments = ["-p", "Hello there", "-n", 12, "--device", "golden", "--config", "tiny"]
    short = invoke("run", path, *arguments)
    assert short.exit_code == 0, short.output
    for same in (invoke("run", path, *arguments, "--context", n) for n in (32, 64)):
        assert digest(same) == digest(short)
    assert digest(invoke("run", plain, *arguments)) == digest(short)
    assert digest(invoke("run", path, *arguments, "--context", 65)) != digest(short)


@pytest.mark.usefixtures("_torch")
@pytest.mark.parametrize("context", [40, 100])
def test_torch_and_device_compute_the_prompt_alike(tmp_path: Path, context: int) -> None:
    """With short factors and with long ones."""
    path = write_model(tmp_path / "m.gguf", **LONG_ROPE)
    arguments = ["-p", "Hello there, how are", "-n", 8, "--device", "golden", "--config", "tiny", "--context", context]
    device = invoke("run", path, *arguments)
    assert device.exit_code == 0, device.output
    assert invoke("run", path, *arguments, "--prefill", "torch").stdout == device.stdout


def digest(result: Result) -> str:
    """The digest of the results in the closing table."""
    return re.search(r"SHA\S* +(\S+)", result.stderr)[1]  # type: ignore[index]


@pytest.mark.usefixtures("_torch")
def test_operations_one_by_one(tiny: Path) -> None:
    """The same text, but from the linear layers only; what no description fits goes this way by itself, and says so."""
    arguments = ["run", tiny, "-p", "Hello", "-n", 5, "--device", "golden", "--config", "tiny"]
    whole, single = invoke(*arguments), invoke(*arguments, "--path", "operations")
    assert single.exit_code == 0, single.output
    assert single.stdout == whole.stdout
    assert "linear layers only, the rest on the host" in single.stderr
    assert invoke(*arguments, "--prefill", "torch").stdout == whole.stdout
    write_undescribed(tiny.with_name("other.gguf"))
    other = invoke("run", tiny.with_name("other.gguf"), "-p", "Hello", "-n", 2, "--device", "golden", "--raw")
    assert other.exit_code == 0, other.output
    assert "its heads have 36 elements, which is not a multiple of 8" in other.stderr
    assert "So only its linear layers run on the device" in other.stderr
    assert "linear layers only, the rest on the host" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--config", "huge"], "unknown configuration 'huge': choose one of tiny, base, large, wide, arty, kv260, u280-hbm"),
        (["--config", "base,bus_width=100"], "bus_width must be one of (128, 256, 512), not 100"),
        (["--memory", "much"], "'much' is not a size of memory: write it like 512MiB or 1GiB"),
    ],
)
def test_bad_options(tiny: Path, arguments: list[str], text: str) -> None:
    fails(f"tailrace: {text}", "run", tiny, "-p", "x", *arguments)


def test_the_wave_is_checked_before_anything_else() -> None:
    fails(
        "Error: Invalid value for '--wave': 'w.vcd:9:3' is not a waveform file with a window of cycles:"
        " write it like wave.vcd or wave.vcd:1000:2000",
        *("run", "none.gguf", "-p", "x", "--device", "verilator", "--wave", "w.vcd:9:3"),
        code=2,
    )
    fails(
        "Error: Invalid value for '--trace': /none/t.json can't be written: No such file or directory",
        *("run", "none.gguf", "-p", "x", "--device", "verilator", "--trace", "/none/t.json"),
        code=2,
    )


def test_prompt_on_standard_input(tiny: Path) -> None:
    arguments = ["run", str(tiny), "--device", "golden", "--config", "tiny", "--raw", "-n", "3"]
    given = CliRunner().invoke(main, [*arguments, "-p", "Grüße"])
    piped = CliRunner().invoke(main, arguments, input="Grüße\n".encode())
    assert given.exit_code == 0, given.output
    assert piped.stdout == given.stdout


def test_usage_errors() -> None:
    for arguments in (
        ["run", "m", "-p", "x", "-f", "y"],
        ["run", "m", "-p", "x", "-n", "0"],
        ["run", "m", "-p", "x", "--device", "gpu"],
        ["nothing"],
    ):
        assert invoke(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, "tailrace: interrupted\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x"),
            1,
            "tailrace: No space left on device (/x): free some space\n",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            "tailrace: No space left on device: free some space where the output goes and in"
            f" {tempfile.gettempdir()}, or set TMPDIR to a folder on another disk\n",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "tailrace: Permission denied (/x)\n"),
        (
            MemoryError(),
            1,
            "tailrace: this machine has not enough memory: choose a smaller model or give the device less with --memory\n",
        ),
    ],
)
def test_errors_from_below(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("tailrace.command.inspect.open_model", fail)
    result = invoke("inspect", "model.gguf")
    assert (result.exit_code, result.stderr, result.stdout) == (code, text, "")


def test_reader_that_goes_away(tmp_path: Path) -> None:
    tiny = write_model(tmp_path / "m.gguf", layers=200)  # more text than a pipe holds
    command = f"{sys.executable} -m tailrace inspect {tiny} | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("l1\n", "")


def test_closed_outputs(tmp_path: Path) -> None:
    """What is written to an output that the caller has closed is lost, and nothing else happens."""
    tiny = write_model(tmp_path / "m.gguf")
    for closed, kept in (("1>&-", ""), ("2>&-", "token_embd.weight")):
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m tailrace inspect {tiny} {closed}"], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert kept in done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("option", ["--help", "--version", "run --help", "devices"])
def test_output_that_can_not_be_written(option: str, unbuffered: str) -> None:
    """Also where it is written at exit, as Python buffers it unless the environment says otherwise."""
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m tailrace {option} >/dev/full"], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch("tailrace: No space left on device: free some space where .*\n", done.stderr)


def test_terminated() -> None:
    """SIGTERM ends the program by an exception, so that nothing half-written stays."""
    code = "import os, signal, sys; from tailrace import __main__; from tailrace.command import cli\n"
    code += "cli.main = lambda **_: os.kill(os.getpid(), signal.SIGTERM)\n"
    code += "try: __main__.main()\nfinally: print('cleaned up')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (143, "cleaned up\n", "")


def test_no_model_is_named() -> None:
    result = invoke("inspect", "")
    assert (result.exit_code, result.stderr) == (1, "tailrace: no model is named: give a GGUF file, smollm2 or shakespeare\n")


def test_interrupt_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """A real Ctrl-C, while the golden device works."""
    path = write_model(tmp_path / "m.gguf", context=4096, layers=8)
    arguments = [sys.executable, "-m", "tailrace", "run", str(path), "-p", "x", "-n", "4000", "--device", "golden"]
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts us in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stderr is not None
        while "uploading" not in (line := process.stderr.readline()):
            assert line, "ended before it decoded"
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert stderr.endswith("tailrace: interrupted\n")
    assert "Traceback" not in stderr


def test_on_a_terminal_the_text_still_goes_to_standard_output_alone(tiny: Path) -> None:
    """Standard error is a terminal, with its live display; standard output is a file."""
    main_end, terminal_end = pty.openpty()
    arguments = [sys.executable, "-m", "tailrace", "run", str(tiny), "-p", "Hello", "-n", "5", "--device", "golden"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=terminal_end, env=environment)
    os.close(terminal_end)
    shown = b""
    try:
        while chunk := os.read(main_end, 4096):
            shown += chunk
    except OSError:
        pass  # Linux ends a terminal's output this way.
    finally:
        os.close(main_end)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    assert text.decode() == invoke(*arguments[3:], "--quiet").stdout
    assert b"token 1 of 5: " in shown
    assert b"decode steps on the device" in shown


@pytest.mark.parametrize(
    ("experts", "text"),
    [
        (Experts(8, 2, FeedForward(96, Activation.SILU)), ["2 of 8 experts, each gated SILU of 96"]),
        (
            Experts(16, 4, FeedForward(64, Activation.SILU), False, Scores.SIGMOID, 2.5, 4, 2, FeedForward(96, Activation.SILU), True),
            [
                "4 of 16 experts in 2 of 4 groups, each gated SILU of 64", "scored by a sigmoid", "weights not normalised",
                "weights times 2.5", "a shared expert of 96 with a gate",
            ],
        ),
    ],
)  # fmt: skip
def test_what_is_said_of_experts(experts: Experts, text: list[str]) -> None:
    assert described_layer(Layer(Attention(4, 2, 32, 1.0), experts)) == ", ".join(["4 heads of 32 on 2 KV heads", *text])
