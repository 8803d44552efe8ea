"""Which build takes a model: the smallest one that fits; or what to do where the one that there is does not."""

from collections.abc import Sequence
from dataclasses import dataclass

from tailrace.firmware.decode import TOKEN_ROWS
from tailrace.spec.config import BUS_WIDTHS, CHANNELS, CONFIGS, RIGHT_HAND_SIDES, Config, parse_config
from tailrace.spec.errors import LimitError, ModelError

from ..gguf.describe import DescribedModel
from .geometry import Geometry
from .image import ImageRequest
from .layout import Layout, fits, layout_of, longest_context

#: What asks for a build, or for memory, that fits.
AUTO = "auto"
#: Builds that are chosen from, the smallest first. `tiny` is for tests and the smallest FPGAs: where no gateware is built it
#: saves nothing, and its contexts are short.
CHOICES = ("base", "large", "wide")
#: Of a simulated bus the widest one takes the fewest cycles.
_FASTEST_TO_SIMULATE = 512
#: Right-hand sides, which prompts and drafts go through together. The second costs a simulation a fifth of its speed, the third
#: and the fourth a third of the rest, and time to compile.
_QUICKEST_TO_SIMULATE = 2
#: What memory is rounded up to.
_MEMORY_UNIT = 1 << 20


@dataclass(frozen=True)
class Choice:
    """A build and its memory, chosen for a model.

    Attributes
    ----------
    config : Config
    memory : int
        Bytes.
    layout : Layout
        The model's, from address 0 on.
    """

    config: Config
    memory: int
    layout: Layout


def choose(
    imported: DescribedModel, request: ImageRequest, config: str = AUTO, memory: int | None = None, *, simulated: bool = False,
    native: bool = False,
) -> Choice:  # fmt: skip
    """Choose build and memory of a device for a model, or check those that were asked for.

    Parameters
    ----------
    imported : DescribedModel
    request : ImageRequest
    config : str
        As `builds_of` takes it; of several builds the smallest that takes the model with its context.
    memory : int or None
        Bytes; None: what is needed, rounded up to a MiB.
    simulated : bool
        Whether the gateware is simulated: then a build that is chosen gets the widest bus, and two right-hand sides.
    native : bool
        Whether the device is native code: then it gets right-hand sides for as many rows as a pass takes. Like those of a
        simulation, in the smallest build that has room for them; without, if none has.

    Raises
    ------
    ConfigError
        If there is no such build.
    ModelError, LimitError
        As `lay_out`.
    """
    build = smallest_build(imported, request, config, simulated=simulated)
    if rows := TOKEN_ROWS if native else _QUICKEST_TO_SIMULATE if simulated else 0:
        more = builds_of(config, max(request.batch, rows), simulated=simulated)
        build = next((larger for larger in more if fits(imported, Geometry.of_config(larger), request)), build)
    layout = lay_out(imported, Geometry.of_config(build), request, memory)
    return Choice(build, rounded_up(layout.size) if memory is None else memory, layout)


def smallest_build(imported: DescribedModel, request: ImageRequest, config: str = AUTO, *, simulated: bool = False) -> Config:
    """The smallest build of a configuration (`builds_of`) that takes a model with its context; the largest one if none does."""
    *smaller, largest = builds_of(config, request.batch, simulated=simulated)
    return next((b for b in smaller if fits(imported, Geometry.of_config(b), request)), largest)


def is_auto(config: str) -> bool:
    """Whether a configuration leaves open which build it is."""
    return config.split(",")[0] == AUTO


