"""What there is to know of a model before it runs: its description, its memory image, its program."""

from collections.abc import Iterable, Iterator, Mapping

from rich.table import Table

from tailrace.firmware.description import Description, Experts, Layer, LinearAttention, Mixer, Scores, ShortConvolution
from tailrace.firmware.program import Program
from tailrace.spec.commands import format_command
from tailrace.spec.config import Config
from tailrace.spec.errors import ConfigError, ModelError
from tailrace.spec.formats import BLOCK, Format
from tailrace.spec.linear_attention import FOLD

from ..device.opening import DEFAULT_CONTEXT
from ..gguf.describe import ImportedModel, NoDescriptionError, Source, check_operations, import_model
from ..gguf.file import Model, open_model
from ..gguf.rope_reader import rope_tensors
from ..huggingface.placement import Place, make_smallest_plan
from ..image.builds import AUTO, advice, builds_of, choose, is_auto, smallest_build
from ..image.fits import device_format, refusals
from ..image.geometry import Geometry
from ..image.image import Image, ImageRequest, experts_used
from ..image.layout import longest_context
from ..image.predicted_cycles import PredictedCycles
from ..image.programs import Programs
from ..models.fetch import resolve_model
from ..text.tokenizer import Tokenizer
from ..transports.sizes import parse_size
from .plain_console import PlainConsole
from .report import ACCURACY, plan_summary, plan_table, predicted_text


def inspect_model(
    model: str,
    config: str,
    memory: str,
    quantise: str | None,
    context: int | None,
    program: bool,
    memory_timing: str = "ideal",
    clock: float = 100.0,
) -> bool:
    """Print what ``tailrace inspect`` prints.

    Returns
    -------
    bool
        Whether the model can run.
    """
    builds_of(config)
    size = None if memory == AUTO else parse_size(memory)
    opened = open_model(resolve_model(model))
    console = PlainConsole()
    if not console.is_terminal:
        console.width = 250
    try:
        imported = import_model(opened, context or min(DEFAULT_CONTEXT, opened.context_length), drafts=True)
    except NoDescriptionError as error:
        check_operations(opened)
        for option, is_given in (("program", program), ("context", context), ("memory-timing", memory_timing != "ideal")):
            if is_given:
                raise ConfigError(f"{error}. --{option} is for models that can: leave it out") from None
        console.print(f"{error}. Its linear layers can run one by one, with PyTorch for the rest:", soft_wrap=True)
        return _inspect_operations(console, opened, config, quantise, size)
    for line in (*describe(imported), *_tokenizer(opened)):
        console.print(line, soft_wrap=True)
    request = ImageRequest(quantise=quantise)
    geometry = Geometry.of_config(smallest_build(imported, request, config))
    if geometry.right_hand_sides == 1:
        imported = imported.without_drafts()
    refused = refusals(imported, geometry, quantise)
    console.print(tensor_table(imported, geometry, quantise, refused))
    if refused:
        _print_refusals(console, refused)
        console.print(advice(imported, geometry, request), soft_wrap=True)
        return False
    choice = choose(imported, request, config)
    image, programs = choice.layout.image, choice.layout.programs
    console.print(memory_map(image, programs))
    chosen = programs.loaded["logits"].program
    for context in (0, imported.context):
        console.print(traffic_line(programs.program_at("logits", max(context - 1, 0)), context), soft_wrap=True)
    longest = longest_context(imported, geometry, request)
    why = ", the smallest that takes this model with this context" if is_auto(config) else ""
    console.print(f"configuration {choice.config.name}{why}: its longest context here is {longest:,} tokens", soft_wrap=True)
    console.print(_memory_line(programs.end, size), soft_wrap=True)
    for line in predicted_lines(programs, choice.config, (0, imported.context - 1), memory_timing, clock):
        console.print(line, soft_wrap=True)
    if program:
        for line in listing(chosen, imported.context):
            console.print(line, soft_wrap=True)
    return size is None or programs.end <= size


def _memory_line(needed: int, size: int | None) -> str:
    fits = "" if size is None else f", which {'fits' if needed <= size else 'does not fit'} the {size:,} available"
    return f"device memory: {needed:,} bytes needed{fits}"


