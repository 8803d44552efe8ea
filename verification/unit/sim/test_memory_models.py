"""DRAM channels: what each timing parameter costs, one at a time, and what all of them leave of the peak."""

import ctypes
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tailrace.sim import memory_models, verilated
from tailrace.sim.build import TOP, build_library
from tailrace.sim.memory_models import DDR3_1066, DDR4_2400, DRAMS, HBM2, MEMORIES, Dram, dram_of
from tailrace.sim.processes import run_all
from tailrace.sim.toolchain import find_compiler
from tailrace.sim.verilated import VerilatedDevice
from tailrace.sim.verilog import to_verilog
from tailrace.spec.config import Config
from tailrace.spec.errors import ConfigError
from verification.unit.sim import prober
from verification.unit.sim.prober import Prober

BEAT = 64
CPP = Path(memory_models.__file__).parent / "cpp"
#: No refresh within a test of something else, and no writes that wait for company.
QUIET = [replace(d, refi=1 << 40, write_batch=1) for d in DRAMS.values()]
BY_NAME = pytest.mark.parametrize("dram", QUIET, ids=lambda d: d.name)


@dataclass(frozen=True)
class Request:
    """`beats` accesses from number `access` on, accepted in `cycle` at the earliest."""

    access: int
    beats: int = 1
    cycle: int = 0
    write: bool = False


@dataclass(frozen=True)
class Answers:
    """Cycles of the read beats and of the writes' responses."""

    reads: NDArray[np.int64]
    responses: NDArray[np.int64]


Drive = Callable[..., Answers]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("dram")
    source = Path(__file__).with_name("dram_bench.cpp")
    run_all(
        [[*find_compiler().command, "-std=gnu++17", "-O1", "-shared", "-fPIC", f"-I{CPP}", str(source), "-o", "dram.so"]],
        folder,
    )
    library = ctypes.CDLL(str(folder / "dram.so"))
    library.drive.restype = library.parameters.restype = ctypes.c_uint64
    return library


@pytest.fixture
def drive(library: ctypes.CDLL) -> Drive:
    def run(dram: Dram, requests: Iterable[Request], window: int = 1 << 30) -> Answers:
        rows = np.array([(r.cycle, r.access * BEAT, r.beats, r.write) for r in requests], dtype=np.uint64)
        reads = np.zeros(int(rows[rows[:, 3] == 0, 2].sum()), dtype=np.uint64)
        responses = np.zeros(int(rows[:, 3].sum()), dtype=np.uint64)
        limit = 1 << 22
        parameters = np.array(dram.parameters(), dtype=np.uint64)
        place = [array.ctypes.data_as(ctypes.c_void_p) for array in (parameters, rows, reads, responses)]
        word = ctypes.c_uint64
        end = library.drive(place[0], word(BEAT), word(window), place[1], word(len(rows)), place[2], place[3], word(limit))
        assert end < limit, "the memory stopped answering"
        return Answers(reads.astype(np.int64), responses.astype(np.int64))

    return run


