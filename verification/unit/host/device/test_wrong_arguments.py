"""What the lower API is given by mistake: one message each, and nothing has changed."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import ImportedModel, import_model
from tailrace.gguf.file import open_model
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ConfigError, LimitError, TailraceError
from tailrace.spec.transport import Transport
from verification.unit.host.tiny_models import write_model

_TINY = parse_config("tiny")
_TRANSPORT = (
    "a device takes an open transport, as tailrace.sim.devices.open_device('golden', config, memory_size) returns, not {}"
)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> ImportedModel:
    return import_model(open_model(write_model(tmp_path_factory.mktemp("models") / "m.gguf", layers=1)), np.int64(16))


@pytest.fixture(scope="module")
def decoder(imported: ImportedModel) -> Decoder:
    return Decoder(Device(golden()), imported, batch=1)


def golden() -> Transport:
    return open_device("golden", _TINY, 1 << 22)


def refused(error: type[Exception], text: str, call: Callable[[], object]) -> None:
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        call()


def test_a_context_of_numpys(imported: ImportedModel) -> None:
    assert (type(imported.context), imported.context) == (int, 16)
    for context in (1.5, "16", True):
        refused(ConfigError, f"context must be a whole number, not {context!r}", lambda c=context: imported.at(c))  # type: ignore[misc]


@pytest.mark.parametrize("given", ["golden", None, 5, _TINY])
def test_no_transport(given: Any) -> None:
    shown = "a Config" if given is _TINY else repr(given)
    refused(TypeError, _TRANSPORT.format(shown), lambda: Device(given))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"timeout": "x"}, "timeout must be a number of seconds above 0, not 'x'"),
        ({"timeout": float("nan")}, "timeout must be a number of seconds above 0, not nan"),
        ({"timeout": 0}, "timeout must be a number of seconds above 0, not 0"),
        ({"watchdog_cycles": -1}, "watchdog_cycles must be a whole number from 0 to 4294967295, not -1"),
        ({"watchdog_cycles": "x"}, "watchdog_cycles must be a whole number from 0 to 4294967295, not 'x'"),
    ],
)
def test_options_of_a_device(options: dict[str, Any], text: str) -> None:
    """What can't be opened is closed."""
    transport = golden()
    refused(ConfigError, text, lambda: Device(transport, **options))
    with pytest.raises(TailraceError, match="closed"):
        transport.read(0, 64)


def test_what_is_to_be_opened() -> None:
    name = "config is what tailrace.spec.config.parse_config('base') returns, not 'tiny'"
    config: Any = "tiny"
    refused(TypeError, name, lambda: open_device("golden", config, 1 << 20))
    for size in ("1MiB", None, 1.5, True):
        text = f"memory_size must be a whole number of bytes, not {size!r}"
        refused(ConfigError, text, lambda s=size: open_device("golden", _TINY, s))  # type: ignore[misc]
    for text in (None, 5, b"tiny"):
        given: Any = text
        refused(
            TypeError,
            f"a configuration is a text here, as in 'base,bus_width=256', not {text!r}",
            lambda g=given: parse_config(g),
        )  # type: ignore[misc]


@pytest.mark.parametrize("given", ["golden", None])
def test_no_device(given: Any, imported: ImportedModel) -> None:
    text = f"a decoder takes what tailrace.device.driver.Device(transport) is, not {given!r}"
    refused(TypeError, text, lambda: Decoder(given, imported))


def test_options_of_a_decoder(imported: ImportedModel) -> None:
    device = Device(golden())
    model: Any = imported.model
    text = "a decoder takes what tailrace.gguf.describe.import_model(model) returns, not a Model"
    refused(TypeError, text, lambda: Decoder(device, model))
    for name, value, wanted in (
        ("batch", "2", "a whole number of 1 or more"),
        ("batch", 0, "a whole number of 1 or more"),
        ("batch", 1.5, "a whole number of 1 or more"),
        ("tokens_per_doorbell", 0, "a whole number of 1 or more"),
        ("on_step", 5, "a callable, or None"),
        ("on_progress", "x", "a callable, or None"),
    ):
        options: Any = {name: value}
        refused(ConfigError, f"{name} must be {wanted}, not {value!r}", lambda o=options: Decoder(device, imported, **o))  # type: ignore[misc]
    assert type(Decoder(device, imported, batch=np.int64(1)).batch) is int


def test_sequences_and_snapshots(decoder: Decoder) -> None:
    decoder.reset()
    decoder.prefill([3, 4, 5])
    kept = decoder.snapshot(np.int64(0))  # type: ignore[arg-type]
    for value in (1, -1, "0", None, 0.5, True):
        given: Any = value
        text = f"sequence must be a whole number from 0 to 0, not {value!r}"
        calls: list[Callable[[Any], object]] = [
            decoder.snapshot,
            decoder.earliest,
            lambda s: decoder.restore(kept, s),
            lambda s: decoder.truncate(1, s),
            *([] if value is None else [decoder.reset]),
        ]
        for call in calls:
            refused(ConfigError, text, lambda c=call, g=given: c(g))  # type: ignore[misc]
    for value in (None, 5, "x"):
        given = value
        refused(TypeError, f"restore takes what snapshot(sequence) returns, not {value!r}", lambda g=given: decoder.restore(g))  # type: ignore[misc]
    for value in (4, -1, "x", None, 1.5, [1]):
        given = value
        text = f"a sequence of 3 tokens can be cut to 0 to 3, not {value!r}"
        refused(LimitError, text, lambda g=given: decoder.truncate(g))  # type: ignore[misc]
    decoder.truncate(np.int64(2))  # type: ignore[arg-type]
    assert (type(decoder.positions[0]), decoder.positions) == (int, [2])


def test_tokens_and_counts(decoder: Decoder) -> None:
    decoder.reset()
    nested = "a token is a whole number, and a list was given in its place: prefill takes several at once"
    for value, text in (
        ([[1]], nested),
        (np.array([[1]]), nested),
        (True, "a token is a whole number, not True"),
        (np.array([False]), "a token is a whole number, not False"),
        (1.5, "a token is a whole number, not 1.5"),
    ):
        given: Any = value
        for call in (decoder.step, decoder.run):
            refused(TailraceError, text, lambda c=call, g=given: c(g))  # type: ignore[misc, attr-defined]
    for count in ("x", None, 1.5, True):
        given = count
        refused(ConfigError, f"count must be a whole number, not {count!r}", lambda g=given: decoder.run(1, g))  # type: ignore[misc]
    assert decoder.positions == [0]
