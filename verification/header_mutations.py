"""Damaged and strange GGUF headers, by the thousand: each is read, or refused with one message, in little time and memory.

``python -m verification.header_mutations --count 100000 --seed 1`` changes headers of small models and tries what the command
line does before it opens a device: the file is opened and described, its image and programs are planned, `tailrace inspect`
prints them, its tokenizer encodes and decodes. A mutation has a number, and is the same whenever it is made with the same
seed: after a mistake, ``--first NUMBER --count 1`` shows it again.
"""

import resource
import signal
import struct
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import click
import numpy as np
from click.testing import CliRunner
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tailrace.command.cli import main as command_line
from tailrace.firmware.description import Norm, NormKind
from tailrace.gguf.describe import ImportedModel, import_model
from tailrace.gguf.file import Model, open_model
from tailrace.gguf.header import Header
from tailrace.gguf.types import ARRAY, SCALARS, TEXT
from tailrace.image.geometry import Geometry
from tailrace.image.image import ImageRequest
from tailrace.image.plan import plan_image
from tailrace.image.programs import build_programs
from tailrace.models.fetch import SMALL
from tailrace.spec.config import parse_config
from tailrace.spec.errors import TailraceError
from tailrace.text.tokenizer import Tokenizer
from verification.unit.host import small_shapes
from verification.unit.host.tiny_models import tokenizer_values, write_model

#: Seconds of processor time that one file may take, and bytes that a process may grow by.
SECONDS, BYTES = 10.0, 512 << 20
#: How often the whole of `tailrace inspect` is run on what was accepted.
_INSPECTED = 100
#: In place of a model's own, whose number does not matter to a plan.
_NORM = Norm(NormKind.RMS, 1e-5)
_WHOLE_NUMBERS = (
    -1, 0, 1, 2, 3, 7, 8, 31, 33, 255, 256, 65535, 65536, (1 << 31) - 1, -(1 << 31), 1 << 31, (1 << 32) - 1,
    (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
)  # fmt: skip
_REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-30, 1e30, 3e38, float("inf"), float("-inf"), float("nan"))
_TEXTS = (
    "", "x", "llama", "gpt2", "none", "yarn", "linear", "longrope", "[/x]", "[link=http://x]y", "\x1b[31m", "ü\n", "%s{}",
    "a" * 5000, "{{ 1/0 }}",
)  # fmt: skip
#: Values that may be missing; {} stands for the architecture.
_KEYS = (
    "general.alignment", "general.type", "split.count", "split.no", "{}.rope.scaling.type", "{}.rope.scaling.factor",
    "{}.rope.freq_base", "{}.rope.scaling.yarn_beta_fast", "{}.rope.scaling.original_context_length", "{}.attention.scale",
    "{}.attention.sliding_window", "{}.attention.sliding_window_pattern", "{}.expert_count", "{}.expert_used_count",
    "{}.expert_feed_forward_length", "{}.attention.head_count_kv", "{}.attention.value_length", "{}.final_logit_softcapping",
    "{}.attention.causal", "{}.rope.scaling.attn_factor", "{}.leading_dense_block_count", "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_space_prefix", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.scores",
)  # fmt: skip


@dataclass(frozen=True)
class _Entry:
    """A value of a header: bytes of the whole, where its type lies and where its value begins."""

    start: int
    kind: int
    value: int
    end: int


@dataclass(frozen=True)
class Original:
    """A file to be changed.

    Attributes
    ----------
    path : Path
    header : bytes
        Up to the tensors' bytes.
    entries : tuple of _Entry
    tensors : tuple of tuple of int
        Bytes of each entry of the list of tensors: from, to.
    size : int
        Of the file. What follows the header is a hole in the changed ones.
    """

    path: Path
    header: bytes
    entries: tuple[_Entry, ...]
    tensors: tuple[tuple[int, int], ...]
    size: int