def cycles(dram: Dram, clocks: int) -> int:
    """Cycles of the core until so many clocks have passed."""
    return -(-clocks // dram.access_clocks)


def first_access(dram: Dram, row: int, bank: int = 0, group: int = 0) -> int:
    """The first access of a row of a bank of a bank group."""
    return (row * dram.banks_per_group + bank) * dram.row_accesses * dram.bank_groups + group


def spacing(answers: Answers) -> float:
    """Mean cycles from one read beat to the next, the first few left out."""
    steady = answers.reads[8:]
    return float(steady[-1] - steady[0]) / (len(steady) - 1)


def test_parameters_are_those_of_the_simulation(library: ctypes.CDLL) -> None:
    text = (CPP / "dram.h").read_text(encoding="utf-8")
    struct = re.search(r"struct DramParameters \{(.*?)\};", text, re.DOTALL)
    assert struct
    declared = re.findall(r"\w+(?=[,;])", re.sub(r"//.*", "", struct[1]))
    names = [f.name for f in fields(Dram)]
    assert declared == ["enabled", "clocks_per_cycle", *names[names.index("access_clocks") :]]
    assert len(declared) == library.parameters() == verilated._DRAM_PARAMETERS == len(DDR4_2400.parameters())


def test_memories_have_names() -> None:
    assert dram_of("ideal") is None
    assert [dram_of(name) for name in MEMORIES[1:]] == [DDR4_2400, HBM2, DDR3_1066]
    with pytest.raises(ConfigError, match=r"^unknown memory 'ddr9': choose one of ideal, ddr4, hbm2, ddr3$"):
        dram_of("ddr9")


@pytest.mark.parametrize("burst", [16, 64])
@pytest.mark.parametrize("dram", DRAMS.values(), ids=lambda d: d.name)
def test_a_sequential_read_reaches_the_ceiling(drive: Drive, dram: Dram, burst: int) -> None:
    beats = 60 * dram.refi // dram.access_clocks
    answers = drive(dram, [Request(first, burst) for first in range(0, beats, burst)], window=512)
    assert abs(1 / spacing(answers) / dram.ceiling - 1) < 0.003
    # The only gaps are those of refreshes, one in each interval.
    gaps = np.diff(answers.reads) - 1
    whole = cycles(dram, dram.rtp + dram.rp + dram.rfc + dram.rcd)
    assert set(gaps[gaps > 1]) <= set(range(whole - 4, whole + 5))
    assert abs(np.count_nonzero(gaps > 1) - len(answers.reads) * dram.access_clocks / dram.refi) <= 4


def test_the_simulated_core_sees_the_ceiling() -> None:
    """The whole way: parameters through Python, the memory behind the bus, a core that reads as fast as it can."""
    verilog = to_verilog(Prober(128), name=TOP)
    library = build_library(verilog, "the memory prober (128 bits)")
    with VerilatedDevice(Config("prober", 128), 1 << 20, memory="ddr4", library=library) as device:
        for register, value in (
            (prober.ADDRESS, 0),
            (prober.BURSTS, 1024),
            (prober.BEATS, 64),
            (prober.MODE, prober.READ),
            (prober.START, 1),
        ):
            device.write_register(register, value)
        device.wait(20)
        assert device.read_register(prober.RECEIVED) == 1 << 16
        assert abs((1 << 16) / device.read_register(prober.SPAN) / DDR4_2400.ceiling - 1) < 0.003


@BY_NAME
def test_a_read_takes_what_its_row_costs(drive: Drive, dram: Dram) -> None:
    """A bank that is closed, one whose row is open, and one with another row open; far apart in time."""
    requests = [Request(0), Request(dram.bank_groups, cycle=1000), Request(first_access(dram, 1), cycle=2000)]
    first, hit, miss = drive(dram, requests).reads - [0, 1000, 2000]
    always = dram.controller + dram.cl + dram.access_clocks
    assert first == cycles(dram, always + dram.rcd)
    assert hit == cycles(dram, always)
    assert miss == cycles(dram, always + dram.rp + dram.rcd)


@BY_NAME
def test_rows_of_one_bank_are_opened_one_after_the_other(drive: Drive, dram: Dram) -> None:
    answers = drive(dram, [Request(first_access(dram, row)) for row in range(60)])
    row_cycle = max(dram.ras, dram.rcd + dram.rtp) + dram.rp
    assert spacing(answers) == pytest.approx(row_cycle / dram.access_clocks, abs=0.05)


@BY_NAME
def test_rows_of_all_banks_are_opened_four_at_a_time(drive: Drive, dram: Dram) -> None:
    groups, banks = dram.bank_groups, dram.banks_per_group
    order = [first_access(dram, n // (groups * banks), n // groups % banks, n % groups) for n in range(400)]
    answers = drive(dram, [Request(access) for access in order])
    assert spacing(answers) == pytest.approx(max(dram.faw / 4, dram.rrd_s) / dram.access_clocks, abs=0.05)


@BY_NAME
def test_accesses_in_one_bank_group_are_further_apart(drive: Drive, dram: Dram) -> None:
    near = drive(dram, [Request(n) for n in range(100)])
    far = drive(dram, [Request(n * dram.bank_groups) for n in range(min(100, dram.row_accesses))])
    assert spacing(near) == 1
    assert spacing(far) == pytest.approx(dram.ccd_l / dram.access_clocks, abs=0.05)


@BY_NAME
@pytest.mark.parametrize("writes", [1, 16])
def test_turning_the_bus_around_costs_both_gaps(drive: Drive, dram: Dram, writes: int) -> None:
    """A stream of reads within open rows, and writes in their midst: the reads come later by the writes and both turns."""
    dram = replace(dram, write_batch=writes)
    reads = [Request(n % 32, cycle=n) for n in range(400)]
    midst = [Request(n, cycle=200, write=True) for n in range(writes)]
    without, answers = drive(dram, reads), drive(dram, [*reads, *midst])
    lost = int(answers.reads[-1] - without.reads[-1])
    to_writes = max(dram.ccd_l, dram.cl + dram.access_clocks + 2 - dram.cwl)
    to_reads = dram.cwl + dram.access_clocks
    # All writes but the last take what a read takes; the last one is followed by the turn.
    between = (writes - 2) * dram.ccd_s
    fewest, most = to_writes + between + to_reads + dram.wtr_s, to_writes + between + to_reads + dram.wtr_l + dram.ccd_l
    assert fewest // dram.access_clocks <= lost <= cycles(dram, most)


@BY_NAME
def test_writes_are_acknowledged_in_the_queue_and_wait_for_company(drive: Drive, dram: Dram) -> None:
    dram = replace(dram, write_batch=16, write_age=400)
    answers = drive(dram, [Request(n, write=True) for n in range(3)])
    # Accepted in cycle n, taken in the one after it.
    assert answers.responses.tolist() == [n + 1 + cycles(dram, dram.controller) for n in range(3)]
    # Nobody sees them until they are old: a read in another row of the bank is as fast as ever before, and slow when it meets them.
    age = cycles(dram, dram.write_age)
    alone = int(drive(dram, [Request(first_access(dram, 1))]).reads[0])
    for cycle, meets in ((5, False), (age + 2, True)):
        write = Request(0, write=True)
        read = Request(first_access(dram, 1), cycle=cycle)
        late = int(drive(dram, [write, read]).reads[0]) - cycle - alone
        assert (late > 0) == meets, (cycle, late)


@BY_NAME
def test_a_bank_recovers_from_a_write(drive: Drive, dram: Dram) -> None:
    """A row that was written to is closed after tWR."""
    write, read = Request(0, write=True), Request(first_access(dram, 1), cycle=3)
    late = int(drive(dram, [write, read]).reads[0]) - 3
    # The write is scheduled two cycles after it was accepted, in a bank that is closed.
    held = 2 * dram.access_clocks + max(dram.ras, dram.rcd + dram.cwl + dram.access_clocks + dram.wr)
    answer = held + dram.rp + dram.rcd + dram.cl + dram.access_clocks + dram.controller - dram.controller // 2
    assert late == cycles(dram, answer - 3 * dram.access_clocks)


def test_small_reads_anywhere_are_slow(drive: Drive, rng: np.random.Generator) -> None:
    """What a layout that ignores rows would get."""
    places = rng.integers(0, 1 << 20, 3000)
    random = drive(DDR4_2400, [Request(int(place)) for place in places], window=512)
    assert 0.15 < 1 / spacing(random) < 0.6 * DDR4_2400.ceiling
