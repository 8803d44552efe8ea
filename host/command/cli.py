"""The command line. Everything slow is imported by the command that needs it."""

import errno
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from tailrace.sim.memory_models import MEMORIES
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import TailraceError

from ..gguf.printable import printable_lines
from ..transports.open import is_hardware
from .cli_options import CONFIG, DRAFT, MEMORY, QUANTISE
from .device_option import DeviceName, refuse_what_the_device_ignores
from .finite_range import FiniteRange
from .grammar_options import GRAMMAR, given_grammar, grammar_options
from .grouped_help import GroupedCommand, WholeSummaries
from .output_file import OutputFile
from .prompt_text import read_prompt
from .sampling_options import SAMPLING, check_choice, sampling_options
from .waveform import WaveFile
from .without_effect import given, refuse


class Commands(WholeSummaries):
    """Commands whose errors are one message and an exit code, never a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, those of other modules too."""
        others = ("bench", "build", "cache", "doctor", "eval", "export", "export-hf", "models", "plan", "serve")
        return sorted([*super().list_commands(ctx), *others])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Find a command; the measurements are imported when they are asked for."""
        if name == "bench":
            from ..benchmark.command import bench

            return bench
        if name == "build":
            from ..fpga.command import build

            return build
        if name == "cache":
            from .cache import cache

            return cache
        if name == "doctor":
            from ..doctor.command import doctor

            return doctor
        if name == "eval":
            from ..evaluation.command import evaluate

            return evaluate
        if name == "export-hf":
            from ..export.hugging_face_command import export_hf

            return export_hf
        if name == "export":
            from ..export.command import export

            return export
        if name == "models":
            from .models import models

            return models
        if name == "plan":
            from ..plan.command import plan

            return plan
        if name == "serve":
            from ..server.command import serve

            return serve
        return super().get_command(ctx, name)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the program; what --help and --version write, they write before there is a command."""
        try:
            try:
                return super().main(*args, **extra)
            finally:
                # What is still in Python's buffer could not be told any more when it is written at exit.
                sys.stdout.flush()
        except BrokenPipeError:
            _drop_output()
            sys.exit(1)
        except OSError as error:
            _drop_output()
            click.echo(f"tailrace: {printable_lines(_system_error(error))}", err=True)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except TailraceError as error:
            message, code = str(error), error.exit_code
        except KeyboardInterrupt:
            message, code = "interrupted", 130
        except BrokenPipeError:
            _drop_output()
            message, code = "", 1
        except MemoryError:
            message, code = (
                "this machine has not enough memory: choose a smaller model or give the device less with --memory",
                1,
            )
        except OSError as error:
            message, code = _system_error(error), 1
            _drop_output()
        if message:
            click.echo(f"tailrace: {printable_lines(message)}", err=True)
        ctx.exit(code)


