"""The doctor on devices with a planted fault: the right step fails, with the right advice, and the rest is skipped."""

from typing import Any

import numpy as np
import pytest

from tailrace.doctor.checks import CHECKS, Outcome, examine
from tailrace.doctor.examination import Examination
from tailrace.doctor.link import report_link
from tailrace.golden.device import GoldenDevice
from tailrace.spec.config import CONFIGS, parse_config
from tailrace.spec.errors import LinkError
from tailrace.spec.formats import WEIGHT_FORMATS
from tailrace.spec.registers import AP_START, offset
from tailrace.spec.transport import Piece, Transport
from tailrace.transports.link import LinkCounters
from verification.unit.host.device.one_memory import OneMemoryDevice
from verification.unit.host.doctor.broken import Broken, Hanging

MEMORY = 1 << 20
CONFIG = CONFIGS["tiny"]
SEED = 5
PINS = "check the pins, the voltage and the timing of the memory's data lines, and whether its controller was calibrated"
LOST = (
    "the memory or the way to it loses data: check the timing report of the design, the memory's refresh and calibration, and that"
    " nothing else writes to this memory"
)
TIMING = "check the design's timing report, lower its clock, and check supply and temperature"
SAME_MEMORY = (
    "the host's writes do not reach what the core reads: check that both see the same memory, at the same addresses (an offset or"
    " an address translation between them?)"
)


def examined(transport: Transport | Exception) -> list[Outcome]:
    def opener() -> Transport:
        if isinstance(transport, Exception):
            raise transport
        return transport

    told: list[Outcome] = []
    progress: list[float] = []
    examination = Examination("it", opener, 0.1, SEED, 100.0, lambda what, done: progress.append(done))
    outcomes = examine(examination, told.append)
    assert told == outcomes
    assert all(0 <= done <= 1 for done in progress)
    assert [o.name for o in outcomes] == [c.name for c in CHECKS]
    return outcomes


def fails(transport: Transport | Exception, step: str, text: str, advice: str, skipped: int) -> None:
    """This step fails and no other; so many are skipped for it."""
    outcomes = examined(transport)
    failed = [o for o in outcomes if o.verdict == "failed"]
    assert [(o.name, o.text, o.advice) for o in failed] == [(step, text, advice)]
    assert sum(o.text.startswith("needs ") for o in outcomes) == skipped
    if isinstance(transport, Broken):
        assert transport.closed == 1


class Open(GoldenDevice):
    """A device whose registers can be read after it was closed."""

    def close(self) -> None:
        pass


def test_several_ports_over_one_memory() -> None:
    """The host's patterns go to the memory as it is, products and tokens by way of the parts that the driver makes of it."""
    outcomes = {o.name: o for o in examined(OneMemoryDevice(parse_config("tiny,channels=4"), MEMORY))}
    assert [o.verdict for o in outcomes.values()] == ["ok"] * 8 + ["skipped"]
    assert outcomes["identification"].text.startswith("instruction set 3.3, 4 memory ports with a 128-bit bus, 4 lanes, 1 ")


