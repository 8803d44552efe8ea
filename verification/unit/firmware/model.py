"""Small random models, laid out in memory, and programs for them run on the golden model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.decode import build_program, pass_arguments
from tailrace.firmware.description import (
    SCORE_SCALES,
    Attention,
    Description,
    Experts,
    FeedForward,
    HeadNorm,
    Latent,
    layer_role,
)
from tailrace.firmware.embedding import tables_of_positions
from tailrace.firmware.parts import RESIDUAL_PART, feed_forward_part_rows, head_part_rows, query_part_rows
from tailrace.firmware.placement import Build, CachePlace, MatrixPart, MatrixPlace, Placement, TablePlace
from tailrace.firmware.program import Program
from tailrace.golden.device import GoldenDevice
from tailrace.image.weight_stream import stream_of_blocks
from tailrace.spec.config import Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.formats import BLOCK, Q8_0
from tailrace.spec.isa import COMMAND_BYTES
from tailrace.spec.kv_cache import key_bytes, value_bytes, value_row_bytes
from tailrace.spec.registers import offset
from verification.races.overlap import races

Array = NDArray[np.float64]
MEMORY = 1 << 22
QUEUE = MEMORY - (1 << 20)


def build_of(config: Config) -> Build:
    return Build(config.lanes, config.right_hand_sides, config.buffer_entries, config.vector_blocks)


def quantised(rng: np.random.Generator, rows: int, columns: int) -> tuple[NDArray[np.uint8], Array]:
    """A random matrix as blocks of Q8_0, and the values that they stand for."""
    codes = rng.integers(-127, 128, (rows, columns // BLOCK, BLOCK)).astype(np.int8)
    scales = (rng.uniform(0.5, 1.5, (rows, columns // BLOCK, 1)) * 1.7 / 127 / np.sqrt(columns)).astype(np.float16)
    blocks = np.concatenate([scales.view(np.uint8), codes.view(np.uint8)], axis=-1).reshape(rows, -1)
    return blocks, (scales.astype(np.float64) * codes).reshape(rows, columns)


@dataclass
class Model:
    """A random model in the memory of a golden device."""

    description: Description
    config: Config
    seed: int = 0
    batch: int = 1
    capacity: int = 64
    biases: tuple[str, ...] = ()
    sink_spread: float = 1.0
    head_part: int = 64
    residual_part: int = RESIDUAL_PART
    tensors: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.device = GoldenDevice(self.config, MEMORY)
        self.next = 0
        self.matrices: dict[str, MatrixPlace] = {}
        self.tables: dict[str, TablePlace] = {}
        d = self.description
        self.embeddings("embedding", d.vocabulary, 1.0)
        if d.learned_positions:
            self.embeddings("position_embedding", self.capacity, 0.5)
        if embedded := d.layers[0].embedding:
            self.table(
                "layer_embeddings", self.rng.normal(0, embedded.size**-0.5, (d.vocabulary, len(d.layers) * embedded.size))
            )
            self.norm("layer_embedding_norm", embedded.size, bias=False)
        for name, size in tables_of_positions(d).items():
            if name == SCORE_SCALES:
                scale = next(a.scale for a in d.attentions if a.growing)
                self.table(name, scale * self.rng.uniform(0.5, 1.5, (self.capacity, 1)) * [1, -1])
                continue
            angles = np.arange(self.capacity)[:, None] * (0.9 + len(name)) * 50.0 ** (-np.arange(size // 2) / (size // 2))
            self.table(name, np.concatenate([np.cos(angles), np.sin(angles)], axis=1))
        for n in range(len(d.layers)):
            self.layer(n)
        self.norm("final_norm")
        self.matrix("head", d.vocabulary, d.hidden)
        own = [{n: self.cache(n) for n in d.owners} for _ in range(self.batch)]
        caches = tuple(tuple(kept[d.cache_layer(n)] for n in range(len(d.layers))) for kept in own)
        logits = tuple(self.take(4 * d.vocabulary) for _ in range(self.batch))
        tokens = tuple(self.take(64 * 32) for _ in range(self.batch))
        self.placement = Placement(self.matrices, self.tables, caches, logits, tokens)

    def take(self, size: int) -> int:
        address, self.next = self.next, self.next + -(-size // 64) * 64
        assert self.next <= QUEUE, "the test's memory is too small for the model"
        return address

    def put(self, data: NDArray[np.generic]) -> int:
        address = self.take(data.nbytes)
        self.device.write(address, np.ascontiguousarray(data).tobytes())
        return address

    def table(self, role: str, values: Array) -> None:
        """Rows of float32, each padded to 64 bytes."""
        rows = np.atleast_2d(values).astype(np.float32)
        padded = np.zeros((rows.shape[0], -(-rows.shape[1] // 16) * 16), dtype=np.float32)
        padded[:, : rows.shape[1]] = rows
        self.tables[role] = TablePlace(self.put(padded), rows.shape[1], padded.shape[1] * 4)
        self.tensors[role] = rows.astype(np.float64).reshape(np.shape(values))

    def embeddings(self, role: str, rows: int, scale: float) -> None:
        self.table(role, self.rng.normal(0, scale, (rows, self.description.hidden)))

    def norm(self, role: str, size: int | None = None, bias: bool = True) -> None:
        size = size or self.description.hidden
        self.table(role, self.rng.uniform(0.5, 1.5, size))
        if bias and "norm" in self.biases:
            self.table(f"{role}_bias", self.rng.normal(0, 0.3, size))

    def matrix(self, role: str, rows: int, columns: int, experts: int = 0) -> None:
        """A matrix, or those of all experts, in the parts that the firmware asks for."""
        size = self.part_rows(role, rows)
        starts = range(0, rows, size)
        base, dense = self.next, []
        parts: list[MatrixPart] = []
        for expert in range(max(experts, 1)):
            blocks, values = quantised(self.rng, rows, columns)
            dense.append(values)
            places = [self.put(stream_of_blocks(Q8_0, blocks[i : i + size], self.config.lanes)) for i in starts]
            if not expert:
                parts = [MatrixPart(a, i, min(size, rows - i)) for a, i in zip(places, starts)]
                stride = self.next - base
        self.matrices[role] = MatrixPlace(Q8_0.number, 0, rows, columns // BLOCK, tuple(parts), stride if experts else 0)
        self.tensors[role] = np.stack(dense) if experts else dense[0]
        if role.split(".")[-1] in self.biases:
            self.table(f"{role}_bias", self.rng.normal(0, 0.3, (experts, rows) if experts else rows))

    def part_rows(self, role: str, rows: int) -> int:
        build = build_of(self.config)
        if role == "head":
            return min(self.head_part, head_part_rows(self.description, build, self.batch))
        if role.endswith(("gate", "up")) and "embedding" not in role:
            return feed_forward_part_rows(self.description, self.description.layers[int(role.split(".")[1])], build, self.batch)
        if role.endswith((".k_b", ".v_b")):
            return rows // self.description.layers[int(role.split(".")[1])].attention.heads
        if role.endswith((".o", ".down")):
            return self.residual_part
        if role.endswith(".q") and self.description.layers[int(role.split(".")[1])].attention.latent is None:
            return query_part_rows(self.description.layers[int(role.split(".")[1])].attention)
        return rows

    def layer(self, n: int) -> None:
        layer, hidden = self.description.layers[n], self.description.hidden
        attention, block = layer.attention, layer.feed_forward

        def role(name: str) -> str:
            return layer_role(n, name)

        if layer.pre_norms:
            self.norm(role("attention_norm"))
        widths = {"q": attention.heads, "k": attention.kv_heads, "v": attention.kv_heads}
        for name in attention.projections if attention.latent is None else ():
            self.matrix(role(name), widths[name] * attention.head_size, hidden)
        if attention.latent is not None:
            self.latent(role, attention, attention.latent)
        self.matrix(role("o"), hidden, attention.heads * attention.output_size)
        if attention.head_norm and attention.head_norm.has_weights:
            all_heads = attention.head_norm is HeadNorm.ALL_HEADS
            for name in "q" if attention.shared_cache else "qk":
                self.norm(role(f"{name}_norm"), attention.head_size * (widths[name] if all_heads else 1), bias=False)
        if layer.output_scale:
            self.table(role("output_scale"), self.rng.uniform(0.5, 1.5, 1))
        if attention.sinks:
            self.table(role("sinks"), self.rng.normal(0, self.sink_spread, attention.heads))
        if layer.pre_norms and not layer.parallel:
            self.norm(role("feed_forward_norm"))
        if layer.post_norms:
            self.norm(role("attention_post_norm"))
            self.norm(role("feed_forward_post_norm"))
        if layer.embedding:
            for name in ("projection", "gate"):
                self.matrix(role(f"embedding_{name}"), layer.embedding.size, hidden)
            self.matrix(role("embedding_output"), hidden, layer.embedding.size)
            self.norm(role("embedding_post_norm"))
        expert = block if isinstance(block, FeedForward) else block.expert
        count, prefix = (block.count, "experts_") if isinstance(block, Experts) else (0, "")
        if isinstance(block, Experts):
            self.experts(role, block)
        if expert.gated:
            self.matrix(role(f"{prefix}gate"), expert.size, hidden, count)
        self.matrix(role(f"{prefix}up"), expert.size, hidden, count)
        self.matrix(role(f"{prefix}down"), hidden, expert.size, count)

    def latent(self, role: Callable[[str], str], attention: Attention, latent: Latent) -> None:
        """What queries and latents are made with."""
        hidden, heads = self.description.hidden, attention.heads
        if latent.query_rank:
            self.matrix(role("q_a"), latent.query_rank, hidden)
            self.norm(role("q_a_norm"), latent.query_rank, bias=False)
        self.matrix(role("q"), heads * (attention.rotary_size + latent.key_size), latent.query_rank or hidden)
        self.matrix(role("kv_a"), attention.head_size, hidden)
        self.norm(role("kv_a_norm"), latent.size, bias=False)
        self.matrix(role("k_b"), heads * latent.size, latent.key_size)
        self.matrix(role("v_b"), heads * latent.value_size, latent.size)

    def experts(self, role: Callable[[str], str], block: Experts) -> None:
        """All but the experts themselves."""
        hidden, shared = self.description.hidden, block.shared
        self.matrix(role("router"), block.count, hidden)
        if block.apart:
            for name in ("router_norm", "experts_norm", "experts_post_norm", "shared_post_norm"):
                self.norm(role(name))
        if "selection" in self.biases:
            self.table(role("selection_bias"), self.rng.normal(0, 0.3, block.count))
        if shared and block.shared_gated:
            self.matrix(role("shared_router"), 1, hidden)
        if shared and shared.gated:
            self.matrix(role("shared_gate"), shared.size, hidden)
        if shared:
            self.matrix(role("shared_up"), shared.size, hidden)
            self.matrix(role("shared_down"), hidden, shared.size)

    def cache(self, n: int) -> CachePlace:
        attention, lanes = self.description.layers[n].attention, self.config.lanes
        sizes = (
            key_bytes(attention.head_size, self.capacity, lanes), value_bytes(attention.value_size, self.capacity, lanes), 4 * self.capacity,
        )  # fmt: skip
        keys, values, scales = (self.take(size * attention.kv_heads) for size in sizes)
        return CachePlace(keys, values, scales, *sizes, value_row_bytes(self.capacity, lanes), self.capacity)

    def run(
        self,
        program: Program,
        tokens: Sequence[int],
        positions: Sequence[int],
        steps: int = 1,
        see: Callable[[int, bytes], None] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Run a program; returns logits (sequences, vocabulary) and the tokens that the device chose (sequences, steps)."""
        commands = list(program.commands)
        if program.steps_command is not None:
            raw = bytearray(commands[program.steps_command])
            raw[8:12] = steps.to_bytes(4, "little")
            commands[program.steps_command] = bytes(raw)
        assert len(commands) * COMMAND_BYTES <= MEMORY - QUEUE
        device = self.device
        trace: list[tuple[int, bytes]] = []
        device.trace = lambda index, opcode, command: trace.append((index, command))
        device.write(QUEUE, b"".join(commands))
        for register, value in (("QUEUE_ADDRESS_LO", QUEUE), ("QUEUE_ADDRESS_HI", 0), ("QUEUE_LENGTH", len(commands))):
            device.write_register(offset(register), value)
        for n, argument in enumerate(pass_arguments(tokens, positions)):
            device.write_register(offset(f"ARGUMENT_{n}"), argument)
        device.write_register(offset("AP_CTRL"), 1)
        error = ErrorCode(device.read_register(offset("ERROR_CODE")))
        at = device.read_register(offset("ERROR_COMMAND"))
        assert error == ErrorCode.NONE, f"{error.name} at command {at}"
        assert races([command for _, command in trace], self.config) == []
        for index, command in trace if see else ():
            see(index, command)
        vocabulary = self.description.vocabulary
        logits = [np.frombuffer(device.read(a, 4 * vocabulary), dtype="<f4") for a in self.placement.logits]
        chosen = [np.frombuffer(device.read(a, 64 * steps), dtype="<i4")[::16] for a in self.placement.tokens]
        return np.stack(logits), np.stack(chosen)

    def program(self, **options: bool) -> Program:
        return build_program(self.description, self.placement, build_of(self.config), batch=self.batch, **options)