def read_original(path: Path) -> Original:
    """A whole file, with the places of what its header holds."""
    header = Header(path)
    data, position = header.data[: header.tensors[0].start].tobytes(), 24
    entries, tensors = [], []
    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        start, kind = position, position + 8 + struct.unpack_from("<Q", data, position)[0]
        value = kind + 4
        position = _after(data, value, struct.unpack_from("<I", data, kind)[0])
        entries.append(_Entry(start, kind, value, position))
    for _ in header.tensors:
        start = position
        position += 8 + struct.unpack_from("<Q", data, position)[0]
        position += 4 + 8 * struct.unpack_from("<I", data, position)[0] + 12
        tensors.append((start, position))
    return Original(path, data, tuple(entries), tuple(tensors), path.stat().st_size)


def _after(data: bytes, position: int, kind: int) -> int:
    if kind == TEXT:
        return position + 8 + struct.unpack_from("<Q", data, position)[0]
    if kind != ARRAY:
        return position + SCALARS[kind].itemsize
    inner, count = struct.unpack_from("<IQ", data, position)
    position += 12
    if inner != TEXT:
        return position + count * SCALARS[inner].itemsize
    for _ in range(count):
        position = _after(data, position, TEXT)
    return position


# Each change takes the header and gives another one.


def _flip(original: Original, rng: np.random.Generator) -> bytes:
    data = bytearray(original.header)
    for _ in range(int(rng.choice([1, 1, 1, 2, 4, 16]))):
        place = int(rng.integers(len(data)))
        data[place] = int(rng.choice([0, 255, 127, 128, data[place] ^ 1, int(rng.integers(256))]))
    return bytes(data)


def _flip_outside_lists(original: Original, rng: np.random.Generator) -> bytes:
    """Most bytes of a header are vocabulary: this one spares it."""
    data = bytearray(original.header)
    spans = [(0, 24), *((e.start, min(e.end, e.value + 16)) for e in original.entries), *original.tensors]
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        first, end = spans[int(rng.integers(len(spans)))]
        place = int(rng.integers(first, end))
        data[place] = int(rng.choice([0, 255, 127, 128, data[place] ^ 1, int(rng.integers(256))]))
    return bytes(data)


def _delete(original: Original, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(original.header)))
    return original.header[:start] + original.header[start + int(rng.choice([1, 2, 4, 8, 64])) :]


def _insert(original: Original, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(original.header)))
    return original.header[:start] + rng.bytes(int(rng.choice([1, 2, 4, 8, 64]))) + original.header[start:]


def _truncate(original: Original, rng: np.random.Generator) -> bytes:
    return original.header[: int(rng.integers(len(original.header)))]


def _scalar(rng: np.random.Generator) -> tuple[int, bytes]:
    """A value of any type, often an extreme one: its type, and its bytes."""
    kind = int(rng.choice([*SCALARS, TEXT]))
    if kind == TEXT:
        raw = str(rng.choice(_TEXTS)).encode()
        return kind, struct.pack("<Q", len(raw)) + raw
    dtype = SCALARS[kind]
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return kind, np.array(_REALS[int(rng.integers(len(_REALS)))]).astype(dtype).tobytes()
    value = _WHOLE_NUMBERS[int(rng.integers(len(_WHOLE_NUMBERS)))]
    return kind, (value & ((1 << 8 * dtype.itemsize) - 1)).to_bytes(dtype.itemsize, "little")


def _value(original: Original, rng: np.random.Generator) -> bytes:
    """Another value of the same type, or of another."""
    entry = original.entries[int(rng.integers(len(original.entries)))]
    data, same = original.header, int(rng.integers(3)) > 0
    wanted = struct.unpack_from("<I", data, entry.kind)[0]
    while True:
        kind, raw = _scalar(rng)
        if not same or wanted == ARRAY or kind == wanted:
            break
    if wanted == ARRAY and same or int(rng.integers(8)) == 0:
        count = int(rng.choice([0, 1, 2, 3, 300]))
        kind, raw = ARRAY, struct.pack("<IQ", kind, count) + raw * count
    return data[: entry.kind] + struct.pack("<I", kind) + raw + data[entry.end :]


