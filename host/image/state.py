"""States of linear attention and recent rows as they lie in device memory: computed elsewhere, kept, and read back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.placement import StatePlace
from tailrace.spec.formats import LANE_BYTES, Q8_0
from tailrace.spec.linear_attention import CAPACITY, ENTRIES, FOLD, SCALES, StateLayout, quantise_state
from tailrace.spec.recent_rows import ROWS, RecentRows

from .weight_stream import blocks_of_stream, stream_of_blocks

Parts = dict[str, NDArray[np.generic]]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class StoredState:
    """What a layer keeps of a sequence: numbers and codes, in an order that no build has a say in.

    Attributes
    ----------
    parts : dict of str to ndarray
        By the name of the part (`tailrace.spec.linear_attention`); keys are whole rows of Q8_0 blocks.
    """

    parts: Parts

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of each part: what states of one model have in common."""
        return tuple(part.size for part in self.parts.values())

    def first(self, length: int) -> "StoredState":
        """The same: a state is cut by going back to another length."""
        del length
        return self


def stored_parts(layout: StateLayout | RecentRows) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each part that is kept."""
    if isinstance(layout, RecentRows):
        return {"rows": ("<f4", (ROWS, layout.pitch // 4))}
    heads, keys, values = layout.value_heads, layout.key_size, layout.value_size
    deltas = ("i1", (heads, CAPACITY, values))
    return {
        "rows": ("<f4", (ROWS, layout.rows.pitch // 4)),
        "sums": ("<f4", (ENTRIES, layout.sum_pitch // 4)),
        "scales": ("<f4", (heads, SCALES)),
        "logs": ("<f4", (heads, SCALES)),
        "state_scales": ("<f4", (heads, 2 * keys)),
        "keys": ("u1", (layout.key_heads, CAPACITY, layout.key_blocks * Q8_0.file_bytes)),
        "deltas": deltas,
        "lower_deltas": deltas,
        "state": ("i1", (heads, 2 * keys, values)),
        "master": ("<f4", (heads, keys, values)),
    }


def state_at(layout: StateLayout | RecentRows, position: int, inputs: Floats, state: Floats | None = None) -> StoredState:
    """What a layer keeps of a sequence whose state was computed elsewhere: S0 stands at its end, and its list is empty.

    Parameters
    ----------
    layout : StateLayout or RecentRows
    position : int
        Tokens of the sequence.
    inputs : ndarray of float32, shape (tokens, channels)
        What the convolution has seen last; it needs ``kernel - 1`` tokens, or all there are.
    state : ndarray of float32, shape (value_heads, key_size, value_size), or None
        S; None where there are recent rows alone.
    """
    parts: Parts = {name: np.zeros(shape, kind) for name, (kind, shape) in stored_parts(layout).items()}
    rows = layout.rows if isinstance(layout, StateLayout) else layout
    for back in range(1, min(rows.kernel, position + 1)):
        parts["rows"][(position - back) % ROWS, : rows.channels] = inputs[-back]
    if isinstance(layout, StateLayout):
        assert state is not None
        parts["master"][...] = state
        parts["state_scales"], parts["state"] = quantise_state(state)
    return StoredState(parts)


def read_state(place: StatePlace, read: Callable[[int, int], bytes], length: int, begun: int) -> StoredState:
    """Read all that a layer keeps of a sequence back; the inverse of `state_writes`.

    What none of its tokens has written is zero, whatever the memory has there.

    Parameters
    ----------
    place : StatePlace
    read : callable
        Reads so many bytes at an address.
    length : int
        Tokens of the sequence.
    begun : int
        Position that its S0 stands at.
    """
    parts: Parts = {}
    for name, (kind, shape) in stored_parts(place.layout).items():
        start, size = _stretch(place.layout, name)
        raw = np.frombuffer(read(place.address + start, size), np.uint8)
        parts[name] = _loaded(place.layout, name, raw, kind, shape)
    for part in _unwritten(parts, length, begun):
        part[...] = 0
    return StoredState(parts)


def _unwritten(parts: Parts, length: int, begun: int) -> Iterator[NDArray[np.generic]]:
    """The places that nothing has been written to since the sequence began."""
    yield parts["rows"][length:]
    if "sums" not in parts:
        return
    end = length - begun // FOLD * FOLD + 1
    yield parts["sums"][end:]
    for name in ("keys", "deltas", "lower_deltas"):
        yield parts[name][:, :1]
    for name in ("scales", "logs", "keys", "deltas", "lower_deltas"):
        yield parts[name][:, end:]
    if not begun:
        for name in ("state_scales", "state", "master"):
            yield parts[name]


def state_writes(place: StatePlace, stored: StoredState) -> Iterator[tuple[int, bytes]]:
    """What to write where, so that a layer keeps this of a sequence.

    Yields
    ------
    tuple of (int, bytes)
        Address and data.
    """
    for name, part in stored.parts.items():
        yield place.address + _stretch(place.layout, name)[0], _laid_out(place.layout, name, part)


def _stretch(layout: StateLayout | RecentRows, name: str) -> tuple[int, int]:
    """First byte and size of a part."""
    if isinstance(layout, RecentRows):
        return 0, layout.size
    starts = list(layout.offsets.values())
    n = list(layout.offsets).index(name)
    return starts[n], starts[n + 1] - starts[n]


def _loaded(
    layout: StateLayout | RecentRows, name: str, raw: NDArray[np.uint8], kind: str, shape: tuple[int, ...]
) -> NDArray[np.generic]:
    if kind == "<f4":
        return raw.view(kind).reshape(shape).copy()
    assert isinstance(layout, StateLayout)
    heads, lanes = raw.reshape(shape[0], -1), layout.lanes
    if kind == "u1":
        size = Q8_0.matrix_bytes(CAPACITY, layout.key_blocks, lanes)
        rows = [blocks_of_stream(Q8_0, head[:size], CAPACITY, layout.key_blocks, lanes) for head in heads]
        return np.stack(rows).reshape(shape)
    _, columns, values = shape
    groups = -(-values // lanes)
    beats = heads[:, : groups * lanes * columns].reshape(shape[0], groups, columns // LANE_BYTES, lanes, LANE_BYTES)
    table = beats.swapaxes(2, 3).reshape(shape[0], groups * lanes, columns)[:, :values]
    return table.swapaxes(1, 2).copy().view(np.int8)


def _laid_out(layout: StateLayout | RecentRows, name: str, part: NDArray[np.generic]) -> bytes:
    """The inverse of `_loaded`."""
    if part.dtype.kind == "f":
        return part.astype("<f4").tobytes()
    assert isinstance(layout, StateLayout)
    lanes, size = layout.lanes, _stretch(layout, name)[1]
    stride = size // part.shape[0]
    raw = np.zeros((part.shape[0], stride), np.uint8)
    if name == "keys":
        for head, rows in zip(raw, part, strict=True):
            stream = stream_of_blocks(Q8_0, rows.astype(np.uint8), lanes)
            head[: stream.size] = stream.reshape(-1).view(np.uint8)
        return raw.tobytes()
    heads, columns, values = part.shape
    groups = -(-values // lanes)
    table = np.zeros((heads, groups * lanes, columns), np.uint8)
    table[:, :values] = part.swapaxes(1, 2).astype(np.int8).view(np.uint8)
    beats = table.reshape(heads, groups, lanes, columns // LANE_BYTES, LANE_BYTES).swapaxes(2, 3)
    raw[:, : groups * lanes * columns] = beats.reshape(heads, -1)
    return raw.tobytes()