def test_memory_that_the_build_can_not_use() -> None:
    """The device is in order: no cable is to be checked."""

    class Pieces(OneMemoryDevice):
        pieces = (Piece(0, MEMORY // 2), Piece(MEMORY, MEMORY // 2))

    text = (
        "the memory of one memory is in 2 pieces, and this build has one memory port, which needs it in one: give one of them, or"
        " use a build of several ports"
    )
    fails(Pieces(CONFIG, MEMORY), "identification", text, "do what the message says, and run this again", 6)


@pytest.mark.parametrize("config", ["tiny", "wide"])
def test_a_device_in_order(config: str) -> None:
    device = Open(parse_config(config), MEMORY)
    outcomes = {o.name: o for o in examined(device)}
    assert [o.verdict for o in outcomes.values()] == ["ok"] * 8 + ["skipped"]
    assert outcomes["open"].text == "golden, 1,048,576 bytes of memory"
    lines = {"tiny": "128-bit bus, 1 lanes, 1", "wide": "512-bit bus, 4 lanes, 4"}[config]
    assert outcomes["identification"].text == f"instruction set 3.3, {lines} right-hand sides, {len(WEIGHT_FORMATS)} formats"
    assert outcomes["registers"].text == "18 registers keep 36 patterns, 14 can't be written"
    assert outcomes["memory patterns"].text == (
        f"{lines[:3]} data lines, 18 address lines, 256 blocks of 4096 bytes, both ends; seed 5"
    )
    assert outcomes["commands and errors"].text == (
        "4 runs, 2 of them with the error that they should have; 9 commands counted, interrupt raised"
    )
    assert outcomes["products"].text.startswith(f"{len(WEIGHT_FORMATS)} formats and ")
    assert outcomes["products"].text.endswith(" in Q8_0 equal golden; it counts no cycles")
    assert outcomes["decode"].text == "4 tokens and 4 more with one doorbell, equal to golden"
    assert outcomes["link"].text == "golden keeps no statistics"
    for name in ("GIE", "IER"):
        assert device.read_register(offset(name)) == 1
    assert device.read_register(offset("WATCHDOG_CYCLES")) == 1 << 20


def test_little_memory() -> None:
    outcomes = {o.name: o for o in examined(GoldenDevice(CONFIG, 1 << 16))}
    assert outcomes["products"].text.startswith(f"{len(WEIGHT_FORMATS)} formats and 128 x 256 in Q8_0")
    assert outcomes["decode"].text == "the model of this check takes up to 1048576 bytes of memory, and the device has 65536"
    assert [o.verdict for o in outcomes.values()] == ["ok"] * 7 + ["skipped"] * 2


def test_it_does_not_open() -> None:
    fails(LinkError("/dev/x does not exist: plug it in"), "open", "/dev/x does not exist: plug it in",
          "do what the message says, and run this again", 8)  # fmt: skip


@pytest.mark.parametrize(
    ("magic", "advice"),
    [
        (0xFFFF_FFFF, "nothing answers: load the bitstream, and check the base address of the registers"),
        (0, "check that the core has a clock and is out of reset, and the base address of the registers"),
        (0x544C5243, "the bytes of a word arrive in the wrong order: the control bus must be little endian"),
        (0x1234, "check the base address of the registers, and that the bitstream is one of Tailrace"),
    ],
)
def test_another_device(magic: int, advice: str) -> None:
    device = Broken(CONFIG, MEMORY, registers={offset("MAGIC"): lambda _: magic})
    fails(device, "identification", f"MAGIC reads {magic:#010x}, not 0x43524c54", advice, 6)


@pytest.mark.parametrize(
    ("register", "value", "text", "advice"),
    [
        (
            "ISA_VERSION",
            0x0001_0003,
            "the instruction set is 1.3, and this driver speaks 3.x",
            "build the device again from this release, or install the release of tailrace that it was built from",
        ),
        (
            "BUS_WIDTH",
            0x80 << 8,
            "the registers tell of a device that can't be built: bus_width must be one of (128, 256, 512), not 32768",
            "the control bus garbles what is read: check its width (32 bits), its address lines and its clock",
        ),
        (
            "CHANNELS",
            3,
            "the registers tell of a device that can't be built: channels must be one of (1, 2, 4, 8, 16, 32), not 3",
            "the control bus garbles what is read: check its width (32 bits), its address lines and its clock",
        ),
        (
            "ADDRESS_WIDTH",
            0,
            "the registers tell of a device that can't be built: address_width must be between 32 and 64, not 0",
            "the control bus garbles what is read: check its width (32 bits), its address lines and its clock",
        ),
    ],
)
def test_registers_that_make_no_sense(register: str, value: int, text: str, advice: str) -> None:
    device = Broken(CONFIG, MEMORY, registers={offset(register): lambda _: value})
    fails(device, "identification", text, advice, 6)


def test_registers_that_do_not_fit_together() -> None:
    outcomes = examined(Broken(CONFIG, MEMORY, registers={offset("LANES"): lambda _: 2}))
    assert outcomes[1].text.startswith("the registers do not fit together: Geometry(version=196611, bus_width=128, lanes=2, ")
    assert outcomes[1].advice == (
        "read them again: if they change, the control bus is not reliable (clock crossing, timing); if not, the device was built"
        " from other sources than this release"
    )


def test_a_bit_of_a_register_that_is_stuck() -> None:
    device = Broken(CONFIG, MEMORY, registers={offset("QUEUE_LENGTH"): lambda value: value & ~(1 << 7)})
    text = "QUEUE_LENGTH reads 0xffffff7f after 0xffffffff was written (bits 7)"
    advice = "check the data lines and the byte strobes of the control bus: every access must be one of 32 bits"
    fails(device, "registers", text, advice, 3)


def test_an_address_line_of_the_control_bus_that_is_stuck() -> None:
    device = Broken(CONFIG, MEMORY, aliases={offset("QUEUE_ADDRESS_HI"): offset("QUEUE_ADDRESS_LO")})
    text = "QUEUE_ADDRESS_LO reads 0x03030302, which was written to QUEUE_ADDRESS_HI"
    fails(device, "registers", text, "check the address lines of the control bus: the core needs 12 bits of byte address", 3)


def test_a_register_that_should_not_change() -> None:
    device = Broken(CONFIG, MEMORY, writable=(offset("MAX_BLOCKS"),))
    text = "MAX_BLOCKS is read-only and changed from 0x00000080 to 0xffffff7f when it was written"
    advice = "something else answers at this address: check the base address and the range of s_axi_control (4 KiB)"
    fails(device, "registers", text, advice, 3)


def stuck(bit: int, value: int) -> Any:
    def change(address: int, data: np.ndarray) -> np.ndarray:
        here = (np.arange(address, address + data.size) % 16) == bit // 8
        data[here] = data[here] | 1 << bit % 8 if value else data[here] & ~np.uint8(1 << bit % 8)
        return data

    return change


@pytest.mark.parametrize("value", [0, 1])
def test_a_data_line_that_is_stuck(value: int) -> None:
    device = Broken(CONFIG, MEMORY, read=stuck(77, value))
    fails(device, "memory patterns", f"of 128 data lines 77 reads {value} where it should not", PINS, 4)


def test_no_memory() -> None:
    device = Broken(CONFIG, MEMORY, read=lambda _, data: data * 0)
    text = "a walking one comes back quite different: 128 of 128 data lines are wrong"
    fails(
        device, "memory patterns", text, "check that the memory is there and answers at the address that the host writes to", 4
    )


@pytest.mark.parametrize("line", [12, 19])
def test_an_address_line_that_is_stuck(line: int) -> None:
    device = Broken(CONFIG, MEMORY, address=lambda a: a & ~(1 << line))
    text = f"address {1 << line:#x} and address 0 are the same byte: address line {line} has no effect"
    advice = (
        f"if the memory has only {1 << line:,} bytes, say so when you open it; else check address line {line} from the host's port"
        " to the memory, and the range that the interconnect maps"
    )
    fails(device, "memory patterns", text, advice, 4)


def test_address_lines_that_are_connected() -> None:
    device = Broken(CONFIG, MEMORY, address=lambda a: np.where(a & 0x9000, a | 0x9000, a))
    advice = "address lines 15 and 12 are connected, or one of them is stuck: check them from the host's port to the memory"
    fails(device, "memory patterns", "address 0x1000 and address 0x8000 are the same byte", advice, 4)


def test_a_write_that_is_lost() -> None:
    writes = 0

    def lose(address: int, data: np.ndarray) -> np.ndarray:
        nonlocal writes
        writes += data.size == 4096
        if writes == 100:
            data[1000:1064] = 0xEE
        return data

    place = 99 * 4096
    outcomes = examined(Broken(CONFIG, MEMORY, written=lose))
    assert outcomes[3].text.startswith(
        f"own addresses: 64 of 4096 bytes from {place:#x} on are wrong, the first at {place + 1000:#x}: 0xee, not "
    )
    assert outcomes[3].advice == LOST


def test_memory_that_reads_differently_each_time() -> None:
    random = np.random.default_rng(SEED)

    def flip(address: int, data: np.ndarray) -> np.ndarray:
        if data.size == 4096:
            data[random.integers(4096)] ^= 1 << random.integers(8)
        return data

    outcomes = examined(Broken(CONFIG, MEMORY, read=flip))
    assert outcomes[3].text.startswith("own addresses: 1 of 4096 bytes from 0x0 on are wrong")
    assert outcomes[3].advice == f"it reads differently each time: {PINS}"


def test_long_transfers_that_fail() -> None:
    def cut(address: int, data: np.ndarray) -> np.ndarray:
        data[8192:8292] ^= 1
        return data

    outcomes = examined(Broken(CONFIG, MEMORY, written=cut))
    assert (outcomes[4].name, outcomes[4].verdict, outcomes[4].advice) == ("memory bandwidth", "failed", LOST)
    assert outcomes[4].text.startswith("100 of ")


def test_no_interrupt() -> None:
    device = Broken(CONFIG, MEMORY, interrupts=False)
    text = "the run has finished, but its interrupt did not arrive within 0.1 s (ISR 0x1)"
    advice = (
        "check the wire from the core's interrupt to the host, and that it is level-sensitive; where there is none, open the device"
        " with wait=poll"
    )
    fails(device, "commands and errors", text, advice, 2)


def test_interrupts_that_had_to_be_looked_for() -> None:
    device = Broken(CONFIG, MEMORY)
    device.statistics = {"interrupts": 0, "missed interrupts": 4}  # type: ignore[attr-defined]
    text = "runs finish, but their interrupt never arrives: 4 of them had to be looked for"
    advice = "check the wire from the core's interrupt to the host; without one, open the device with wait=poll"
    fails(device, "commands and errors", text, advice, 2)


@pytest.mark.parametrize(
    ("cycles", "beats", "text", "advice"),
    [
        (
            0,
            0,
            "the core has not counted a cycle",
            "the core's clock stands still or its reset is active: check ap_clk and ap_rst_n",
        ),
        (
            900,
            0,
            "no command has come from memory in 900 cycles",
            "the memory does not answer the core: check m00_axi, the memory's clock and reset, and that it is calibrated",
        ),
        (
            900,
            4,
            "4 beats of commands were read and 1 commands started",
            "the memory answered and then stopped: check that it answers every read and every write, and the design's timing",
        ),
    ],
)
def test_a_hang(cycles: int, beats: int, text: str, advice: str) -> None:
    device = Hanging(CONFIG, MEMORY, cycles, beats)
    fails(device, "commands and errors", f"the run has not finished within 0.1 s: {text}", advice, 2)


def test_host_and_core_see_different_memory() -> None:
    """The host's writes land 64 KiB further on than the core reads."""
    device = Broken(CONFIG, MEMORY, address=lambda a: (a + 0x1_0000) % MEMORY)
    outcomes = examined(device)
    assert outcomes[5].text == (
        "a queue of FENCE commands was refused: the device stopped at command 0 with BAD_OPCODE: the command queue is damaged or"
        " was made for another instruction set: import the model again"
    )
    assert (outcomes[5].verdict, outcomes[5].advice) == ("failed", SAME_MEMORY)


def test_errors_that_are_not_reported() -> None:
    device = Broken(CONFIG, MEMORY, registers={offset("ERROR_CODE"): lambda _: 0})
    advice = f"the core does not run what was written: {SAME_MEMORY}"
    fails(device, "commands and errors", "a command with an unknown opcode was not refused", advice, 2)
    device = Broken(CONFIG, MEMORY, registers={offset("ERROR_COMMAND"): lambda value: value & ~1})
    text = "a bad opcode in command 3 was reported as BAD_OPCODE in command 2"
    fails(device, "commands and errors", text, SAME_MEMORY, 2)


def wrong_products(change: Any) -> Any:
    """Lets a device run, and changes the results of products: what a run has written between two looks at its memory."""

    def run(golden: GoldenDevice) -> None:
        before = np.frombuffer(golden.read(0, MEMORY), np.uint8)
        golden.write_register(offset("AP_CTRL"), AP_START)
        after = np.frombuffer(golden.read(0, MEMORY), np.uint8).copy()
        places = np.flatnonzero(after != before)
        if places.size and not golden.read_register(offset("ERROR_CODE")):
            # The result of a matrix of 37 rows, from the multiple of 64 on at which it begins.
            first = int(places[0]) // 64 * 64
            change(after[first : first + 4 * 37].view(np.uint32))
            golden.write(0, after.tobytes())

    return run


def test_a_product_that_is_wrong() -> None:
    def change(result: np.ndarray) -> None:
        result[11] ^= 1

    outcomes = examined(Broken(CONFIG, MEMORY, run=wrong_products(change)))
    assert (outcomes[6].name, outcomes[6].verdict, outcomes[7].text) == ("products", "failed", "needs products")
    assert outcomes[6].text.startswith("Q8_0, 37 x 96: 1 rows differ from golden, the first is 11: ")
    assert outcomes[6].text.endswith(" (seed 5)")
    assert outcomes[6].advice == (
        f"always the same rows are wrong: {TIMING}; if they stay wrong at a low clock, report the seed"
    )


def test_a_lane_that_is_wrong() -> None:
    def change(result: np.ndarray) -> None:
        result[2::4] ^= 2

    outcomes = examined(Broken(parse_config("base,bus_width=512"), MEMORY, run=wrong_products(change)))
    assert outcomes[6].text.startswith("Q8_0, 37 x 96: 9 rows differ from golden, the first is 2: ")
    assert outcomes[6].advice == f"only rows of lane 2 of 4 are wrong, always the same: {TIMING}; else build it again"


def test_a_product_that_changes() -> None:
    random = np.random.default_rng(SEED)

    def change(result: np.ndarray) -> None:
        result[5] ^= random.integers(1, 1 << 20, dtype=np.uint32)

    outcomes = examined(Broken(CONFIG, MEMORY, run=wrong_products(change)))
    assert outcomes[6].advice == f"the result changes from run to run: {TIMING}"


def test_products_that_are_all_wrong() -> None:
    def change(result: np.ndarray) -> None:
        result ^= 4

    outcomes = examined(Broken(CONFIG, MEMORY, run=wrong_products(change)))
    assert outcomes[6].advice == (
        f"all rows are wrong, always the same: read the matrix back to see whether the memory has it; {TIMING}"
    )


def test_a_decode_that_is_wrong() -> None:
    """The vector unit's results only: runs with more commands than a product has."""

    def run(golden: GoldenDevice) -> None:
        golden.write_register(offset("AP_CTRL"), AP_START)
        if golden.read_register(offset("QUEUE_LENGTH")) > 40:
            memory = np.frombuffer(golden.read(0, MEMORY), np.uint8).copy()
            logits = memory[: MEMORY // 4 * 4].view(np.float32)
            logits[(np.abs(logits) > 1e-3) & (np.abs(logits) < 10)] *= np.float32(1.001)
            golden.write(0, memory.tobytes())

    outcomes = examined(Broken(CONFIG, MEMORY, run=run))
    assert [o.verdict for o in outcomes] == ["ok"] * 7 + ["failed", "skipped"]
    assert outcomes[7].text.startswith("the logits of token 0 differ from golden in ")
    assert outcomes[7].text.endswith(" of 96 places (seed 5)")
    assert outcomes[7].advice == (
        "products are right, so look at what only a decode step uses: the vector unit, and the KV cache's writes to memory; check"
        " the design's timing report and lower the clock; if it stays, report the seed"
    )


def test_a_line_that_is_bad() -> None:
    class Line:
        clock = 25_000_000
        counters = LinkCounters(requests=1000, retried=40)

    device = Broken(CONFIG, MEMORY)
    device.link = Line()  # type: ignore[attr-defined]
    outcomes = examined(device)
    assert [o.verdict for o in outcomes] == ["ok"] * 8 + ["failed"]
    assert outcomes[8].text.startswith("40 of 1,000 requests had to be sent again (1,000 requests, 40 retried, ")
    assert outcomes[8].advice == (
        "nothing was lost, but it is slow: use a shorter cable or another port, or build the board for a lower baud rate"
    )
    Line.counters = LinkCounters(requests=1000, retried=3)
    text = report_link(Examination("it", lambda: device, 0.1, SEED, None, transport=device))
    assert text.startswith("1,000 requests, 3 retried, ")


def test_a_line_that_fails_in_the_middle() -> None:
    calls = 0

    def fail(address: int, data: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 30:
            raise LinkError("the board went away: plug it in again")
        return data

    device = Broken(CONFIG, MEMORY, read=fail)
    advice = "check cable, power and bitstream, and run this again"
    fails(device, "memory patterns", "the board went away: plug it in again", advice, 4)