def _item(original: Original, rng: np.random.Generator) -> bytes:
    """One item of an array of numbers, or the type or the number of the items."""
    data = bytearray(original.header)
    arrays = [e for e in original.entries if struct.unpack_from("<I", data, e.kind)[0] == ARRAY]
    if not arrays:
        return _value(original, rng)
    entry = arrays[int(rng.integers(len(arrays)))]
    inner, count = struct.unpack_from("<IQ", data, entry.value)
    match int(rng.integers(4)):
        case 0:
            struct.pack_into("<I", data, entry.value, int(rng.integers(16)))
        case 1:
            changed = [0, 1, max(count - 1, 0), count + 1, count * 2, 1 << 32, 1 << 61, (1 << 64) - 1]
            struct.pack_into("<Q", data, entry.value + 4, changed[int(rng.integers(len(changed)))])
        case _ if inner == TEXT or not count:
            place = int(rng.integers(entry.value + 12, max(entry.end, entry.value + 13)))
            data[min(place, len(data) - 1)] = int(rng.integers(256))
        case _:
            size = SCALARS[inner].itemsize
            place = entry.value + 12 + size * int(rng.integers(count))
            data[place : place + size] = rng.bytes(size)
    return bytes(data)


def _count(original: Original, rng: np.random.Generator) -> bytes:
    """Another number of tensors or values."""
    data, place = bytearray(original.header), int(rng.choice([8, 16]))
    (count,) = struct.unpack_from("<Q", data, place)
    changed = [0, 1, count - 1, count + 1, count * 1000, 1 << 16, 1 << 32, 1 << 60, (1 << 64) - 1]
    struct.pack_into("<Q", data, place, changed[int(rng.integers(len(changed)))])
    return bytes(data)


def _without_entry(original: Original, rng: np.random.Generator) -> bytes:
    """A value, or a tensor, less."""
    data = bytearray(original.header)
    if int(rng.integers(2)):
        entry = original.entries[int(rng.integers(len(original.entries)))]
        start, end, place = entry.start, entry.end, 16
    else:
        (start, end), place = original.tensors[int(rng.integers(len(original.tensors)))], 8
    struct.pack_into("<Q", data, place, struct.unpack_from("<Q", data, place)[0] - 1)
    return bytes(data[:start] + data[end:])


def _with_entry(original: Original, rng: np.random.Generator) -> bytes:
    """A value more, of a name that means something."""
    data = bytearray(original.header)
    name = str(rng.choice(_KEYS)).format(original.path.stem.split("-")[0]).encode()
    kind, raw = _scalar(rng)
    struct.pack_into("<Q", data, 16, struct.unpack_from("<Q", data, 16)[0] + 1)
    entry = struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + raw
    start = original.entries[int(rng.integers(len(original.entries)))].start
    return bytes(data[:start] + entry + data[start:])


def _tensor(original: Original, rng: np.random.Generator) -> bytes:
    """Another shape, type, place or name of a tensor."""
    data = bytearray(original.header)
    start, end = original.tensors[int(rng.integers(len(original.tensors)))]
    name_end = start + 8 + struct.unpack_from("<Q", data, start)[0]
    dimensions = struct.unpack_from("<I", data, name_end)[0]
    match int(rng.integers(5)):
        case 0:
            struct.pack_into("<I", data, name_end, int(rng.choice([0, 1, 2, 3, 4, 5, 1 << 31])))
        case 1:
            place = name_end + 4 + 8 * int(rng.integers(dimensions))
            sizes = [0, 1, 31, 32, 64, 1 << 20, 1 << 40, 1 << 63, (1 << 64) - 1]
            struct.pack_into("<Q", data, place, sizes[int(rng.integers(len(sizes)))])
        case 2:
            struct.pack_into("<I", data, end - 12, int(rng.choice([*range(45), 1 << 31])))
        case 3:
            offsets = [0, 1, 32, 64, 1 << 20, 1 << 40, 1 << 63, (1 << 64) - 32]
            struct.pack_into("<Q", data, end - 8, offsets[int(rng.integers(len(offsets)))])
        case _:
            data[int(rng.integers(start + 8, name_end))] = int(rng.integers(256))
    return bytes(data)


