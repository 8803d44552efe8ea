"""The PCIe transport over files that a thread with the golden model plays a card with."""

import errno
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.golden.device import GoldenDevice
from tailrace.spec.config import CONFIGS, parse_config
from tailrace.spec.errors import ConfigError, DeviceClosed, DeviceTimeout, LinkError
from tailrace.spec.registers import MAGIC, offset
from tailrace.spec.transport import Transport
from tailrace.transports.mapped_registers import MappedRegisters
from tailrace.transports.xdma import XdmaTransport
from verification.unit.host.tiny_models import write_model
from verification.unit.host.transports.stand_in import Xdma

MEMORY = 1 << 20
#: Another program with the card.
_HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
CONFIG = CONFIGS["tiny"]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Xdma]:
    card = Xdma(monkeypatch, tmp_path, CONFIG, MEMORY)
    yield card
    card.close()


@pytest.mark.parametrize("build", ["tiny", "tiny,channels=4"])
def test_decodes_as_golden(build: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = parse_config(build)
    card = Xdma(monkeypatch, tmp_path, config, MEMORY)
    imported = import_model(open_model(write_model(tmp_path / "m.gguf")), 16)
    transport = XdmaTransport(card.prefix, MEMORY)
    assert isinstance(transport, Transport)
    logits, tokens = [], []
    for each in (transport, GoldenDevice(config, MEMORY)):
        with Device(each) as device:
            decoder = Decoder(device, imported, tokens_per_doorbell=3)
            logits.append([decoder.step(t).tobytes() for t in (3, 7)])
            tokens.append(decoder.run(5, 3))
    assert logits[0] == logits[1]
    assert tokens[0] == tokens[1]
    assert transport.statistics == {"interrupts": 3, "missed interrupts": 0}
    assert card.stand_in.golden.channel_bases == [n * MEMORY // config.channels for n in range(config.channels)]
    transport.close()
    card.close()


def test_where_the_design_maps_registers_and_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rng: np.random.Generator
) -> None:
    places = {"control_offset": 0x1_0000 + 0x400, "memory_offset": 0x8_0000_0000}
    card = Xdma(monkeypatch, tmp_path, CONFIG, MEMORY, **places)
    with XdmaTransport(card.prefix, MEMORY, **places) as transport:
        assert transport.read_register(offset("MAGIC")) == MAGIC
        assert transport.read_registers(offset("MAGIC") - 4, 2) == [0, MAGIC]
        data = rng.integers(0, 256, 1000, np.uint8).tobytes()
        for address in (0, 13, MEMORY - 1000):
            transport.write(address, data)
            assert transport.read(address, 1000) == data
            assert card.stand_in.memory[address : address + 1000].tobytes() == data
        assert transport.read(5, 0) == b""
    card.close()


def test_short_transfers_go_on(card: Xdma, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    write, read = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: write(file, data[:1000], place))
    monkeypatch.setattr(os, "preadv", lambda file, views, place: read(file, [views[0][:700]], place))
    data = rng.integers(0, 256, 5000, np.uint8).tobytes()
    with XdmaTransport(card.prefix, MEMORY) as transport:
        transport.write(64, data)
        assert transport.read(64, 5000) == data


def test_transfers_that_fail(card: Xdma, monkeypatch: pytest.MonkeyPatch) -> None:
    advice = "Check that the design maps memory there and that it answers; dmesg shows what the DMA engine reported"

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with XdmaTransport(card.prefix, MEMORY) as transport:
        monkeypatch.setattr(os, "pwrite", fail)
        text = f"{card.prefix}_h2c_0: writing 4 bytes at 0x40 failed: Input/output error. {advice}"
        with pytest.raises(LinkError, match=f"^{re.escape(text)}$"):
            transport.write(64, b"abcd")
        os.truncate(f"{card.prefix}_c2h_0", 100)
        text = f"{card.prefix}_c2h_0: reading 50 bytes at 0x96 failed: nothing was transferred. {advice}"
        with pytest.raises(LinkError, match=f"^{re.escape(text)}$"):
            transport.read(150, 50)
        os.truncate(f"{card.prefix}_c2h_0", MEMORY)
        for what, call in {
            "read": lambda: transport.read(MEMORY - 4, 8),
            "write": lambda: transport.write(MEMORY - 4, bytes(8)),
        }.items():
            text = f"can't {what} 8 bytes at 0xffffc: the device's memory has 1048576 bytes, from address 0 on"
            with pytest.raises(LinkError, match=f"^{re.escape(text)}$"):
                call()


def test_interrupts_that_are_late_early_or_lost(card: Xdma) -> None:
    with XdmaTransport(card.prefix, MEMORY) as transport, Device(transport, timeout=0.3) as device:
        os.write(card.events, bytes([1, 0, 0, 0]))  # of a run before this program
        device.start(0, 0)
        assert transport.statistics == {"interrupts": 1, "missed interrupts": 0}
        interrupt, card.stand_in.interrupt = card.stand_in.interrupt, lambda: None
        device.start(0, 0)
        assert transport.statistics == {"interrupts": 1, "missed interrupts": 1}
        card.stand_in.hangs = True
        text = (
            "no interrupt and no progress for 0.3 s: the device hangs, or was not started. tailrace doctor tells which part of"
            " it is to blame"
        )
        with pytest.raises(DeviceTimeout, match=f"^{re.escape(text)}$"):
            device.start(0, 0)
        card.stand_in.hangs, card.stand_in.interrupt = False, interrupt
        card.stand_in.show()
        device.start(0, 0)
        card.stand_in.words[:] = 0xFFFF_FFFF
        text = (
            "the device no longer answers: its register ISR reads 0xffffffff. Check its power, its clock and whether it was loaded"
            " anew, then open it again"
        )
        with pytest.raises(LinkError, match=f"^{re.escape(text)}$"):
            transport.wait(1.0)


def test_without_events(card: Xdma) -> None:
    Path(f"{card.prefix}_events_0").unlink()
    with XdmaTransport(card.prefix, MEMORY, events=False) as transport, Device(transport) as device:
        device.start(0, 0)
        assert transport.statistics == {}


def test_closing_twice(card: Xdma) -> None:
    transport = XdmaTransport(card.prefix, MEMORY)
    for _ in range(2):
        transport.close()
    for call in (lambda: transport.read(0, 4), lambda: transport.read_register(0), lambda: transport.write_register(0, 0)):
        with pytest.raises(DeviceClosed, match="^the device is closed: open it again$"):
            call()


def test_a_card_that_another_program_uses(card: Xdma) -> None:
    text = f"{card.user} is in use: wait until the other program that has opened it is done, or end it; fuser -v {card.user} names it"
    with XdmaTransport(card.prefix, MEMORY), pytest.raises(LinkError, match=f"^{re.escape(text)}$"):
        XdmaTransport(card.prefix, MEMORY)
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, card.user], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LinkError, match=f"^{re.escape(text)}$"):
        XdmaTransport(card.prefix, MEMORY)
    holder.communicate("")
    XdmaTransport(card.prefix, MEMORY).close()