def _inspect_operations(console: PlainConsole, model: Model, config: str, quantise: str | None, size: int | None) -> bool:
    _, plan = make_smallest_plan(model, quantise, config)
    console.print(plan_table(plan))
    for line in [*plan_summary(plan), _memory_line(plan.memory_bytes, size)]:
        console.print(line, soft_wrap=True)
    return not plan.placed(Place.REFUSED) and (size is None or plan.memory_bytes <= size)


def describe(imported: ImportedModel) -> list[str]:
    """A model's description, line by line; layers that are alike share a line."""
    d = imported.description
    lines = [
        f"{d.architecture}: {len(d.layers)} layers, hidden size {d.hidden}, vocabulary {d.vocabulary:,}, trained for"
        f" {imported.model.context_length:,} tokens; {d.norm.kind.value} norms (epsilon {d.norm.epsilon:g})"
    ]
    lines += [f"layers {_numbers(numbers)}: {described_layer(layer)}" for layer, numbers in _alike(d)]
    if drafts := d.draft_layer:
        lines.append(
            f"layer {len(d.layers)} drafts (multi-token prediction) the first {drafts.vocabulary:,} tokens, where a build has"
            f" several right-hand sides: {described_layer(drafts.layer)}"
        )
    for name, rope in imported.ropes.items():
        variants = [
            f"base {rope.base:g}",
            *(["divided frequencies"] if rope.divisors else []),
            *(["YaRN"] if rope.yarn else []),
        ]
        lines.append(f"{name}: {rope.size} elements, {', '.join(variants)}")
    if growth := imported.growth:
        lines.append(f"scores grow by {growth.rate:g} with the logarithm of the periods of {growth.period:,} tokens")
    extra = [
        (d.embedding_scale != 1.0, f"embeddings times {d.embedding_scale:g}"),
        (d.learned_positions, "learned positions"),
        (d.residual_scale != 1.0, f"what layers add times {d.residual_scale:g}"),
        (d.logit_scale != 1.0, f"logits times {d.logit_scale:g}"),
        (d.logit_cap is not None, f"logits capped at {d.logit_cap}"),
    ]
    lines += [text for there, text in extra if there]
    return lines


def _tokenizer(model: Model) -> list[str]:
    try:
        return Tokenizer(model).describe()
    except ModelError as error:
        return [f"tokenizer: refused: {error}"]


def _alike(description: Description) -> list[tuple[Layer, list[int]]]:
    kinds: dict[Layer, list[int]] = {}
    for n, layer in enumerate(description.layers):
        kinds.setdefault(layer, []).append(n)
    return list(kinds.items())