def _architecture(original: Original, rng: np.random.Generator) -> bytes:
    """Another architecture, and the keys that go with it."""
    names = ("llama", "qwen2", "qwen3", "qwen3moe", "gemma3", "phi3", "gpt2")
    own = original.path.stem.split("-")[0].encode()
    other = str(rng.choice(names)).encode()
    data = original.header
    for entry in reversed(original.entries):
        key = data[entry.start + 8 : entry.kind]
        if key.startswith(own + b"."):
            key = other + key[len(own) :]
            data = data[: entry.start] + struct.pack("<Q", len(key)) + key + data[entry.kind :]
        elif key == b"general.architecture":
            data = data[: entry.value] + struct.pack("<Q", len(other)) + other + data[entry.end :]
    return data


Change = Callable[[Original, np.random.Generator], bytes]
CHANGES: dict[str, Change] = {
    "value": _value,
    "bytes": _flip,
    "bytes but of lists": _flip_outside_lists,
    "item of a list": _item,
    "tensor": _tensor,
    "more": _with_entry,
    "less": _without_entry,
    "architecture": _architecture,
    "deleted": _delete,
    "inserted": _insert,
    "cut off": _truncate,
    "count": _count,
}


def mutation(originals: Sequence[Original], number: int, seed: int) -> tuple[str, str, bytes, int]:
    """The mutation of this number: the name of the file and of the change, the header, and the size of the file."""
    rng = np.random.default_rng([seed, number])
    original = originals[int(rng.integers(len(originals)))]
    kind = list(CHANGES)[int(rng.choice(len(CHANGES), p=_WEIGHTS))]
    changed = CHANGES[kind](original, rng)
    if int(rng.integers(10)) == 0:
        # And the same again, or something else, on top of it.
        changed = _flip(Original(original.path, changed or b"\0", (), (), 0), rng)
    # The tensors move with the end of the header, to the next multiple of the alignment.
    size = len(changed) if kind == "cut off" else original.size + max(len(changed) - len(original.header), 0) + 64
    return original.path.name, kind, changed, size


_WEIGHTS = np.array([6, 4, 4, 3, 3, 3, 2, 1, 1, 1, 1, 1]) / 30


# What is tried.


class _TooLongError(BaseException):
    """A file took more than its time."""


@dataclass
class _Seen:
    """What has been planned already: the same description needs no other plan."""

    plans: set[Any] = field(default_factory=set)
    accepted: int = 0


def attempt(path: Path, seen: _Seen) -> str:
    """What the command line does with a model before it opens a device.

    Returns
    -------
    str
        What came of it: "runs", or how the first part that failed refused it.
    """
    try:
        model = open_model(path)
        imported = import_model(model, min(64, model.context_length) if model.architecture.known else None)
    except TailraceError as error:
        return _kind(error, path)
    outcomes = [_refusal(path, _plan, imported, seen), _refusal(path, _tokens, model)]
    seen.accepted += 1
    if seen.accepted % _INSPECTED == 0:
        outcomes.append(_inspect(path))
    return next((o for o in outcomes if o is not None), "runs")


def _refusal(path: Path, part: Callable[..., None], *arguments: Any) -> str | None:
    try:
        part(*arguments)
    except TailraceError as error:
        return _kind(error, path)
    return None


def _plan(imported: ImportedModel, seen: _Seen) -> None:
    model = imported.model
    types = tuple((t.name, t.ggml_type, t.shape) for t in model.tensors.values())
    for by_position in imported.position_tables.values():
        assert np.isfinite(by_position.table(0, 4)).all()
    key = (replace(imported.description, norm=_NORM), types)
    if key in seen.plans:
        return
    image = plan_image(imported, Geometry.of_config(parse_config("base")), ImageRequest())
    build_programs(image)
    seen.plans.add(key)


def _tokens(model: Model) -> None:
    if "tokenizer.ggml.model" not in model.header:
        return
    tokenizer = Tokenizer(model)
    tokenizer.decode(tokenizer.encode("Hi wörld <|im_end|>\n12"))
    tokenizer.decode([0, 3, 4, 5])
    assert all(isinstance(end, int) for end in tokenizer.ends)