def builds_of(config: str = AUTO, batch: int = 1, *, simulated: bool = False) -> list[Config]:
    """The builds that a configuration stands for, the smallest first.

    Parameters
    ----------
    config : str
        A build, as `parse_config` takes it; or ``auto``, with changes if need be, as in ``auto,bus_width=256``: those of
        `CHOICES`, each with these changes.
    batch : int
        Builds to choose from get as many right-hand sides, unless the changes say how many.
    simulated : bool
        Whether the gateware is simulated: then they get the widest bus, unless the changes say which.

    Raises
    ------
    ConfigError
        If there is no such build.
    """
    if not is_auto(config):
        return [parse_config(config)]
    changes = config.split(",")[1:]
    # Of several ports each gets its part, as far as ports can be that narrow.
    channels = next((n for n in CHANNELS if f"channels={n}" in changes), 1)
    widest = max(_FASTEST_TO_SIMULATE // channels, BUS_WIDTHS[0])
    return [
        named_build(name, batch, changes, bus_width=widest if simulated else min(widest, CONFIGS[name].bus_width))
        for name in CHOICES
    ]


def rounded_up(size: int) -> int:
    """Memory for so many bytes."""
    return -(-size // _MEMORY_UNIT) * _MEMORY_UNIT


def named_build(name: str, batch: int = 1, changes: Sequence[str] = (), **wanted: int) -> Config:
    """A named build with changes; and with what else is wanted, and the right-hand sides of a batch, where these do not say."""
    there = CONFIGS[name]
    if batch > there.right_hand_sides:
        wanted["right_hand_sides"] = next((n for n in RIGHT_HAND_SIDES if n >= batch), RIGHT_HAND_SIDES[-1])
    changed = {change.partition("=")[0] for change in changes}
    more = [f"{field}={value}" for field, value in wanted.items() if field not in changed and getattr(there, field) != value]
    return parse_config(",".join([name, *changes, *more]))


def lay_out(
    imported: DescribedModel, geometry: Geometry, request: ImageRequest, available: int | None = None, base: int = 0
) -> Layout:
    """Lay a model out for its context on a device; where it does not fit, say what would.

    Parameters
    ----------
    imported : DescribedModel
    geometry : Geometry
    request : ImageRequest
    available : int or None
        Bytes of device memory from `base` on; None: as much as is needed.
    base : int
        First address, a multiple of 64.

    Raises
    ------
    ModelError
        If the device can't read a matrix.
    LimitError
        If the model, its context or the batch does not fit the device: with the longest context that does, and a build that
        takes this one.
    """
    try:
        layout = layout_of(imported, geometry, request, base)
    except (LimitError, ModelError) as error:
        instead = advice(imported, geometry, request, available)
        if isinstance(error, ModelError) and not instead:
            raise
        raise LimitError(f"{str(error).removesuffix('.')}. {instead or _NO_BUILD}") from None
    if available is not None and layout.size > available:
        raise LimitError(_too_large(layout, available, longest_context(imported, geometry, request, available)))
    return layout


_NO_BUILD = "No named build takes this model"


def advice(imported: DescribedModel, geometry: Geometry, request: ImageRequest, available: int | None = None) -> str:
    """What would run in place of what does not; nothing, if nothing would."""
    of_batch = f" for a batch of {request.batch}" if request.batch > 1 else ""
    longest = longest_context(imported, geometry, request, available)
    found = []
    if longest:
        found.append(f"The longest context of this model on this device{of_batch} is {longest} tokens")
    builds = [named_build(name, request.batch) for name in CONFIGS]
    taking = next((build for build in builds if fits(imported, Geometry.of_config(build), request)), None)
    if taking is not None:
        found.append(f"a build that takes {imported.context}{of_batch} is {taking.name} (--config {taking.name})")
    else:
        contexts = {build.name: longest_context(imported, Geometry.of_config(build), request) for build in builds}
        best = max(contexts, key=contexts.__getitem__)
        if contexts[best] > longest:
            found.append(f"the longest that a named build takes{of_batch} is {contexts[best]} (--config {best})")
    text = ", and ".join(found)
    return text[:1].upper() + text[1:]


def _too_large(layout: Layout, available: int, longest: int) -> str:
    image = layout.image
    others = layout.size - image.stream_bytes - image.table_bytes - image.cache_bytes
    shorter = f"ask for a context of up to {longest} tokens with --context" if longest else "choose a smaller model"
    return (
        f"{image.imported.name} needs {layout.size} bytes of device memory, but only {available} are available:"
        f" {image.stream_bytes} for weights, {image.table_bytes} for embeddings and other tables, {image.cache_bytes} for the"
        f" KV cache at a context of {image.capacity} tokens, {others} for programs and results."
        f" Use a device with more memory (a simulated one takes what is needed: --memory auto), or {shorter}"
    )