def _numbers(numbers: list[int]) -> str:
    """Numbers as ranges: 0-4, 6-10."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def described_layer(layer: Layer) -> str:
    """A layer in words."""
    f, parts = layer.feed_forward, _mixer(layer.attention)
    if layer.beside:
        parts += [f"beside it {_mixer(layer.beside)[0]}"]
    if layer.post_norms:
        parts.append("norms after, too" if layer.pre_norms else "norms after only")
    if layer.parallel:
        parts.append("attention and feed-forward in parallel")
    if f is None:
        return ", ".join([*parts, "no feed-forward"])
    inner = f.expert if isinstance(f, Experts) else f
    text = f"{'gated ' if inner.gated else ''}{inner.activation.value.upper()} of {inner.size}"
    parts += _experts(f, text) if isinstance(f, Experts) else [f"feed-forward {text}"]
    return ", ".join(parts)


def _mixer(a: Mixer) -> list[str]:
    if isinstance(a, ShortConvolution):
        return [f"short convolution of {a.kernel} taps"]
    if isinstance(a, LinearAttention):
        heads = f"{a.value_heads} value heads of {a.value_size} on {a.key_heads} key heads of {a.key_size}"
        return [f"linear attention ({a.rule.value}): {heads}, convolution of {a.kernel} taps"]
    parts = [f"{a.heads} heads of {a.head_size} on {a.kv_heads} KV heads"]
    if a.latent is not None:
        parts = [f"{a.heads} heads of {a.latent.key_size} and {a.latent.value_size} on a latent of {a.latent.size}"]
    if a.rotary_size:
        parts.append(f"RoPE on {a.rotary_size}" + (f" ({a.rope})" if a.rope != "rope" else ""))
    if a.growing:
        parts.append("scores that grow with the position")
    if a.window is not None:
        parts.append(f"{'chunks' if a.chunked else 'window'} of {a.window}")
    if a.head_norm:
        parts.append(f"norms of q and k ({a.head_norm.value})")
    if a.score_cap is not None:
        parts.append(f"scores capped at {a.score_cap:g}")
    if a.gated:
        parts.append("a gate on its outputs")
    return parts


def _experts(e: Experts, each: str) -> list[str]:
    chosen = f"{e.used} of {e.count} experts"
    if e.groups > 1:
        chosen += f" in {e.used_groups} of {e.groups} groups"
    parts = [f"{chosen}, each {each}"]
    if e.scores is not Scores.SOFTMAX:
        parts.append(f"scored by a {e.scores.value}")
    if not e.normalise:
        parts.append("weights not normalised")
    if e.weighted_input:
        parts.append("weights of inputs")
    if e.scale != 1.0:
        parts.append(f"weights times {e.scale:g}")
    if e.shared:
        parts.append(f"a shared expert of {e.shared.size}" + (" with a gate" if e.shared_gated else ""))
    return parts


def _print_refusals(console: PlainConsole, refused: Mapping[str, str]) -> None:
    """Reasons, each with the tensors that it holds for."""
    reasons: dict[str, list[str]] = {}
    for name, reason in refused.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        some = f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''} ({len(names)})"
        console.print(f"refused: {some}: {reason}", soft_wrap=True)


def tensor_table(imported: ImportedModel, geometry: Geometry, quantise: str | None, refused: Mapping[str, str]) -> Table:
    """Tensor by tensor: what it is for, what it is on the device, and what a token reads of it."""
    table = Table(box=None, pad_edge=False)
    for name in ("tensor", "shape", "type", "bits/weight", "bytes per token"):
        table.add_column(name, justify="right" if name in ("bits/weight", "bytes per token") else "left", no_wrap=True)
    table.add_column("role", overflow="fold")
    angles = rope_tensors(imported.model)
    for name, tensor in imported.model.tensors.items():
        matrices = {role: s for role, s in imported.matrices.items() if s.tensor.name == name}
        roles = [*matrices, *(role for role, s in imported.tables.items() if s.tensor.name == name)]
        size, fmt = 0, tensor.format
        for role, source in matrices.items():
            fmt, _ = device_format(tensor, source.columns, geometry, quantise, role)
        if name not in refused and fmt is not None:
            size = sum(_bytes_per_token(imported, role, source, fmt, geometry) for role, source in matrices.items())
        table.add_row(
            name,
            " x ".join(map(str, tensor.shape)),
            tensor.type_name if fmt in (None, tensor.format) else f"{tensor.type_name} → {fmt.name}",
            f"{(fmt or tensor).bits_per_weight:.2f}",
            f"{size:,}" if size else "",
            "refused" if name in refused else ", ".join(roles) or ("angles" if name in angles else "left out"),
        )
    return table


def _bytes_per_token(imported: ImportedModel, role: str, source: Source, fmt: Format, geometry: Geometry) -> int:
    return experts_used(imported, role) * fmt.matrix_bytes(source.rows, source.columns // BLOCK, geometry.lanes)


def memory_map(image: Image, programs: Programs) -> Table:
    """What lies where in device memory."""
    table = Table(box=None, pad_edge=False)
    for name in ("from", "to", "bytes"):
        table.add_column(name, justify="right")
    table.add_column("what")
    for first, end, what in _areas(image, programs):
        table.add_row(f"{first:#x}", f"{end:#x}", f"{end - first:,}", what)
    return table


def _areas(image: Image, programs: Programs) -> Iterator[tuple[int, int, str]]:
    """Consecutive pieces of one kind, together."""
    areas: list[tuple[int, int, str]] = []
    for piece in image.pieces:
        what = _area(piece.role)
        if areas and areas[-1][2] == what:
            areas[-1] = (areas[-1][0], piece.address + piece.size, what)
        else:
            areas.append((piece.address, piece.address + piece.size, what))
    yield from areas
    first = min(min(place.addresses) for caches in image.placement.caches for place in caches)
    end = min(image.placement.logits)
    kept = "KV cache, states and recent rows" if image.state_bytes else "KV cache"
    yield first, end, f"{kept}: {image.request.batch} sequences of {image.capacity} tokens"
    yield end, image.end, "logits and chosen tokens"
    for name, loaded in programs.loaded.items():
        size = 64 * len(loaded.program.commands)
        yield loaded.address, loaded.address + size, f"program {name}: {len(loaded.program.commands)} commands"
    if programs.room:
        yield programs.room.start, programs.room.stop, "room for the programs of passes with other rows"


def _area(role: str) -> str:
    if role.startswith("layers."):
        return "layers: weights, norms and biases"
    return "final norm and head" if role in ("head", "head_bias", "final_norm", "final_norm_bias") else role.replace("_", " ")


def traffic_line(program: Program, context: int) -> str:
    """What a token reads, for a number of cached tokens."""
    sizes, kinds = program.bytes_read(context), dict[str, int]()
    for size, traffic, n in zip(sizes, program.traffic, program.repeats, strict=True):
        kinds["commands"] = kinds.get("commands", 0) + 64 * n
        if traffic.kind:
            kinds[traffic.kind] = kinds.get(traffic.kind, 0) + (size - 64) * n
    parts = ", ".join(f"{value:,} {kind}" for kind, value in kinds.items())
    return f"bytes per token with {context:,} tokens in the cache: {sum(kinds.values()):,} ({parts})"


def predicted_lines(
    programs: Programs, config: Config, positions: Iterable[int], memory_timing: str, clock: float
) -> Iterator[str]:
    """What a decode step is predicted to take for some numbers of cached tokens, and from when on drafts pay."""
    cycles, places = PredictedCycles(programs, config, memory=memory_timing), list(positions)
    behind = "a fixed latency" if memory_timing == "ideal" else f"a {memory_timing.upper()} channel as wide as the bus"
    for position in places:
        text = f"{predicted_text(cycles.exactly('logits', position), clock)} ({ACCURACY})"
        yield f"predicted with {position:,} tokens in the cache: {text}; memory: {behind}"
    if "fold" in programs.loaded:
        fold = cycles.exactly("fold", 0)
        yield f"predicted for each {FOLD}th token of a sequence, before it: {fold:,} cycles to fold its lists into its states"
    yield from (_drafts_line(programs, cycles, position, clock) for position in places if programs.most_rows > 1)
    if programs.most_rows == 1:
        yield "predicted with drafts: the same, since a pass has one row here; --config auto,right_hand_sides=4 has four"


def _drafts_line(programs: Programs, cycles: PredictedCycles, position: int, clock: float) -> str:
    """How many tokens a pass over several rows has to give, and what is gained if all of its drafts are right."""
    passes = [
        # The last one begins where all of its rows have room.
        cycles.exactly(programs.name_of("logits", [0] * rows), min(position, programs.image.capacity - rows))
        for rows in range(1, programs.most_rows + 1)
    ]
    rows = f"{', '.join(map(str, range(2, programs.most_rows)))} or {programs.most_rows}" if programs.most_rows > 2 else "2"
    least = ", ".join(f"{many / passes[0]:.2f}" for many in passes[1:])
    most = ", ".join(f"{rows * clock * 1e6 / many:,.2f}" for rows, many in enumerate(passes[1:], 2))
    return (
        f"predicted with drafts and {position:,} tokens in the cache: a pass over {rows} rows pays from {least} tokens on"
        f" that it gives, and reaches {most} tokens/s if all drafts are right"
    )


def listing(program: Program, context: int) -> Iterator[str]:
    """A program, disassembled: number, times that it runs for a token, bytes that it reads each time, text."""
    sections = dict(program.sections)
    sizes = program.bytes_read(context)
    for index, (command, size, times) in enumerate(zip(program.commands, sizes, program.repeats, strict=True)):
        if index in sections:
            yield f"        ; {sections[index]}"
        yield f"{index:5}  {times:4} x {size:11,}  {format_command(command)}"