def _inspect(path: Path) -> str | None:
    result = CliRunner().invoke(command_line, ["inspect", str(path)], catch_exceptions=False)
    if result.exit_code not in (0, 1) or "Traceback" in result.output or "\x1b" in result.output:
        raise AssertionError(f"tailrace inspect: exit code {result.exit_code}: {result.output[-300:]}")
    return None


def _kind(error: TailraceError, path: Path) -> str:
    """The kind of a message: its first words, without what differs from file to file."""
    text = str(error).replace(str(path), "").removeprefix(":").strip()
    for start in ("is corrupt", "is truncated", "is not a complete", "can't be used", "can't be run", "can't be decoded"):
        if text.startswith(start):
            return f"refused: {start}"
    return f"refused: {type(error).__name__}, other reasons"


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def too_long(number: int, frame: FrameType | None) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _try_one(path: Path, seen: _Seen) -> tuple[str, bool]:
    """What came of a file, and whether that is a mistake of ours."""
    try:
        with _limited(SECONDS):
            return attempt(path, seen), False
    except _TooLongError:
        return f"MORE THAN {SECONDS:g} s", True
    except MemoryError:
        return f"MORE THAN {BYTES >> 20} MiB", True
    except BaseException as error:  # whatever it is, it is what we look for
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "tailrace" in f.filename or "/host/" in f.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside"
        return f"{type(error).__name__} in {place}: {str(error)[:80]}", True


def _work(answers: Connection, files: list[Path], folder: Path, numbers: range, seed: int) -> None:
    """Try mutations in a process whose memory is limited."""
    warnings.simplefilter("ignore")
    originals, seen, path = [read_original(f) for f in files], _Seen(), folder / "model.gguf"
    Tokenizer(open_model(files[0])).encode("x"), _inspect(files[0])  # what is imported late is not what a file takes
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, resource.RLIM_INFINITY))
    for number in numbers:
        name, change, header, size = mutation(originals, number, seed)
        with path.open("wb") as file:
            file.write(header)
            file.truncate(size)
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is resident now
        start, before = time.process_time(), _resident("VmRSS")
        outcome, wrong = _try_one(path, seen)
        grown = _resident("VmHWM") - before
        answers.send((number, name, change, outcome, wrong, time.process_time() - start, grown))
    answers.close()


def _resident(what: str) -> int:
    """Bytes of memory that the process has, or has had at most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024


@dataclass
class Results:
    """What came of all mutations.

    Attributes
    ----------
    outcomes : Counter
        How often each outcome was, by change and outcome.
    mistakes : dict of str to list of int
        The numbers of mutations that were not handled, by what happened.
    slowest : float
        Seconds of processor time that the slowest took.
    grown : int
        Bytes that the process has grown by at most while it looked at a file.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    mistakes: dict[str, list[int]] = field(default_factory=dict)
    slowest: float = 0.0
    grown: int = 0


def run(
    files: list[Path], count: int, seed: int, first: int = 0, on_progress: Callable[[int], None] = lambda done: None
) -> Results:
    """Try `count` mutations of these files, from number `first` on."""
    results, following, last = Results(), first, first + count
    context = get_context("spawn")
    # In memory: a file is written for each.
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        while following < last:
            receiver, sender = context.Pipe(duplex=False)
            worker = context.Process(target=_work, args=(sender, files, Path(folder), range(following, last), seed))
            worker.start()
            sender.close()
            try:
                while following < last and receiver.poll(60 + 3 * SECONDS):
                    number, _, change, outcome, wrong, seconds, grown = receiver.recv()
                    results.outcomes[change, "NOT HANDLED" if wrong else outcome] += 1
                    if wrong:
                        results.mistakes.setdefault(outcome, []).append(number)
                    results.slowest, results.grown = max(results.slowest, seconds), max(results.grown, grown)
                    following = number + 1
                    on_progress(following - first)
                if following < last:
                    raise EOFError
            except EOFError:
                # It died of this one, or hangs where no signal reaches it.
                results.mistakes.setdefault("the process died or hung", []).append(following)
                results.outcomes["?", "NOT HANDLED"] += 1
                following += 1
            finally:
                worker.kill()
                worker.join()
                receiver.close()
    return results


