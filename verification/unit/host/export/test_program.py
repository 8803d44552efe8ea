import re
from pathlib import Path

import pytest

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.export.naming import ExportedCore
from tailrace.export.program import BenchProgram, record_program
from tailrace.export.testbench import bench_files
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.golden.device import GoldenDevice
from tailrace.image.image import MatrixPiece
from tailrace.models.random_model import CONTEXT, write_random_model
from tailrace.spec.config import CONFIGS, Config, memory_port_names, parse_config
from tailrace.spec.registers import AP_START, offset


@pytest.fixture(scope="module", params=["tiny", "wide", "base,bus_width=256,address_width=64", "tiny,channels=2"])
def core(request: pytest.FixtureRequest) -> ExportedCore:
    return ExportedCore(parse_config(request.param))


@pytest.fixture(scope="module")
def program(core: ExportedCore) -> BenchProgram:
    return record_program(core.config)


def replay(config: Config, before: bytes, writes: list[tuple[int, int]]) -> bytes:
    device = GoldenDevice(config, len(before))
    device.write(0, before)
    for place, value in writes:
        device.write_register(place, value)
        assert (place, value) != (offset("AP_CTRL"), AP_START) or not device.read_register(offset("ERROR_CODE"))
    return device.read(0, len(before))


def parse(text: str, size: int) -> dict[int, bytes]:
    """Words of a file for ``$readmemh``."""
    words, place = {}, 0
    for token in re.sub(r"//.*", "", text).split():
        if token.startswith("@"):
            place = int(token[1:], 16)
        else:
            words[place] = bytes.fromhex(token)[::-1]
            assert len(words[place]) == size
            place += 1
    return words


def test_the_files_hold_the_run(core: ExportedCore, program: BenchProgram) -> None:
    files, size = bench_files(core, program), core.config.beat_bytes
    before = parse(files["memory.hex"], size)
    assert b"".join(before.values()) == program.before
    expected = b"".join((before | parse(files["expected.hex"], size)).values())
    assert expected == program.after != program.before
    pairs = [(int(a, 16), int(b, 16)) for a, b in re.findall(r"^(\w{3})_(\w{8})$", files["writes.hex"], re.MULTILINE)]
    assert tuple(pairs) == program.writes
    assert pairs.count((offset("AP_CTRL"), AP_START)) == program.doorbells == 3
    assert replay(core.config, program.before, pairs) == program.after


def test_the_testbench_has_the_sizes_of_the_files(core: ExportedCore, program: BenchProgram) -> None:
    files = bench_files(core, program)
    bench = files[f"{core.module}_tb.sv"]
    sizes = {name: int(value) for name, value in re.findall(r"localparam (\w+) = (\d+);", bench)}
    assert sizes["MEMORY_WORDS"] == len(program.before) // core.config.beat_bytes
    assert sizes["WRITES"] == len(program.writes)
    assert sizes["IDENTIFICATIONS"] == len(program.identification)
    assert (sizes["DATA_WIDTH"], sizes["ADDRESS_WIDTH"]) == (core.config.bus_width, core.config.address_width)
    assert not re.search("@[A-Z]", bench)


def test_every_weight_format_of_the_model_matters(program: BenchProgram, core: ExportedCore, tmp_path: Path) -> None:
    """A changed matrix changes what comes out; else the testbench would not notice what went wrong with it."""
    path = tmp_path / "random.gguf"
    write_random_model(path)
    device = Device(GoldenDevice(core.config, 1 << 20))
    decoder = Decoder(device, import_model(open_model(path), CONTEXT), tokens_per_doorbell=2)
    pieces = {piece.format.name: piece for piece in decoder.image.pieces if isinstance(piece, MatrixPiece)}
    assert len(pieces) == 4
    for name, piece in pieces.items():
        assert device.read(piece.address, piece.size) == program.before[piece.address : piece.address + piece.size]
        damaged = bytearray(program.before)
        for byte in range(piece.address, piece.address + piece.size):
            damaged[byte] ^= 0x11
        after = replay(core.config, bytes(damaged), list(program.writes))
        assert sum(a != b for a, b in zip(after, program.after, strict=True)) > piece.size, name


def test_the_same_bytes_every_time(program: BenchProgram, core: ExportedCore) -> None:
    assert record_program(core.config) == program


def test_modules_are_named_after_their_configuration() -> None:
    assert ExportedCore(CONFIGS["base"]).module == "tailrace_base"
    assert ExportedCore(parse_config("base,bus_width=256")).module == "tailrace_base_bus_width_256"


def test_every_port_has_a_memory_that_stalls_by_itself(core: ExportedCore, program: BenchProgram) -> None:
    bench = bench_files(core, program)[f"{core.module}_tb.sv"]
    found = re.findall(r"\.SEED\(32'h(\w{8})\)\s+\) (\w+)_memory \(", bench)
    assert [port for _, port in found] == memory_port_names(core.config)
    assert len({seed for seed, _ in found}) == core.config.channels
    assert found[0][0] == "00000001"