def _drop_output() -> None:
    """Let go of what can't be written: nobody reads it, or the disk is full. Python would complain again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _system_error(error: OSError) -> str:
    """What the system says, where, and what to do; a write to a full disk does not know its file."""
    place = f" ({error.filename})" if error.filename else ""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror or error}{place}"
    where = "" if place else f" where the output goes and in {tempfile.gettempdir()}, or set TMPDIR to a folder on another disk"
    return f"{error.strerror}{place}: free some space{where}"


_tokens_per_doorbell = click.option(
    "--tokens-per-doorbell",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Tokens that the device chooses on its own before the host looks.",
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tailrace")
def main() -> None:
    """Tailrace: a decode co-processor for large language models.

    MODEL is a GGUF file, or a folder of Hugging Face with safetensors, or smollm2, which fetches SmolLM2-135M-Instruct
    (93 MB) once and keeps it, or shakespeare, a model of 1 MB that comes with Tailrace.
    """


#: The options of `run` under their headings.
_RUN_GROUPS = {
    "Prompt and answer": ("prompt", "file", "raw", "new_tokens", "context", "quiet"),
    "Choice of tokens": (*SAMPLING, *GRAMMAR),
    "Device": ("device", "config", "memory", "tokens_per_doorbell", "clock", "threads", "optimise"),
    "Model": ("draft", "path", "prefill", "torch_device", "torch_dtype", "quantise", "allow_host"),
    "Cycles": ("memory_timing", "latency", "bandwidth", "wave", "trace"),
}


@main.command(cls=GroupedCommand, groups=_RUN_GROUPS)
@click.argument("model")
@click.option("-p", "--prompt", help="What to ask; without it the prompt is read from a file, or from standard input.")
@click.option("-f", "--file", metavar="FILE", help="Read the prompt from this file (UTF-8); - is standard input.")
@click.option("-n", "--new-tokens", type=click.IntRange(min=1), default=32, show_default=True, help="Tokens to generate.")
@click.option(
    "--device",
    type=DeviceName(),
    default="emulator",
    show_default=True,
    help="emulator: the device's instructions in native code; golden: the same in numpy; verilator: the gateware, simulated,"
    " with the same bits, and cycles; or hardware, such as serial:/dev/ttyUSB0, xdma:/dev/xdma0,memory=4GiB,"
    " uio:/dev/uio0,memory=udmabuf0 or litex:build/csr.csv.",
)
@CONFIG
@MEMORY
@click.option(
    "--path",
    type=click.Choice(["auto", "decoder", "operations"]),
    default="auto",
    show_default=True,
    help="decoder: whole decode steps on the device; operations: linear layers one by one, the rest in PyTorch; auto: decoder"
    " where a description fits the model.",
)
@click.option(
    "--prefill",
    type=click.Choice(["device", "torch"]),
    default="device",
    show_default=True,
    help="What computes the prompt: the device, token by token, or PyTorch, which hands its KV cache over.",
)
@click.option(
    "--torch-device",
    metavar="NAME",
    default="auto",
    show_default=True,
    help="Where PyTorch computes, such as cuda:1 or cpu; auto: cuda if there is one.",
)
@click.option(
    "--torch-dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Type of PyTorch's copy of the model; auto: float32 on the CPU, elsewhere 16 bits.",
)
@click.option(
    "--context",
    type=click.IntRange(min=1),
    help="Tokens that the KV cache has room for; without it as many as prompt and answer need.",
)
@_tokens_per_doorbell
@click.option("--raw", is_flag=True, help="Continue the prompt as it is, without the model's chat template.")
@sampling_options
@grammar_options
@click.option(
    "--memory-timing",
    type=click.Choice(MEMORIES),
    default="ideal",
    show_default=True,
    help="Memory that cycles are simulated or predicted for: ideal has a fixed latency and bandwidth, the others are DRAM"
    " channels as wide as the bus.",
)
@click.option("--latency", type=click.IntRange(min=1), default=100, show_default=True, help="Cycles of the ideal memory.")
@click.option(
    "--bandwidth",
    type=FiniteRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Beats per cycle of the ideal memory.",
)
@click.option(
    "--clock",
    type=FiniteRange(min=0, min_open=True),
    default=100.0,
    show_default=True,
    help="MHz to state a speed for; of hardware, its own.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads of the device; without it 1 of the simulation, and as many as there are processors of the emulator.",
)
@click.option(
    "--optimise",
    is_flag=True,
    help="Compile the simulation twice, the second time for how it runs: for long runs, which take a tenth to a quarter less.",
)
@click.option(
    "--wave",
    type=WaveFile(),
    metavar="FILE[:FROM:TO]",
    help="Write a waveform (VCD) of these cycles, by default the first 10,000.",
)
@click.option(
    "--trace",
    type=OutputFile(),
    metavar="FILE",
    help="Write a timeline of the first doorbell's commands and stalls, for Perfetto and plot.",
)
@QUANTISE
@DRAFT
@click.option("--allow-host", is_flag=True, help="Run what the device refuses on the host; the closing table names it.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no closing table.")
def run(**options: Any) -> None:
    """Answer a prompt, decoding on the device.

    The generated text alone goes to standard output.
    """
    context = click.get_current_context()
    options["prompt"] = read_prompt(options["prompt"], options.pop("file"))
    refuse_what_the_device_ignores(context)
    if is_hardware(options["device"]) and not given(context, ["clock"]):
        options["clock"] = None
    options["wish"] = check_choice(context, given_grammar(context))
    for name in (*SAMPLING, *GRAMMAR):
        del options[name]
    from .request import Request
    from .run import answer

    answer(Request(**options))


_CHAT_GROUPS = {
    "Conversation": ("system", "load", "new_tokens", "context", "quiet"),
    "Choice of tokens": SAMPLING,
    "Model and device": ("draft", "device", "config", "memory", "tokens_per_doorbell", "quantise"),
}


@main.command(cls=GroupedCommand, groups=_CHAT_GROUPS)
@click.argument("model")
@click.option("--system", default="", metavar="TEXT", help="What the model is told before anything is said.")
@click.option("--load", metavar="NAME", help="Go on with a conversation that /save has kept.")
@click.option("-n", "--new-tokens", type=click.IntRange(min=1), help="Tokens of an answer, at most; without it until it ends.")
@click.option(
    "--context", type=click.IntRange(min=1), help="Tokens that the conversation has room for; without it 4096, or as trained."
)
@click.option("--device", type=DeviceName(), default="emulator", show_default=True, help="As for run.")
@CONFIG
@MEMORY
@_tokens_per_doorbell
@sampling_options
@QUANTISE
@DRAFT
@click.option("-q", "--quiet", is_flag=True, help="Nothing but what the model says.")
def chat(**options: Any) -> None:
    """Chat with a model in the terminal.

    Each line is a turn; /help lists what else there is. Ctrl-C ends an answer, Ctrl-D leaves. If standard input is no
    terminal, its lines are the turns, and the exit code is 1 if one could not be done.
    """
    context = click.get_current_context()
    refuse_what_the_device_ignores(context)
    check_choice(context)
    if options["load"] is not None:
        refuse(context, ["system"], "is for a new conversation: the one of --load has its own, which /system changes")
    from .chat import chat_with

    if not chat_with(**options):
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("model")
@CONFIG
@MEMORY
@QUANTISE
@click.option(
    "--context",
    type=click.IntRange(min=1),
    help="Tokens that the KV cache is to have room for; without it 4096, or what the model was trained for.",
)
@click.option(
    "--memory-timing",
    type=click.Choice(MEMORIES),
    default="ideal",
    show_default=True,
    help="Memory that cycles are predicted for: as for run.",
)
@click.option(
    "--clock", type=FiniteRange(min=0, min_open=True), default=100.0, show_default=True, help="MHz to state a speed for."
)
@click.option("--program", is_flag=True, help="Print the decode program, disassembled, with the bytes that each command reads.")
def inspect(**options: Any) -> None:
    """Tell, tensor by tensor, what a model is made of, where it would lie, and what a token costs.

    Exits with 1 if the model can't run, with the reasons.
    """
    from .inspect import inspect_model

    if not inspect_model(**options):
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("trace", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=OutputFile(), help="Picture to write; without it TRACE with the ending .png.")
@click.option("--cycles", nargs=2, type=int, metavar="FIRST END", help="Draw these cycles only.")
@click.option("--view", is_flag=True, help="Open the trace in Perfetto, in the browser, without the network; no picture.")
@click.pass_context
def plot(context: click.Context, trace: Path, output: Path | None, cycles: tuple[int, int] | None, view: bool) -> None:
    """Draw what the memory port did over a token, from a TRACE that run --trace has written."""
    if view:
        from .view import view as show

        refuse(context, ["output", "cycles"], "is for a picture: leave it out with --view")
        show(trace, lambda line: click.echo(line, err=True))
        return
    from .plot import draw
    from .trace import cut, read_trace

    path = output or trace.with_suffix(".png")
    use = read_trace(trace)
    mean = draw(cut(use, *cycles) if cycles else use, path)
    click.echo(f"{path}: the memory port carried a beat in {100 * mean:.1f} % of the cycles")


@main.command()
def devices() -> None:
    """List the devices, the configurations that they can be built in, and hardware that was found."""
    from dataclasses import asdict

    from tailrace.sim.devices import KINDS

    from ..transports.search import find_hardware

    click.echo(f"devices without hardware: {', '.join(KINDS)}")
    click.echo("configurations of these (--config), and what can be changed in them:")
    for name, config in CONFIGS.items():
        values = ", ".join(f"{field}={value}" for field, value in asdict(config).items() if field != "name")
        click.echo(f"  {name}: {values}")
    found = find_hardware()
    for name, what in found:
        click.echo(printable_lines(f"found {name}: {what}"))
    if not found:
        click.echo("no hardware was found: serial ports (with pyserial), /dev/xdma* and /dev/uio* were looked for")
