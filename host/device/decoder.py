"""Whole decode steps on the device: a token goes in, logits or the next tokens come out, with one doorbell."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from operator import index
from time import monotonic
from typing import Any, get_args, overload

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.decode import pass_arguments
from tailrace.firmware.description import Attention, Keeper
from tailrace.firmware.passes import effective_window
from tailrace.firmware.placement import CachePlace, StatePlace
from tailrace.sim.progress import say
from tailrace.spec.errors import ConfigError, LimitError, ModelError, TailraceError
from tailrace.spec.isa import ADDRESS_UNIT

from ..gguf.describe import DescribedModel, with_or_without_drafts
from ..gguf.printable import shown
from ..gguf.whole_number import whole_number
from ..image.builds import lay_out
from ..image.image import Image, ImageRequest
from ..image.kv_cache import Floats, StoredCache, cache_writes, read_stored, stored_writes
from ..image.programs import DRAFT, Kind, Programs
from ..image.state import StoredState, read_state, state_at, state_writes, stored_parts
from ..image.write import BY_TOKEN, write_image
from ..progress import Progress
from .counters import Counters
from .driver import Device
from .kept_image import kept_image
from .resident import ResidentPrograms
from .states import States
from .token_ids import Token, TokenArray, Tokens, is_one, token_list

#: About what simulations run at. What is drafted depends on how long passes take: measured, it would differ from run to run.
_SIMULATED_HZ = 300e3


@dataclass(frozen=True)
class Snapshot:
    """What the device holds of a sequence: its KV cache, code by code, whatever the build.

    Attributes
    ----------
    length : int
        Tokens.
    earliest : int
        Fewest tokens but 0 that it can be cut to: of a window, older tokens are gone.
    layers : tuple of StoredCache or StoredState
        Of those that share no other layer's.
    begun : int
        Position that the S0 of linear attention stand at.
    """

    length: int
    earliest: int
    layers: tuple[StoredCache | StoredState, ...]
    begun: int = 0

    def first(self, length: int) -> "Snapshot":
        """What it was when the sequence had its first tokens only.

        Raises
        ------
        LimitError
            If it has fewer, or a window has lost what the next token would see.
        """
        length = _check_cut(self.length, self.earliest, length)
        if not length:
            return Snapshot(0, 0, tuple(held.first(0) for held in self.layers))
        # Of a ring that has closed, all rows stay.
        closed = [isinstance(held, StoredCache) and held.shape[1] != self.length for held in self.layers]
        layers = tuple(held if whole else held.first(length) for held, whole in zip(self.layers, closed, strict=True))
        return Snapshot(length, self.earliest, layers, self.begun)


class Decoder:
    """A model in a device's memory, and the sequences that it decodes.

    `step` and `run` take one token, or one for each sequence; what they return has the same form. All sequences take a step
    together; each has its own position and KV cache. A sequence for which None is given sits the step out. `prefill` and
    `take` take several tokens of a sequence in one pass over the weights.

    Tokens may be Python's integers, numpy's, or arrays and tensors of them. Decoders of one device may be used from several
    threads.

    Parameters
    ----------
    device : Device
    imported : DescribedModel
        Its context is the decoder's. Of a layer that drafts nothing is laid out where no draft could be verified, or where
        there is no room for it.
    batch : int
        Sequences, at most as many as the device has right-hand sides.
    tokens_per_doorbell : int
        The largest `count` of `run`. More than 1 needs all embeddings in the device's memory.
    quantise : str or None
        Format that matrices of plain numbers become; None: they are taken apart into planes.
    on_progress : callable or None
        Told about what is being written to the device.
    on_step : callable or None
        Called after each doorbell with its counters; those of a fold, or a draft, have no bytes of weights.

    Attributes
    ----------
    image : Image
    programs : Programs
    positions : list of int
        Tokens that each sequence has behind it.
    counters : Counters
        Sums over its doorbells so far.
    steps : Counter of (str, int)
        Steps that were taken, by their program and the mean of the sequences' positions; folds and passes over several tokens
        of a prompt, by that of the sequence; drafts.
    last_step : (str, int) or None
        The last one of them.
    seconds : float
        How long its doorbells have taken, folds left out; of a simulation, as if each ran at 300 kHz.
    limit : int
        Positions that a sequence can have.

    Raises
    ------
    TypeError
        If `device` or `imported` are something else.
    ConfigError
        If a number or a callable is none.
    ModelError
        If the device can't read the model's matrices, or one is damaged.
    LimitError
        If model and context do not fit the device.
    """

    def __init__(
        self,
        device: Device,
        imported: DescribedModel,
        *,
        batch: int = 1,
        tokens_per_doorbell: int = 1,
        quantise: str | None = None,
        on_progress: Progress | None = None,
        on_step: Callable[[Counters], None] | None = None,
    ) -> None:
        if not isinstance(imported, DescribedModel):
            raise TypeError(f"a decoder takes what tailrace.gguf.describe.import_model(model) returns, not {shown(imported)}")
        if not isinstance(device, Device):
            raise TypeError(f"a decoder takes what tailrace.device.driver.Device(transport) is, not {shown(device)}")
        batch = whole_number("batch", batch, 1)
        tokens_per_doorbell = whole_number("tokens_per_doorbell", tokens_per_doorbell, 1)
        for name, listener in (("on_progress", on_progress), ("on_step", on_step)):
            if listener is not None and not callable(listener):
                raise ConfigError(f"{name} must be a callable, or None, not {shown(listener)}")
        self.device, self.imported, self.on_step = device, imported, on_step
        request = ImageRequest(batch, tokens_per_doorbell > 1, quantise)
        self.limit = imported.context
        self._run_limit = tokens_per_doorbell
        self.positions = [0] * batch
        self._earliest = [0] * batch
        # Of each sequence the tokens behind which the layer that drafts can go on: it has been left out of those since.
        self._filled = [0] * batch
        self.counters, self.seconds = Counters(), 0.0
        self.steps: Counter[tuple[str, int]] = Counter()
        self.last_step: tuple[str, int] | None = None
        # Nobody else may take the memory that is planned with.
        with device.exclusive():
            if tokens_per_doorbell > 1 or device.geometry.right_hand_sides == 1:
                imported = imported.without_drafts()
            imported, layout = with_or_without_drafts(
                imported, lambda one: lay_out(one, device.geometry, request, device.free_memory, device.free_address)
            )
            self.imported = imported
            self.image: Image = layout.image
            self.programs: Programs = layout.programs
            self._resident = ResidentPrograms(device, self.programs)
            self._upload(on_progress)
        # Sizes of the rings in which layers with a window keep their tokens, and whether these windows are chunks.
        self._windows = {
            (window, mixer.chunked)
            for (_, mixer), place in zip(imported.description.mixers, self.image.placement.caches[0], strict=True)
            if isinstance(mixer, Attention) and isinstance(place, CachePlace)
            and (window := effective_window(mixer, place.capacity)) is not None
        }  # fmt: skip
        self._states = States(self.device, self.image, self.programs)

    def _upload(self, on_progress: Progress | None) -> None:
        image = self.image
        with self.device.reserve(self.programs.end - image.base, self.imported.name):
            self._load(on_progress)
            self._resident.write_all()

    def _load(self, on_progress: Progress | None) -> None:
        """Bring weights and tables into the device's memory: from a file, if it can show one."""
        kept = kept_image(self.image, on_progress) if self.device.maps_files else None
        if kept is not None:
            try:
                self.device.map_file(self.image.base, kept)
            except OSError as error:
                say(f"{kept} can't be mapped ({error.strerror}): the model is laid out again")
            else:
                return
        write_image(self.image, self.device, on_progress)

    @property
    def batch(self) -> int:
        """Sequences."""
        return self.image.request.batch

    @property
    def tokens_per_doorbell(self) -> int:
        """The largest `count` of `run`."""
        return self._run_limit

    def reset(self, sequence: int | None = None) -> None:
        """Start a sequence over, or all of them."""
        for n in range(self.batch) if sequence is None else [self._one_of(sequence)]:
            self.positions[n], self._earliest[n], self._filled[n] = 0, 0, 0
            self._states.forget(n)

    def earliest(self, sequence: int = 0) -> int:
        """Fewest tokens but 0 to which `truncate` can cut a sequence.

        In a sliding window older ones are overwritten, and so are those of earlier chunks; in a state of linear attention they
        can't be told apart.
        """
        return self._earliest[self._one_of(sequence)]

    def truncate(self, length: int, sequence: int = 0) -> None:
        """Take a sequence back to its first tokens.

        Parameters
        ----------
        length : int
            Tokens that stay.
        sequence : int

        Raises
        ------
        LimitError
            If it has fewer, or a window has lost what the next token would see.
        """
        sequence = self._one_of(sequence)
        length = _check_cut(self.positions[sequence], self._earliest[sequence], length)
        if length == 0:
            self.reset(sequence)
        self.positions[sequence] = length
        self._filled[sequence] = min(self._filled[sequence], length)

    def prefill(self, tokens: Tokens) -> None:
        """Take tokens of a prompt, without computing logits: as many in a pass as the device has right-hand sides.

        Parameters
        ----------
        tokens : sequence of int, or of such sequences; or arrays
            Those of one sequence, or for each sequence its own; they may differ in length, and be empty.

        Raises
        ------
        LimitError
            If the context is full before the end; nothing has been taken then.
        """
        given = token_list(tokens)
        prompts: list[list[Any]] = [given] if not given or not isinstance(given[0], list) else given
        self._check_batch(len(prompts))
        with self.device.exclusive():
            for sequence, prompt in enumerate(prompts):
                self._check_tokens(prompt)
                self._check_room(sequence, len(prompt))
            rest = {sequence: prompt for sequence, prompt in enumerate(prompts) if prompt}
            while rest:
                now: dict[int, list[int]] = {}
                for sequence, prompt in rest.items():
                    left = self.programs.most_together - sum(map(len, now.values()))
                    if taken := prompt[: min(left, self.together(sequence))]:
                        now[sequence] = taken
                self._pass("prompt", now)
                rest = {n: more for n, prompt in rest.items() if (more := prompt[len(now.get(n, ())) :])}

    def together(self, sequence: int = 0) -> int:
        """Tokens of a sequence that a pass can take at most: of linear attention none beyond the next fold."""
        sequence = self._one_of(sequence)
        return min(self.programs.most_rows, self._states.stretch(self.positions[sequence]))

    def reversible(self, sequence: int = 0) -> int:
        """Tokens of a sequence that a pass can take at most so that `truncate` can go back to any number of them but 0.

        Where a sliding window has closed these are two: a second one that is taken back has overwritten what is still seen. Of
        chunks it is one token of the next one at most.
        """
        sequence = self._one_of(sequence)
        return self.retractable(self.positions[sequence], self.together(sequence), sequence)

    def retractable(self, position: int, most: int, sequence: int = 0) -> int:
        """The same of the tokens, at most so many, that a sequence takes from a position on, in one pass or several."""
        count = min(most, self._states.stretch(position), self.limit - position)
        while count > 1 and self._earliest_after(sequence, position + count) > position + 1:
            count -= 1
        return max(count, 1)

    def has_filled(self, sequence: int = 0) -> bool:
        """Whether the layer that drafts has been there for a sequence's last token, so that it can say what comes next."""
        sequence = self._one_of(sequence)
        return 0 < self._filled[sequence] == self.positions[sequence]

    def take(self, tokens: Sequence[Tokens | None], kind: Kind = "logits", fills: bool = True) -> list[Any]:
        """Take several tokens of sequences in one pass over the weights. Each has the bits that it has in a step of its own.

        So drafts of an answer are verified: what is wrong of them is taken back with `truncate`.

        Parameters
        ----------
        tokens : sequence of (sequence of int, or None)
            For each sequence its next tokens, at most as many as `together` says, and all of them at most as many as
            `programs.most_together`; None, or none: it sits out.
        kind : str
            What is computed after each token: ``logits``; ``tokens``, the best one; ``prompt``: nothing.
        fills : bool
            Whether the cache of a layer that drafts is filled, if there is one. Without, a pass takes less, and that layer sees
            zeros in place of these tokens when it goes on.

        Returns
        -------
        list
            For each sequence, and each token that it was given: logits, an ndarray of float32 of shape (tokens, vocabulary); or
            the best next tokens, a list of int; None if it sat out, or if nothing is computed.

        Raises
        ------
        LimitError
            If the context is full, or these are too many tokens.
        DeviceError, DeviceTimeout
            If the device stopped; the sequences are where they were.
        """
        if kind not in get_args(Kind):
            raise ConfigError(f"kind must be one of {', '.join(get_args(Kind))}, not {shown(kind)}")
        self._check_batch(len(tokens))
        with self.device.exclusive():
            given: dict[int, list[int]] = {}
            for sequence, wanted in enumerate(tokens):
                taken = [] if wanted is None else token_list(wanted)
                self._check_tokens(taken)
                self._check_room(sequence, len(taken))
                if len(taken) > self.together(sequence):
                    raise LimitError(f"a pass takes at most {self.together(sequence)} tokens of sequence {sequence} now")
                if taken:
                    given[sequence] = taken
            rows, most = sum(map(len, given.values())), self.programs.most_together
            if not 1 <= rows <= most:
                raise LimitError(f"a pass of this decoder takes 1 to {most} tokens, not {rows}")
            found = self._pass(kind, given, fills=fills)
        if kind == "prompt":
            return [None] * self.batch
        results = [found.get(sequence) for sequence in range(self.batch)]
        return [r if r is None or kind == "tokens" else np.stack(r) for r in results]

    def draft(self, tokens: Sequence[tuple[int, int] | None]) -> list[Floats | None]:
        """Let the layer that drafts say what comes after tokens that no pass has taken yet. Nothing of this is seen later.

        Parameters
        ----------
        tokens : sequence of ((int, int), or None)
            For each sequence a token and its position: that of its next token; or one more than in the last call, if no pass
            has been between them. None: it sits out.

        Returns
        -------
        list of (ndarray of float32, or None)
            For each sequence logits of the first tokens, those that are drafted.

        Raises
        ------
        ConfigError
            If no layer of the model drafts.
        LimitError
            If a sequence has no tokens, or the context is full.
        DeviceError, DeviceTimeout
            If the device stopped; the sequences are where they were.
        """
        layer = self.imported.description.draft_layer
        if layer is None:
            raise ConfigError(f"{self.imported.name} was imported without a layer that drafts")
        self._check_batch(len(tokens))
        given = {sequence: pair for sequence, pair in enumerate(tokens) if pair is not None}
        found: list[Floats | None] = [None] * self.batch
        with self.device.exclusive():
            self._check_tokens([token for token, _ in given.values()])
            for sequence, (_, position) in given.items():
                if not 0 < self.positions[sequence] <= position:
                    raise LimitError(f"nothing can be drafted for position {position} of sequence {sequence}")
                self._check_room(sequence, position - self.positions[sequence] + 1)
            positions = [position for _, position in given.values()]
            try:
                name = self.programs.name_of(DRAFT, list(given))
            except LimitError:
                if len(given) == 1:
                    raise
                for one, pair in given.items():
                    found[one] = self.draft([pair if n == one else None for n in range(self.batch)])[one]
                return found
            # A row sees what lies before its token.
            here = self.programs.at(name, [position - 1 for position in positions])
            for sequence, (_, position) in given.items():
                self._catch_up(sequence)
                self._note_rows(sequence, position + 1)
            counters = self._ring(here, [token for token, _ in given.values()], positions, 1, 0)
            for sequence, address in zip(given, self.image.placement.logits, strict=False):
                found[sequence] = np.frombuffer(self.device.read(address, 4 * layer.vocabulary), dtype="<f4")
            self.steps[name, sum(positions) // len(positions)] += 1
            if self.on_step is not None:
                self.on_step(counters)
        return found

    def step(self, tokens: Token | TokenArray | Sequence[Token | None]) -> Floats:
        """Take a token and compute the logits of the next one.

        Parameters
        ----------
        tokens : int, or sequence of int or None

        Returns
        -------
        ndarray of float32, shape (vocabulary,), or (batch, vocabulary)
            The caller's own. Those of a sequence that sat out are NaN.

        Raises
        ------
        LimitError
            If the context is full.
        DeviceError, DeviceTimeout
            If the device stopped; the sequences are where they were.
        """
        logits = np.full((self.batch, self.imported.description.vocabulary), np.nan, dtype=np.float32)
        with self.device.exclusive():
            given = {n: [token] for n, token in enumerate(self._given(tokens, 1)) if token is not None}
            for sequence, (found,) in (self._pass("logits", given) if given else {}).items():
                logits[sequence] = found
        return logits[0] if is_one(tokens) else logits

    @overload
    def run(self, tokens: int | np.integer[Any], count: int = 1) -> list[int]: ...
    @overload
    def run(self, tokens: Sequence[Token | None], count: int = 1) -> list[list[int]]: ...
    @overload
    def run(self, tokens: TokenArray, count: int = 1) -> Any: ...

    def run(self, tokens: Token | TokenArray | Sequence[Token | None], count: int = 1) -> list[int] | list[list[int]]:
        """Take a token, and let the device choose the best next one, and go on from it; with one doorbell.

        Parameters
        ----------
        tokens : int, or sequence of int or None
        count : int
            Tokens to choose, at most `tokens_per_doorbell`. More than 1 is for when no sequence sits out.

        Returns
        -------
        list of int, or list of such lists
            The chosen tokens of the sequence, or of each; of one that sat out none. The last one has not been taken yet.

        Raises
        ------
        LimitError
            If the context does not have that much room.
        DeviceError, DeviceTimeout
            If the device stopped; the sequences are where they were, or at the last fold that the run has gone over.
        """
        count = whole_number("count", count)
        if not 1 <= count <= self._run_limit:
            raise LimitError(f"this decoder chooses 1 to {self._run_limit} tokens with a doorbell, not {count}")
        with self.device.exclusive():
            given = {n: [token] for n, token in enumerate(self._given(tokens, count)) if token is not None}
            if count > 1 and len(given) < self.batch:
                raise ValueError("a sequence can sit out one token at a time, not a run of several")
            chosen: list[list[int]] = [[] for _ in range(self.batch)]
            while count and given:
                positions = [self.positions[n] for n in given]
                stretch = min(count, *map(self._states.stretch, positions), *map(self.programs.stretch, positions))
                for sequence, found in self._pass("tokens", given, stretch).items():
                    chosen[sequence] += found
                    given[sequence] = found[-1:]
                count -= stretch
        return chosen[0] if is_one(tokens) else chosen

    def _kept(self, sequence: int) -> list[tuple[Keeper, CachePlace | StatePlace]]:
        """What layers keep of a sequence, each place once, and what it belongs to."""
        description, places = self.imported.description, self.image.placement.caches[sequence]
        return [(description.mixers[n][1], places[n]) for n in description.owners]

    def snapshot(self, sequence: int = 0) -> Snapshot:
        """Read the KV cache of a sequence back, exactly as it is stored."""
        sequence = self._one_of(sequence)
        layers: list[StoredCache | StoredState] = []
        lanes = self.image.build.lanes
        # Where the layer that drafts comes, which has nothing of the last token yet.
        drafts = len(self._kept(sequence)) - 2 if self.imported.description.draft_layer else -1
        with self.device.exclusive():
            self._catch_up(sequence)
            length = self.positions[sequence]
            for mixer, place in self._kept(sequence):
                if isinstance(place, StatePlace):
                    layers.append(read_state(place, self.device.read, length, self._states.begun(sequence)))
                    continue
                assert isinstance(mixer, Attention)
                window = effective_window(mixer, place.capacity)
                rows = length if window is None else min(length, window)
                held = read_stored(place, mixer, rows, lanes, self.device.read)
                layers.append(held.but_last() if len(layers) == drafts and rows else held)
            return Snapshot(length, self._earliest[sequence], tuple(layers), self._states.begun(sequence))

    def restore(self, snapshot: Snapshot, sequence: int = 0) -> None:
        """Make a sequence what it, or another one of the same model, was.

        Parameters
        ----------
        snapshot : Snapshot
            Of this decoder, or of one of the same model on any device.
        sequence : int

        Raises
        ------
        LimitError
            If the context is too short.
        ModelError
            If it is not one of such a model.
        TypeError
            If it is no snapshot.
        """
        if not isinstance(snapshot, Snapshot):
            raise TypeError(f"restore takes what snapshot(sequence) returns, not {shown(snapshot)}")
        sequence = self._one_of(sequence)
        length = snapshot.length
        if length > self.limit:
            raise self._full(length)
        kept = self._kept(sequence)
        shapes = [_cache_shape(mixer, length) if isinstance(mixer, Attention) else _state_shape(place) for mixer, place in kept]
        if [held.shape for held in snapshot.layers] != shapes:
            raise ModelError("the snapshot is that of another model: use one of the same")
        with self.device.exclusive():
            # Whoever is interrupted here finds an empty sequence.
            self.reset(sequence)
            for (_, place), held in zip(kept, snapshot.layers, strict=True):
                for address, data in _writes(place, held, self.image.build.lanes):
                    self.device.write(address, data)
            if length:
                self._states.resume(sequence, snapshot.begun)
            self._earliest[sequence], self.positions[sequence] = snapshot.earliest, length
            self._filled[sequence] = length

    def load_cache(self, layer: int, sequence: int, first: int, keys: Floats, values: Floats) -> None:
        """Write keys and values that were computed elsewhere to the cache of a layer, in place of all that it holds.

        Parameters
        ----------
        layer, sequence : int
        first : int
            Position of the first token; with a sliding window, tokens that nothing sees any more may be left out.
        keys : ndarray of float32, shape (kv_heads, tokens, head_size)
            After RoPE, pairs as in `tailrace.firmware.description.Attention`.
        values : ndarray of float32, shape (kv_heads, tokens, value_size)
        """
        described = self.imported.description.layers[layer]
        attention = described.attention
        if isinstance(attention, Attention) and attention.shared_cache:
            owner = self.imported.description.cache_layer(layer)
            raise ModelError(f"layer {layer} shares the KV cache of layer {owner}: write to that")
        if not isinstance(attention, Attention):
            raise ModelError(f"layer {layer} has no KV cache: write its state, with load_state")
        shape = (attention.kv_heads, keys.shape[1], attention.head_size)
        if keys.shape != shape or values.shape != (*shape[:2], attention.value_size):
            raise ValueError(
                f"keys and values of layer {layer} must have the shapes {shape} and {(*shape[:2], attention.value_size)}, not"
                f" {keys.shape} and {values.shape}"
            )
        positions = np.arange(first, first + shape[1])
        if attention.window is not None:
            seen = slice(max(shape[1] - attention.window, 0), None)
            positions, keys, values = positions[seen], keys[:, seen], values[:, seen]
        rows: NDArray[np.int64] = positions if attention.window is None else positions % attention.window
        if positions.size and positions[-1] >= self.limit:
            raise self._full(int(positions[-1]) + 1)
        place = self.image.placement.caches[sequence][layer]
        assert isinstance(place, CachePlace)
        with self.device.exclusive():
            for address, data in cache_writes(place, rows, keys, values, self.image.build.lanes):
                self.device.write(address, data)
        if attention.window is not None and positions.size and positions[0] > 0:
            following = int(positions[-1]) + 1
            whole = attention.first_seen(following) if attention.chunked else int(positions[0]) + attention.window - 1
            self._earliest[sequence] = max(self._earliest[sequence], whole)

    def load_state(self, layer: int, sequence: int, length: int, inputs: Floats, state: Floats | None = None) -> None:
        """Write what a layer keeps beside keys and values, computed elsewhere for the first tokens of a sequence.

        Parameters
        ----------
        layer, sequence : int
        length : int
            Tokens, at least one.
        inputs : ndarray of float32, shape (tokens, channels)
            What the layer's convolution has seen last, of at least ``kernel - 1`` tokens, or of all.
        state : ndarray of float32, shape (value_heads, key_size, value_size), or None
            The state behind them; None: the layer is a short convolution.
        """
        if length > self.limit:
            raise self._full(length)
        for n in self.imported.description.mixers_of(layer):
            place = self.image.placement.caches[sequence][n]
            if isinstance(place, StatePlace):
                break
        else:
            raise ModelError(f"layer {layer} has no state: write its keys and values, with load_cache")
        stored = state_at(place.layout, length, inputs, state)
        with self.device.exclusive():
            for address, data in state_writes(place, stored):
                self.device.write(address, data)

    def resume(self, sequence: int, length: int) -> None:
        """Let a sequence go on behind tokens of which every layer's cache and state have been written.

        Parameters
        ----------
        sequence : int
        length : int
            Tokens. A sequence with states can't be cut to fewer.
        """
        sequence = self._one_of(sequence)
        if length and self.imported.description.is_recurrent:
            self._states.resume(sequence, length)
            self._earliest[sequence] = length
        self.positions[sequence], self._filled[sequence] = length, 0

    def _catch_up(self, sequence: int) -> None:
        """Let the layer that drafts see zeros in place of tokens whose passes it was left out of, and go on behind them."""
        length, filled = self.positions[sequence], self._filled[sequence]
        if self.imported.description.draft_layer and filled < length:
            (mixer, cache), (_, hidden) = self._kept(sequence)[-2:]
            assert isinstance(mixer, Attention)
            assert isinstance(cache, CachePlace)
            assert isinstance(hidden, StatePlace)
            lanes, held = self.image.build.lanes, StoredCache.empty(mixer, length)
            if filled > 1:
                held = read_stored(cache, mixer, length, lanes, self.device.read)
                # Keys and values of the last token that it was there for come with the token behind that.
                for part in (held.key_scales, held.key_codes, held.value_scales, held.value_codes):
                    part[:, filled - 1 :] = 0
            for address, data in stored_writes(cache, held, lanes):
                self.device.write(address, data)
            self.device.write(hidden.address, bytes(hidden.layout.size))
        self._filled[sequence] = length

    def _given(self, tokens: Any, count: int) -> list[int | None]:
        """One token for each sequence, or None, checked; there is room for `count`."""
        given = token_list(tokens)
        self._check_batch(len(given))
        self._check_tokens(given)
        for sequence, token in enumerate(given):
            if token is not None:
                self._check_room(sequence, count)
        return given

    def _check_batch(self, count: int) -> None:
        if count != self.batch:
            raise ValueError(f"this decoder has {self.batch} sequences, and {count} were given")

    def _one_of(self, sequence: int) -> int:
        return whole_number("sequence", sequence, 0, self.batch - 1)

    def _check_tokens(self, tokens: Sequence[int | None]) -> None:
        vocabulary = self.imported.description.vocabulary
        for token in tokens:
            if isinstance(token, list):
                raise TailraceError(
                    "a token is a whole number, and a list was given in its place: prefill takes several at once"
                )
            if token is not None and not 0 <= token < vocabulary:
                raise TailraceError(f"token {token} is not one of the model's {vocabulary}")

    def _check_room(self, sequence: int, count: int) -> None:
        if 0 < self.positions[sequence] < self._earliest[sequence]:
            raise LimitError(
                f"sequence {sequence} can't go on: a run was interrupted, and wrote over what its next token would see. Start"
                " it over"
            )
        if self.positions[sequence] + count > self.limit:
            raise self._full(self.positions[sequence] + count)

    def _full(self, needed: int) -> LimitError:
        return LimitError(
            f"the context is full: it has room for {self.limit} tokens, and {needed} are needed. Ask for a longer one with"
            " --context, or start over"
        )

    def _pass(
        self, kind: Kind, given: Mapping[int, Sequence[int]], count: int = 1, fills: bool = True
    ) -> dict[int, list[Any]]:  # fmt: skip
        """Take tokens of sequences, together if the device has room for that; or run so many steps with one token of each.

        Returns what `kind` says for each sequence and each token.
        """
        sequences = sorted(given)
        rows = [sequence for sequence in sequences for _ in given[sequence]]
        positions = [self.positions[sequence] + n for sequence in sequences for n in range(len(given[sequence]))]
        try:
            name = self.programs.name_of(kind, rows, fills)
            here = self.programs.at(name, positions)
        except LimitError:
            if len(rows) == len(given):
                raise
            return self._one_by_one(kind, given, fills)
        tokens = [token for sequence in sequences for token in given[sequence]]
        for sequence in sequences:
            self._prepare(sequence)
            if fills:
                self._catch_up(sequence)
            self._note_rows(sequence, self.positions[sequence] + max(len(given[sequence]), count))
        counters = self._ring(here, tokens, positions, count, count * self._weight_bytes(kind, fills))
        found = self._results(kind, rows, count)
        self._note_step(name, sum(self.positions[n] for n in sequences) // len(sequences), count, counters)
        for sequence in sequences:
            self.positions[sequence] += max(len(given[sequence]), count)
            if fills:
                self._filled[sequence] = self.positions[sequence]
        return found

    def _one_by_one(self, kind: Kind, given: Mapping[int, Sequence[int]], fills: bool) -> dict[int, list[Any]]:
        """The first token of each sequence, then the second one of those that have two, and so on."""
        found: dict[int, list[Any]] = {sequence: [] for sequence in given}
        for turn in range(max(map(len, given.values()))):
            now = {sequence: tokens[turn : turn + 1] for sequence, tokens in given.items() if turn < len(tokens)}
            for sequence, results in self._pass(kind, now, fills=fills).items():
                found[sequence] += results
        return found

    def _results(self, kind: Kind, rows: Sequence[int], count: int) -> dict[int, list[Any]]:
        """What a program has left: for each sequence logits after each of its tokens, or the tokens that were chosen."""
        found: dict[int, list[Any]] = {sequence: [] for sequence in rows}
        placement = self.image.placement
        if kind == "logits":
            size = 4 * self.imported.description.vocabulary
            for sequence, address in zip(rows, placement.logits, strict=False):
                found[sequence].append(np.frombuffer(self.device.read(address, size), dtype="<f4"))
        elif kind == "tokens":
            for sequence in found:
                raw = self.device.read(placement.tokens[sequence], ADDRESS_UNIT * max(rows.count(sequence), count))
                found[sequence] = np.frombuffer(raw, dtype="<u4")[:: ADDRESS_UNIT // 4].tolist()
        return found

    def _ring(self, name: str, tokens: Sequence[int], positions: Sequence[int], count: int, weight_bytes: int) -> Counters:
        """Run a program with a token and a position for each row, and so many steps."""
        if not self.image.request.whole_embedding:
            self._write_embeddings(tokens)
            tokens = range(len(tokens))
        arguments = pass_arguments(tokens, positions)
        address = self._resident.address_of(name, count)
        commands = len(self.programs.loaded[name].program.commands)
        begun = monotonic()
        counters = self.device.start(address, commands, arguments=arguments, weight_bytes=weight_bytes)
        self.seconds += counters.cycles / _SIMULATED_HZ if self.device.transport.simulated else monotonic() - begun
        self.counters += counters
        return counters

    def _note_step(self, name: str, position: int, count: int, counters: Counters) -> None:
        """Note steps from a position on, and tell whoever listens."""
        self.steps.update((name, position + n) for n in range(count))
        self.last_step = name, position + count - 1
        if self.on_step is not None:
            self.on_step(counters)

    def _prepare(self, sequence: int) -> None:
        """Bring what a sequence keeps beside its KV cache to where its next token goes on from."""
        position = self.positions[sequence]
        if not self._states.is_due(sequence, position):
            return
        # Whoever is interrupted here finds a sequence that can't go on.
        self._earliest[sequence] = position + 1
        for name, counters in self._states.prepare(sequence, position):
            self.counters += counters
            self.steps[name, position] += 1
            if self.on_step is not None:
                self.on_step(counters)
        self._earliest[sequence] = position

    def _note_rows(self, sequence: int, end: int) -> None:
        """Remember that rows up to position `end` may have been written, even if the run is interrupted."""
        self._earliest[sequence] = self._earliest_after(sequence, end)

    def _earliest_after(self, sequence: int, end: int) -> int:
        """Fewest tokens but 0 that a sequence can be cut to when rows up to position `end` have been written."""
        # What the last token sees is there; in a sliding window it has taken the place of what the one before it saw first.
        seen = [(end - 1) // window * window if chunked else end - 1 for window, chunked in self._windows if end > window]
        return max(self._earliest[sequence], self._states.earliest(end), *seen)

    def _weight_bytes(self, name: str, fills: bool) -> int:
        total = self.image.token_bytes - (0 if fills else self.image.filling_bytes)
        if name != "prompt":
            return total
        head = self.imported.matrices["head"]
        return total - head.rows * self.image.format_of("head").row_bytes(head.columns)

    def _write_embeddings(self, tokens: Sequence[int]) -> None:
        for role in BY_TOKEN:
            if role not in self.imported.tables:
                continue
            table, source = self.image.placement.tables[role], self.imported.tables[role]
            for sequence, token in enumerate(tokens):
                row = source.numbers(token, token + 1).astype("<f4")
                self.device.write(table.address + sequence * table.stride, row.tobytes())


def _writes(place: CachePlace | StatePlace, held: StoredCache | StoredState, lanes: int) -> Iterator[tuple[int, bytes]]:
    """What to write where, so that a layer has what was kept of it."""
    if isinstance(place, StatePlace):
        assert isinstance(held, StoredState)
        return state_writes(place, held)
    assert isinstance(held, StoredCache)
    return stored_writes(place, held, lanes)


def _state_shape(place: CachePlace | StatePlace) -> tuple[int, ...]:
    """Numbers of each part that a layer keeps beside KV caches."""
    assert isinstance(place, StatePlace)
    return tuple(prod(shape) for _, shape in stored_parts(place.layout).values())


def _cache_shape(attention: Attention, length: int) -> tuple[int, int, int]:
    """KV heads, rows and elements of a value that the cache of a layer has with so many tokens."""
    rows = length if attention.window is None else min(length, attention.window)
    return attention.kv_heads, rows, attention.value_size


def _check_cut(there: int, earliest: int, asked: int) -> int:
    """The length as Python's own number."""
    try:
        length = index(asked)
    except TypeError:
        length = -1
    if not 0 <= length <= there:
        raise LimitError(f"a sequence of {there} tokens can be cut to 0 to {there}, not {shown(asked)}")
    if 0 < length < earliest:
        raise LimitError(
            f"a sequence of {there} tokens can be cut to 0, or to {earliest} to {there}, not"
            f" {length}: what came before is overwritten"
        )
    return length
