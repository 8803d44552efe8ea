"""How far the device's numbers are from float32: teacher forcing over real text."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from transformers import DynamicCache

from tailrace.firmware.decode import MAX_ROWS
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ConfigError, LimitError

from ..device.decoder import Decoder
from ..device.driver import Device
from ..device.opening import open_for
from ..gguf.describe import import_model
from ..gguf.file import open_model
from ..huggingface import internals
from ..huggingface.loader import load_model
from ..huggingface.operations import OperationOffload
from ..huggingface.placement import make_plan
from ..image.builds import AUTO, rounded_up
from ..image.geometry import Geometry
from ..image.image import ImageRequest
from ..text.tokenizer import Tokenizer
from .comparison import Quality
from .prose import PROSE
from .tally import Tally

#: Positions that are compared at a time: logits of so many are in memory.
_CHUNK = 64


def measure_quality(
    path: str,
    *,
    positions: int = 512,
    window: int = 2048,
    operations: bool = False,
    device: str = "emulator",
    config: str = "base,right_hand_sides=4",
    text: Path = PROSE,
    on_progress: Callable[[str, float], None] | None = None,
) -> Quality:
    """Teacher-force a model over a text on the device, against the same model in float32 on the host.

    Both use the same dequantised weights. The text is cut into windows, each of which starts with an empty context; the device
    takes as many of them at a time as it has right-hand sides.

    Parameters
    ----------
    path : str
        GGUF file.
    positions : int
        Tokens of the text.
    window : int
        Tokens of a window; the last one may be shorter.
    operations : bool
        Whether only the linear layers run on the device, one by one, and the host computes attention and norms in float32.
        Else the device takes whole decode steps, with its KV cache of 8 bits.
    device, config
        The device.
    text : Path
        A text file, long enough.
    on_progress : callable or None
        Told what has been done, and which part of the whole.

    Raises
    ------
    LimitError
        If the text is too short, or the model does not fit the device.
    ConfigError
        If a number is out of range.
    """
    if window < 2 or positions < 2:
        raise ConfigError(f"positions and window must be 2 or more, not {positions} and {window}")
    tell = on_progress or (lambda what, part: None)
    model = open_model(path)
    tell("reading the text", 0.0)
    tokens = Tokenizer(model).encode(text.read_text(encoding="utf-8"))[:positions]
    if len(tokens) < positions:
        raise LimitError(f"{text} has {len(tokens)} tokens, and {positions} are needed: give a longer text or fewer positions")
    window = min(window, positions)
    windows = [torch.tensor(tokens[start : start + window]) for start in range(0, positions, window)]
    build = parse_config(config)
    tell("loading the model", 0.0)
    plan = make_plan(model, Geometry.of_config(build))
    host = load_model(plan, window, "cpu")
    tally, done = Tally(), 0
    with ExitStack() as opened, torch.no_grad():
        side: _Steps | _Operations
        if operations:
            plan.check(plan.memory_bytes)
            target = opened.enter_context(Device(open_device(device, build, rounded_up(plan.memory_bytes))))
            side = _Operations(OperationOffload(host, plan, target))
        else:
            imported = import_model(model, window)
            batch = min(build.right_hand_sides, MAX_ROWS, len(windows))
            target = opened.enter_context(open_for(device, config, AUTO, imported, ImageRequest(batch)))
            side = _Steps(Decoder(target, imported, batch=batch))
        for group in (windows[n : n + side.batch] for n in range(0, len(windows), side.batch)):
            caches = [DynamicCache(config=host.model.config) for _ in group]
            for first, mine in side.logits(group):
                for tokens_of, cache, found in zip(group, caches, mine, strict=True):
                    end = min(first + _CHUNK, len(tokens_of))
                    if first >= end:
                        continue
                    ids = tokens_of[None, first:end]
                    expected = host.model(input_ids=ids, **internals.with_cache(cache)).logits[0]
                    tally.add(expected, found, tokens_of[first + 1 : end + 1])
                    done += end - first
                    tell(f"{device} and float32", done / positions)
    return tally.result(window)


class _Steps:
    """Whole decode steps of several windows at a time."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder, self.batch = decoder, decoder.batch

    def logits(self, windows: Sequence[torch.Tensor]) -> Iterator[tuple[int, list[torch.Tensor]]]:
        """Yield a position, and the logits of each window from there on, some positions at a time."""
        self._decoder.reset()
        longest = max(map(len, windows))
        for first in range(0, longest, _CHUNK):
            rows: list[list[torch.Tensor]] = [[] for _ in windows]
            for place in range(first, min(first + _CHUNK, longest)):
                given = [int(window[place]) if place < len(window) else None for window in windows]
                found = self._decoder.step([*given, *[None] * (self.batch - len(given))])
                for row, token, logits in zip(rows, given, found):
                    if token is not None:
                        row.append(torch.from_numpy(logits))
            yield first, [torch.stack(row) if row else torch.empty(0) for row in rows]


class _Operations:
    """Linear layers alone, of one window at a time."""

    batch = 1

    def __init__(self, offload: OperationOffload) -> None:
        self._offload = offload

    def logits(self, windows: Sequence[torch.Tensor]) -> Iterator[tuple[int, list[torch.Tensor]]]:
        """Yield logits as `_Steps` does."""
        (window,) = windows
        found = self._offload.logits(window[None])[0].float().cpu()
        for first in range(0, len(window), _CHUNK):
            yield first, [found[first : first + _CHUNK]]