def small_files(folder: Path) -> list[Path]:
    """Small models of every architecture and kind of tokenizer, and the one that comes with Tailrace."""
    shapes = {
        "phi3": (small_shapes.PHI3_HEADER, small_shapes.PHI3),
        "gemma3": (small_shapes.GEMMA3_HEADER, small_shapes.GEMMA3),
        "gpt2": (small_shapes.GPT2_HEADER, small_shapes.GPT2),
        "llama-experts": (small_shapes.MIXTURE_HEADER, small_shapes.MIXTURE),
    }
    files = [
        write_model(folder / "llama.gguf"),
        write_model(folder / "llama-yarn.gguf", tied=False, metadata=_YARN),
        write_model(folder / "llama-pieces.gguf", metadata=_pieces(), extra={"rope_freqs.weight": np.ones(16)}),
        write_model(folder / "qwen2.gguf", "qwen2"),
        write_model(folder / "qwen3.gguf", "qwen3"),
    ]  # fmt: skip
    for name, (header, tensors) in shapes.items():
        files.append(small_shapes.write(folder / f"{name}.gguf", name.split("-")[0], header, tensors))
    return [*files, SMALL]


_YARN: dict[str, Any] = {
    "llama.rope.scaling.type": "yarn",
    "llama.rope.scaling.factor": 4.0,
    "llama.rope.scaling.original_context_length": 16,
    "llama.attention.head_count": [2, 2],
    "llama.attention.head_count_kv": [1, 1],
}


def _pieces() -> dict[str, Any]:
    """A SentencePiece vocabulary of 288 tokens, as `write_model` has it otherwise."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "a", "b", "ab", "▁a"]
    pieces += [f"<unused{n}>" for n in range(288 - len(pieces))]
    types = [2, 3, 3, *[6] * 256, *[1] * (len(pieces) - 259)]
    return {
        **tokenizer_values(pieces),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.scores": [-float(n) for n in range(len(pieces))],
        "tokenizer.ggml.token_type": types,
    }


def table(results: Results, count: int, seconds: float) -> Table:
    """What came of the mutations, change by change."""
    kinds = sorted({outcome for _, outcome in results.outcomes}, key=lambda kind: (kind != "runs", kind))
    shown = Table(
        title=f"{count} changed headers in {seconds:.0f} s",
        caption=f"the slowest took {results.slowest:.2f} s; none took more than {results.grown / (1 << 20):.1f} MiB of memory",
    )
    shown.add_column("change")
    for kind in kinds:
        shown.add_column(kind, justify="right")
    for change in [*CHANGES, "?"]:
        numbers = [results.outcomes[change, kind] for kind in kinds]
        if any(numbers):
            shown.add_row(change, *(str(n) if n else "" for n in numbers))
    shown.add_row("all", *(str(sum(results.outcomes[c, kind] for c in [*CHANGES, "?"])) for kind in kinds))
    return shown


@click.command()
@click.option("--count", default=1000, show_default=True, help="Mutations.")
@click.option("--seed", default=1, show_default=True)
@click.option("--first", default=0, show_default=True, help="Number of the first mutation.")
@click.option(
    "--file", "files", multiple=True, type=click.Path(path_type=Path, exists=True), help="Further GGUF files to change."
)
def main(count: int, seed: int, first: int, files: tuple[Path, ...]) -> None:
    """Try changed headers. A thousand take about half a minute."""
    console = Console(markup=False)
    console.width = max(console.width, 160)
    start = time.monotonic()
    with TemporaryDirectory() as folder, Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("headers", total=count)

        def show(done: int) -> None:
            progress.update(task, completed=done)
            if not progress.console.is_terminal and done % 1000 == 0:
                click.echo(f"{done} of {count}", err=True)

        results = run([*small_files(Path(folder)), *files], count, seed, first, show)
    console.print(table(results, count, time.monotonic() - start))
    for what, numbers in sorted(results.mistakes.items(), key=lambda item: -len(item[1])):
        console.print(f"{len(numbers)} x {what}: --first {numbers[0]}", soft_wrap=True)
    raise SystemExit(bool(results.mistakes))


if __name__ == "__main__":
    main()
