"""The driver class and its transport on a board that is played; the real package is in `verification/system/test_pynq.py`."""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tailrace
from tailrace.device.driver import Device
from tailrace.export.naming import ExportedCore
from tailrace.spec.config import CONFIGS, parse_config
from tailrace.spec.errors import ConfigError, DeviceClosed, LinkError, TailraceError, ToolError
from tailrace.spec.registers import offset
from tailrace.spec.transport import Transport
from verification.unit.host.device.one_memory import OneMemoryDevice
from verification.unit.host.pynq.board import FIRST, MEMORY, Buffer, Cached, Mmio
from verification.unit.host.tiny_models import write_model


@pytest.fixture(params=["tiny", "tiny,channels=4"])
def golden(request: pytest.FixtureRequest) -> OneMemoryDevice:
    return OneMemoryDevice(parse_config(request.param), MEMORY)


@pytest.fixture
def cache(golden: OneMemoryDevice) -> Cached:
    return Cached(golden)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, cache: Cached) -> Iterator[ModuleType]:
    """`tailrace.pynq`, imported where there is a package pynq."""
    fake: Any = ModuleType("pynq")

    class DefaultIP:
        bound: dict[str, type] = {}

        def __init_subclass__(cls) -> None:
            DefaultIP.bound |= dict.fromkeys(cls.__dict__.get("bindto", ()), cls)

        def __init__(self, description: dict[str, Any]) -> None:
            self.mmio, self._fullpath = description["mmio"], description["fullpath"]

    fake.DefaultIP = DefaultIP
    fake.allocate = lambda shape, dtype, target=None: Buffer(cache, *shape)
    monkeypatch.setitem(sys.modules, "pynq", fake)
    for name in ("tailrace.pynq", "tailrace.pynq.driver", "tailrace.pynq.transport"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield import_module("tailrace.pynq")
    for name in ("tailrace.pynq", "tailrace.pynq.driver", "tailrace.pynq.transport"):
        sys.modules.pop(name, None)


@pytest.fixture
def core(driver: ModuleType, golden: OneMemoryDevice) -> Any:
    """What an overlay makes of a core."""
    kind = sys.modules["pynq"].DefaultIP.bound[f"tailrace:cores:tailrace_tiny:{tailrace.__version__}"]
    return kind({"mmio": Mmio(golden), "fullpath": "tailrace_0"})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1)


def test_tokens_are_golden_s(core: Any, cache: Cached, model: Path) -> None:
    with core.load(model, context=32) as ours, tailrace.load(model, "golden", context=32) as golden:
        assert repr(ours).startswith("<LanguageModel tiny.gguf on pynq:tailrace_0: ")
        answers = [lm.generate("ab", max_tokens=6, logprobs=2) for lm in (ours, golden)]
    assert [(a.tokens, a.logprobs) for a in answers[:1]] == [(a.tokens, a.logprobs) for a in answers[1:]]
    # Not all of memory for each token.
    assert cache.flushed < 2 * ours.memory_bytes
    # One page, to ask the core what it is, and then the model's memory.
    assert cache.freed == 2


def test_a_second_model_takes_the_place_of_the_first(core: Any, cache: Cached, model: Path) -> None:
    first = core.load(model, context=16, memory="1MiB")
    assert first.memory_bytes == 1 << 20
    second = core.load(model, context=16)
    assert cache.freed == 2
    with pytest.raises(TailraceError):
        first.generate("a", max_tokens=1)
    assert second.generate("a", max_tokens=1).text is not None
    second.close()


def test_other_cores(driver: ModuleType) -> None:
    bound = sys.modules["pynq"].DefaultIP.bound
    assert {name.split(":")[2] for name in bound} == {ExportedCore(config).module for config in CONFIGS.values()}
    driver.bind("me:cores:mine:1.0")
    assert issubclass(bound["me:cores:mine:1.0"], driver.TailraceIP)


def test_no_room(core: Any, model: Path) -> None:
    message = (
        "the board gives no buffer of 1,073,741,824 bytes (no room): choose a smaller model or context, or start the kernel with more"
        " contiguous memory (cma=...)"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        core.load(model, memory="1GiB")


def test_the_transport(driver: ModuleType, golden: OneMemoryDevice, cache: Cached, rng: np.random.Generator) -> None:
    transport = driver.PynqTransport(Mmio(golden), Buffer(cache, 1 << 14))
    assert isinstance(transport, Transport)
    data = rng.bytes(100)
    transport.write(33, data)
    assert golden.read(FIRST + 33, 100) == data
    assert cache.flushed == 100
    golden.write(FIRST + 40, bytes(4))
    assert transport.read(38, 8) == data[5:7] + bytes(4) + data[11:13]
    transport.write_register(offset("ARGUMENT_3"), 4096)
    assert golden.read_register(offset("ARGUMENT_3")) == transport.read_register(offset("ARGUMENT_3")) == 4096
    # The core finds the buffer by its address.
    device = Device(transport)
    part = device.memory_size // device.geometry.channels
    assert golden.channel_bases == [FIRST + n * part for n in range(device.geometry.channels)]
    with pytest.raises(LinkError, match="can't read 2 bytes at 0x3fff"):
        transport.read((1 << 14) - 1, 2)
    transport.close()
    transport.close()
    assert cache.freed == 1
    with pytest.raises(DeviceClosed):
        transport.read(0, 1)


def test_other_buffers(driver: ModuleType, golden: OneMemoryDevice, cache: Cached) -> None:
    with pytest.raises(ConfigError, match="^the buffer must be one of bytes, as pynq.allocate.*, not float32 of 1 dimensions$"):
        driver.PynqTransport(Mmio(golden), np.zeros(4, np.float32))
    message = "the buffer begins at 0x100040, and must at a multiple of 4096: allocate a larger one, and give a part of it"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        driver.PynqTransport(Mmio(golden), Buffer(cache, 64, FIRST + 64))


def test_without_pynq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynq", None)
    for name in ("tailrace.pynq", "tailrace.pynq.driver"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(
        ToolError, match="^the Python package pynq is needed for a core in a PYNQ overlay: boards with PYNQ's image have it"
    ):
        import_module("tailrace.pynq")
