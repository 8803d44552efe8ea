"""Whole decode steps on the device: a token goes in, logits or the next tokens come out, with one doorbell."""

import struct
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.errors import LimitError, TailraceError
from tailrace.spec.isa import ADDRESS_UNIT, COMMAND_BYTES

from ..gguf.describe import ImportedModel
from ..image.image import Image, ImageRequest
from ..image.kv_cache import Floats, cache_writes
from ..image.plan import plan_image
from ..image.programs import Programs, build_programs, check_memory
from ..image.write import write_image
from ..progress import Progress
from .counters import Counters
from .driver import Device

#: Byte of a `SET` command at which its addend is.
_ADDEND = 8
_ARGUMENT_POSITION = 4


class Decoder:
    """A model in a device's memory, and the sequences that it decodes.

    Every method takes one token, or one for each sequence; what it returns has the same form. All sequences take a step
    together; each has its own position and KV cache. Decoders of one device may be used from several threads.

    Parameters
    ----------
    device : Device
    imported : ImportedModel
        Its context is the decoder's.
    batch : int
        Sequences, at most as many as the device has right-hand sides.
    tokens_per_doorbell : int
        The largest `count` of `run`. More than 1 needs all embeddings in the device's memory.
    quantise : str or None
        Format that matrices of plain numbers become; None refuses them.
    on_progress : callable or None
        Told about what is being written to the device.
    on_step : callable or None
        Called after each doorbell with its counters.

    Attributes
    ----------
    image : Image
    programs : Programs
    positions : list of int
        Tokens that each sequence has behind it.
    limit : int
        Positions that a sequence can have.

    Raises
    ------
    ModelError
        If the device can't read the model's matrices, or one is damaged.
    LimitError
        If model and context do not fit the device.
    """

    def __init__(
        self,
        device: Device,
        imported: ImportedModel,
        *,
        batch: int = 1,
        tokens_per_doorbell: int = 1,
        quantise: str | None = None,
        on_progress: Progress | None = None,
        on_step: Callable[[Counters], None] | None = None,
    ) -> None:
        self.device, self.imported, self.on_step = device, imported, on_step
        request = ImageRequest(batch, tokens_per_doorbell > 1, quantise)
        self.limit = imported.context
        self._run_limit = tokens_per_doorbell
        self.positions = [0] * batch
        # Nobody else may take the memory that is planned with.
        with device.exclusive():
            self.image: Image = plan_image(imported, device.geometry, request, device.free_address)
            self.programs: Programs = build_programs(self.image)
            self._upload(on_progress)

    def _upload(self, on_progress: Progress | None) -> None:
        image = self.image
        check_memory(image, self.programs, self.device.free_memory)
        with self.device.reserve(self.programs.end - image.base, str(self.imported.model.path)):
            write_image(image, self.device, on_progress)
            for loaded in self.programs.loaded.values():
                self.device.write(loaded.address, b"".join(loaded.program.commands))

    @property
    def batch(self) -> int:
        """Sequences."""
        return self.image.request.batch

    def reset(self) -> None:
        """Start all sequences over."""
        self.positions = [0] * self.batch

    def prefill(self, tokens: Sequence[int] | Sequence[Sequence[int]]) -> None:
        """Take tokens of a prompt, one after the other, without computing logits.

        Parameters
        ----------
        tokens : sequence of int, or of such sequences
            Those of one sequence, or for each sequence its own; they may differ in length.

        Raises
        ------
        LimitError
            If the context is full before the end; nothing has been taken then.
        """
        prompts: list[list[int]] = [list(t) if isinstance(t, Sequence) else [t] for t in tokens]
        if not tokens or not isinstance(tokens[0], Sequence):
            prompts = [[token for prompt in prompts for token in prompt]]
        self._check_batch(len(prompts))
        with self.device.exclusive():
            for sequence, prompt in enumerate(prompts):
                self._check_room(sequence, len(prompt))
            for index in range(max(map(len, prompts))):
                # A sequence whose prompt has ended writes to its next row, which its next token writes again.
                present = [index < len(prompt) for prompt in prompts]
                self._start("prompt", [prompt[index] if here else 0 for prompt, here in zip(prompts, present, strict=True)])
                self._advance(present)

    def step(self, tokens: int | Sequence[int]) -> Floats:
        """Take a token and compute the logits of the next one.

        Parameters
        ----------
        tokens : int, or sequence of int

        Returns
        -------
        ndarray of float32, shape (vocabulary,), or (batch, vocabulary)

        Raises
        ------
        LimitError
            If the context is full.
        DeviceError, DeviceTimeout
            If the device stopped; the sequences are where they were.
        """
        given = self._given(tokens)
        size = 4 * self.imported.description.vocabulary
        with self.device.exclusive():
            for sequence in range(self.batch):
                self._check_room(sequence, 1)
            self._start("logits", given)
            raw = b"".join(self.device.read(address, size) for address in self.image.placement.logits)
            if self.device.results_digest is not None:
                self.device.results_digest.update(raw)
            self._advance([True] * self.batch)
        logits = np.frombuffer(raw, dtype="<f4").reshape(self.batch, -1)
        return logits[0] if isinstance(tokens, int) else logits

    def run(self, tokens: int | Sequence[int], count: int = 1) -> list[int] | list[list[int]]:
        """Take a token, and let the device choose the best next one, and go on from it; with one doorbell.

        Parameters
        ----------
        tokens : int, or sequence of int
        count : int
            Tokens to choose, at most `tokens_per_doorbell`.

        Returns
        -------
        list of int, or list of such lists
            The chosen tokens of the sequence, or of each. The last one has not been taken yet.

        Raises
        ------
        LimitError
            If the context does not have that much room.
        DeviceError, DeviceTimeout
            If the device stopped; the sequences are where they were.
        """
        given = self._given(tokens)
        if not 1 <= count <= self._run_limit:
            raise LimitError(f"this decoder chooses 1 to {self._run_limit} tokens with a doorbell, not {count}")
        loaded = self.programs.loaded["tokens"]
        with self.device.exclusive():
            for sequence in range(self.batch):
                self._check_room(sequence, count)
            if loaded.program.steps_command is not None:
                place = loaded.address + loaded.program.steps_command * COMMAND_BYTES + _ADDEND
                self.device.write(place, struct.pack("<I", count))
            self._start("tokens", given, count)
            chosen = [self._chosen(address, count) for address in self.image.placement.tokens]
            self._advance([True] * self.batch, count)
        return chosen[0] if isinstance(tokens, int) else chosen

    def _chosen(self, address: int, count: int) -> list[int]:
        raw = self.device.read(address, ADDRESS_UNIT * count)
        if self.device.results_digest is not None:
            self.device.results_digest.update(raw)
        return [int(t) for t in np.frombuffer(raw, dtype="<u4")[:: ADDRESS_UNIT // 4]]

    def load_cache(self, layer: int, sequence: int, first: int, keys: Floats, values: Floats) -> None:
        """Write keys and values that were computed elsewhere to the cache of a layer, in place of all that it holds.

        Parameters
        ----------
        layer, sequence : int
        first : int
            Position of the first token; with a sliding window, tokens that nothing sees any more may be left out.
        keys, values : ndarray of float32, shape (kv_heads, tokens, head_size)
            Keys after RoPE, pairs as in `tailrace.firmware.description.Attention`.
        """
        attention = self.imported.description.layers[layer].attention
        shape = (attention.kv_heads, keys.shape[1], attention.head_size)
        if keys.shape != shape or values.shape != shape:
            raise ValueError(
                f"keys and values of layer {layer} must have the shape {shape}, not {keys.shape} and {values.shape}"
            )
        positions = np.arange(first, first + shape[1])
        if attention.window is not None:
            seen = slice(max(shape[1] - attention.window, 0), None)
            positions, keys, values = positions[seen], keys[:, seen], values[:, seen]
        rows: NDArray[np.int64] = positions if attention.window is None else positions % attention.window
        if positions.size and positions[-1] >= self.limit:
            raise self._full(int(positions[-1]) + 1)
        place = self.image.placement.caches[sequence][layer]
        with self.device.exclusive():
            for address, data in cache_writes(place, rows, keys, values, self.image.build.lanes):
                self.device.write(address, data)

    def _given(self, tokens: int | Sequence[int]) -> list[int]:
        given = [tokens] if isinstance(tokens, int) else list(tokens)
        self._check_batch(len(given))
        return given

    def _check_batch(self, count: int) -> None:
        if count != self.batch:
            raise ValueError(f"this decoder has {self.batch} sequences, and {count} were given")

    def _check_room(self, sequence: int, count: int) -> None:
        if self.positions[sequence] + count > self.limit:
            raise self._full(self.positions[sequence] + count)

    def _full(self, needed: int) -> LimitError:
        return LimitError(
            f"the context is full: it has room for {self.limit} tokens, and {needed} are needed. Ask for a longer one with"
            " --context, or start over"
        )

    def _start(self, name: str, tokens: Sequence[int], count: int = 1) -> Counters:
        vocabulary = self.imported.description.vocabulary
        for token in tokens:
            if not 0 <= token < vocabulary:
                raise TailraceError(f"token {token} is not one of the model's {vocabulary}")
        # A full sequence that only keeps others company must not write behind its cache.
        positions = (min(p, self.limit - 1) for p in self.positions)
        arguments = [*tokens, *[0] * (_ARGUMENT_POSITION - len(tokens)), *positions]
        if not self.image.request.whole_embedding:
            self._write_embeddings(tokens)
            arguments[: len(tokens)] = range(len(tokens))
        loaded = self.programs.loaded[name]
        counters = self.device.start(
            loaded.address,
            len(loaded.program.commands),
            arguments=arguments,
            weight_bytes=count * self._weight_bytes(name),
        )
        if self.on_step is not None:
            self.on_step(counters)
        return counters

    def _weight_bytes(self, name: str) -> int:
        total = self.image.token_bytes
        if name != "prompt":
            return total
        head = self.imported.matrices["head"]
        return total - head.rows * self.image.format_of("head").row_bytes(head.columns)

    def _write_embeddings(self, tokens: Sequence[int]) -> None:
        table, source = self.image.placement.tables["embedding"], self.imported.tables["embedding"]
        for sequence, token in enumerate(tokens):
            row = source.numbers(token, token + 1).astype("<f4")
            self.device.write(table.address + sequence * table.stride, row.tobytes())

    def _advance(self, present: Sequence[bool], count: int = 1) -> None:
        self.positions = [p + (count if here else 0) for p, here in zip(self.positions, present, strict=True)]
