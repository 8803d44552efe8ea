"""Memory images: everything has a place of its own, equal layers lie at equal distances, and what is written is what was meant."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tailrace.firmware.description import layer_role
from tailrace.gguf.describe import ImportedModel, import_model
from tailrace.gguf.file import open_model
from tailrace.gguf.planes import EXPONENT, planes_of
from tailrace.image.geometry import Geometry
from tailrace.image.image import Image, ImageRequest, MatrixPiece, TablePiece
from tailrace.image.plan import plan_image
from tailrace.image.weight_stream import blocks_of_stream
from tailrace.image.write import write_image
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ModelError
from tailrace.spec.formats import BY_NUMBER, Q8_0X3, WEIGHT_FORMATS
from verification.unit.host.gguf.test_describe import MIXTURE, MIXTURE_HEADER, write
from verification.unit.host.tiny_models import write_model

#: What a device reads, as texts say it.
READ = ", ".join(f.name for f in WEIGHT_FORMATS)


class Memory:
    """Remembers what is written, and complains about writing twice."""

    def __init__(self, size: int) -> None:
        self.data, self.written = np.zeros(size, dtype=np.uint8), np.zeros(size, dtype=bool)

    def write(self, address: int, data: memoryview) -> None:
        place = slice(address, address + len(data))
        assert not self.written[place].any()
        self.data[place], self.written[place] = np.frombuffer(data, dtype=np.uint8), True


def imported(path: Path, context: int = 50) -> ImportedModel:
    return import_model(open_model(path), context)


def planned(model: ImportedModel, config: str = "tiny", base: int = 0, **request: object) -> Image:
    return plan_image(model, Geometry.of_config(parse_config(config)), ImageRequest(**request), base)  # type: ignore[arg-type]


def written(image: Image) -> Memory:
    memory = Memory(image.end)
    write_image(image, memory)  # type: ignore[arg-type]
    return memory


@pytest.mark.parametrize("config", ["tiny", "tiny,bus_width=512,right_hand_sides=4"])
def test_everything_can_be_read_back(config: str, tmp_path: Path) -> None:
    model = imported(write_model(tmp_path / "m.gguf", "qwen2", default_type="Q5_0"))
    image = planned(model, config)
    memory = written(image)
    lanes = image.build.lanes
    for role, source in model.matrices.items():
        place = image.placement.matrices[role]
        fmt = BY_NUMBER[place.format]
        rows = []
        for part in place.parts:
            assert part.address % 64 == 0
            assert part.first_row == sum(len(r) for r in rows)
            stream = memory.data[part.address :][: fmt.matrix_bytes(part.rows, place.blocks, lanes)]
            rows.append(blocks_of_stream(fmt, stream, part.rows, place.blocks, lanes))
        assert np.array_equal(np.concatenate(rows), source.blocks(0, source.rows, fmt)), role
    for role, source in model.tables.items():
        place = image.placement.tables[role]
        values = source.numbers()
        for row, expected in enumerate(values):
            at = place.address + row * (place.stride or 256)
            assert np.array_equal(memory.data[at : at + 4 * len(expected)].view("<f4"), expected), role
    table = image.placement.tables["rope"]
    rows = memory.data[table.address : table.address + 64 * table.stride].view("<f4").reshape(64, -1)
    assert np.array_equal(rows[:, :32], model.ropes["rope"].table(0, 64))


def test_nothing_overlaps(tmp_path: Path) -> None:
    image = planned(imported(write_model(tmp_path / "m.gguf")), "tiny,right_hand_sides=4", base=640, batch=3)
    areas = [(p.address, p.address + p.size) for p in image.pieces]
    for caches in image.placement.caches:
        for place in caches:
            areas += [(place.keys, place.keys + place.key_stride), (place.values, place.values + place.value_stride)]
            areas += [(place.scales, place.scales + place.scale_stride)]
    areas += [(a, a + 4 * 288) for a in image.placement.logits] + [(a, a + 64 * 64) for a in image.placement.tokens]
    areas.sort()
    assert areas[0][0] >= 640
    assert areas[-1][1] <= image.end
    assert all(a[1] <= b[0] for a, b in zip(areas, areas[1:]))
    assert all(first % 64 == 0 for first, _ in areas)


def places(image: Image, layer: int) -> list[int]:
    prefix = layer_role(layer, "")
    tables = [p.address for r, p in image.placement.tables.items() if r.startswith(prefix)]
    return [p.address for r, m in image.placement.matrices.items() if r.startswith(prefix) for p in m.parts] + tables


def test_equal_layers_lie_at_equal_distances(tmp_path: Path) -> None:
    """Layers 1 and 4 have another format: they are at a distance of their own."""
    types = {f"blk.{n}.ffn_down.weight": "Q4_1" for n in (1, 4)}
    image = planned(imported(write_model(tmp_path / "m.gguf", layers=6, types=types)))
    alike = [places(image, n) for n in (0, 2, 3, 5)]
    distances = {b - a for first, second in zip(alike, alike[1:]) for a, b in zip(first, second, strict=True)}
    assert len(distances) == 1
    assert len({b - a for a, b in zip(places(image, 1), places(image, 4), strict=True)}) == 1
    caches = [replace(c, keys=0, values=0, scales=0) for c in image.placement.caches[0]]
    assert len(set(caches)) == 1
    keys = [c.keys for c in image.placement.caches[0]]
    assert len({b - a for a, b in zip(keys, keys[1:])}) == 1


def test_weights_lie_in_the_order_of_their_use(tmp_path: Path) -> None:
    image = planned(imported(write_model(tmp_path / "m.gguf", feed_forward=512)))
    roles = [p.role for p in image.pieces if isinstance(p, MatrixPiece) and p.role.startswith("layers.0.")]
    assert roles == [f"layers.0.{t}" for t in ("q", "k", "v", "o", *("gate", "up") * 8, "down")]
    last = [p.role for p in image.pieces][-2:]
    assert last == ["final_norm", "head"]


def test_experts_lie_at_one_distance(tmp_path: Path) -> None:
    model = imported(write(tmp_path / "m.gguf", "llama", MIXTURE_HEADER, MIXTURE))
    image = planned(model)
    memory = written(image)
    matrices = {t: image.placement.matrices[f"layers.0.experts_{t}"] for t in ("gate", "up", "down")}
    assert len({m.expert_stride for m in matrices.values()}) == 1
    for name, place in matrices.items():
        source, (part,) = model.matrices[f"layers.0.experts_{name}"], place.parts
        for expert in range(4):
            fmt, at = BY_NUMBER[place.format], part.address + expert * place.expert_stride
            stream = memory.data[at : at + fmt.matrix_bytes(part.rows, place.blocks, 1)]
            expected = source.blocks(0, source.rows, fmt, expert)
            assert np.array_equal(blocks_of_stream(fmt, stream, part.rows, place.blocks, 1), expected), (name, expert)
    # A token uses two of the four.
    file = sum(t.bytes for n, t in model.model.tensors.items() if "blk" in n and "exps" not in n and t.format is not None)
    experts = sum(t.bytes for n, t in model.model.tensors.items() if "exps" in n)
    assert image.token_bytes == file + experts // 2 + model.model.tensors["token_embd.weight"].bytes


def test_one_row_of_embeddings_for_each_sequence(tmp_path: Path) -> None:
    model = imported(write_model(tmp_path / "m.gguf"))
    image = planned(model, "tiny,right_hand_sides=2", batch=2, whole_embedding=False)
    (piece,) = [p for p in image.pieces if p.role == "embedding"]
    assert isinstance(piece, TablePiece)
    assert (piece.rows, piece.size) == (2, 2 * 256)
    assert not written(image).written[piece.address : piece.address + piece.size].any()
    assert planned(model).end - image.end > 200 * 256


def test_windows_have_small_caches(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from verification.unit.host.transformers_models import make_model

    make_model(tmp_path / "m.gguf", "gemma3", layers=6, window=70, context=512)
    image = planned(imported(tmp_path / "m.gguf", 512))
    assert [c.capacity for c in image.placement.caches[0]] == [128] * 5 + [512]


def test_a_device_that_reads_no_planes(tmp_path: Path) -> None:
    model = imported(
        write_model(
            tmp_path / "m.gguf",
            types={"blk.0.ffn_up.weight": "F16", "blk.1.attn_q.weight": "F64"},
            hidden=256,
        )
    )
    reasons = (
        f"F16 is not quantised, and this device reads {READ}: ask for a format with --quantise Q8_0",
        f"this device does not read F64: it reads {READ}. Get the model in one of these,"
        " for example with `llama-quantize --pure` from its 16-bit file",
    )
    text = (
        f"{model.model.path} can't run on this device: 2 of its matrices are refused.\n  blk.0.ffn_up.weight: {reasons[0]}\n"
        f"  blk.1.attn_q.weight: {reasons[1]}\n"
        "--allow-host runs these on the host instead, and the linear layers that are left one by one."
    )
    tiny = Geometry.of_config(parse_config("tiny"))
    older = replace(tiny, formats=tiny.formats & ~(1 << Q8_0X3.number))
    with pytest.raises(ModelError) as caught:
        plan_image(model, older, ImageRequest())
    assert str(caught.value) == text


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_numbers_become_planes(tmp_path: Path, kind: str) -> None:
    model = imported(write_model(tmp_path / "m.gguf", types={"blk.0.ffn_up.weight": kind}))
    image = planned(model)
    place = image.placement.matrices["layers.0.up"]
    assert image.format_of("layers.0.up") is Q8_0X3
    assert place.exponent == EXPONENT
    memory = written(image)
    source = model.matrices["layers.0.up"]
    found = [
        blocks_of_stream(
            Q8_0X3, memory.data[part.address :][: Q8_0X3.matrix_bytes(part.rows, place.blocks, 1)], part.rows, place.blocks, 1
        )
        for part in place.parts
    ]
    assert np.array_equal(np.concatenate(found), planes_of(source.numbers()))


def test_numbers_are_quantised_on_request(tmp_path: Path) -> None:
    model = imported(write_model(tmp_path / "m.gguf", types={"blk.0.ffn_up.weight": "F16"}))
    image = planned(model, quantise="Q8_0")
    assert image.format_of("layers.0.up").name == "Q8_0"
    written(image)
    with pytest.raises(ModelError, match="can't quantise to 'Q4_K': choose one of Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, MXFP4"):
        planned(model, quantise="Q4_K")


def test_a_number_that_planes_do_not_hold(tmp_path: Path) -> None:
    change = {"blk.0.ffn_up.weight": np.full((96, 64), 100, dtype=np.float32)}
    image = planned(imported(write_model(tmp_path / "m.gguf", types={"blk.0.ffn_up.weight": "F32"}, change=change)))
    with pytest.raises(ModelError, match="^blk.0.ffn_up.weight: a number of magnitude 100 in it does not fit planes of 8 bits"):
        written(image)


def test_mxfp4_brings_its_exponent(tmp_path: Path) -> None:
    model = imported(write_model(tmp_path / "m.gguf", default_type="MXFP4", types={"token_embd.weight": "Q8_0"}))
    image = planned(model)
    memory = written(image)
    place = image.placement.matrices["layers.0.q"]
    assert place.exponent != 0
    (part,) = place.parts
    fmt = BY_NUMBER[place.format]
    stream = memory.data[part.address :][: fmt.matrix_bytes(part.rows, place.blocks, 1)]
    found = blocks_of_stream(fmt, stream, part.rows, place.blocks, 1, place.exponent)
    assert np.array_equal(found, model.matrices["layers.0.q"].blocks(0, part.rows, fmt))


def test_a_damaged_tensor_is_noticed(tmp_path: Path) -> None:
    raw = np.zeros((64, 3 * 34), dtype=np.uint8)
    raw[5, :2] = np.frombuffer(np.float16(np.inf).tobytes(), dtype=np.uint8)
    image = planned(imported(write_model(tmp_path / "m.gguf", change={"blk.1.ffn_down.weight": raw})))
    with pytest.raises(ModelError, match="blk.1.ffn_down.weight is damaged: a scale or minimum in row 5 is not finite"):
        written(image)


def test_rows_and_contexts_that_are_too_long(tmp_path: Path) -> None:
    model = imported(write_model(tmp_path / "m.gguf", feed_forward=8192))
    with pytest.raises(ModelError, match=re.escape("its rows have 8192 elements, and this device takes at most 4096")):
        planned(model)
    model = imported(write_model(tmp_path / "m.gguf"))
    assert [planned(model.at(context)).capacity for context in (1, 50, 64)] == [64, 64, 64]