def test_closing_beside_a_wait(card: Xdma) -> None:
    ends: list[type[BaseException]] = []
    transport = XdmaTransport(card.prefix, MEMORY)

    def work() -> None:
        try:
            transport.wait(20)
        except BaseException as error:
            ends.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    transport.close()
    thread.join(20)
    assert ends == [DeviceClosed]


def test_files_that_are_not_there(card: Xdma) -> None:
    load = (
        "load the xdma driver of Xilinx' dma_ip_drivers (modprobe xdma), and check with lspci -d 10ee: that the card is there,"
        " which it is only after a bitstream was loaded and the bus was scanned again"
    )
    events = "enable user interrupts in the XDMA core, or add wait=poll"
    for part, advice in {"events_0": events, "c2h_0": load, "user": load}.items():
        path = Path(f"{card.prefix}_{part}")
        path.unlink()
        with pytest.raises(LinkError, match=f"^{re.escape(f'{path} does not exist: {advice}')}$"):
            XdmaTransport(card.prefix, MEMORY)


def test_files_that_can_not_be_opened(card: Xdma, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        errno.EACCES: " may not be opened by this user: run as root, or give the user access to it with a udev rule",
        errno.EBUSY: " is in use: wait until the other program that has opened it is done, or end it; fuser -v ",
        errno.EIO: " can't be opened: Input/output error. Load the xdma driver of",
    }
    for number, text in texts.items():

        def fail(path: Path, *_: object, number: int = number) -> int:
            raise OSError(number, os.strerror(number), path)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", fail)
            with pytest.raises(LinkError, match=f"^{re.escape(f'{card.user}{text}')}"):
                XdmaTransport(card.prefix, MEMORY)


def test_a_range_that_is_too_small(card: Xdma) -> None:
    os.truncate(card.user, 100)
    text = (
        f"4096 bytes of registers at 0x0 in {card.user} can't be mapped: mmap length is greater than file size. Check that the"
        " design maps s_axi_control there, with a range of at least 4 KiB"
    )
    with pytest.raises(LinkError, match=f"^{re.escape(text)}$"):
        XdmaTransport(card.prefix, MEMORY)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"memory_size": 100}, "memory_size must be a positive multiple of 64, not 100"),
        ({"memory_size": 0}, "memory_size must be a positive multiple of 64, not 0"),
        ({"memory_size": 64, "memory_offset": 32}, "memory_offset must be a multiple of 64, not 0x20"),
    ],
)
def test_parameters(values: dict[str, int], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        XdmaTransport("/dev/none", **values)


def test_registers_that_are_none(card: Xdma) -> None:
    with card.user.open("r+b") as file:
        with pytest.raises(LinkError, match="^the registers in x must begin at a multiple of 4, not at 0x2$"):
            MappedRegisters(file.fileno(), Path("x"), offset=2)
    with XdmaTransport(card.prefix, MEMORY) as transport:
        for place in (2, 4096):
            with pytest.raises(LinkError, match=f"^register offsets are multiples of 4 below 0x1000, not {place:#x}$"):
                transport.read_register(place)
