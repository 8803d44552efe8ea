import re
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from tailrace.spec.config import CONFIGS, Config, memory_port_names, parse_config
from tailrace.spec.errors import ConfigError


def test_named_configurations() -> None:
    assert list(CONFIGS) == ["tiny", "base", "large", "wide", "arty", "kv260", "u280-hbm"]
    shapes = [(c.bus_width, c.channels, c.right_hand_sides) for c in CONFIGS.values()]
    assert shapes == [(128, 1, 1), (128, 1, 1), (128, 1, 1), (512, 1, 4), (128, 1, 4), (128, 4, 4), (256, 8, 4)]
    assert replace(CONFIGS["kv260"], name="wide", bus_width=512, channels=1) == CONFIGS["wide"]
    assert all(config.name == name for name, config in CONFIGS.items())


@pytest.mark.parametrize(("bus_width", "lanes", "bus_bytes"), [(128, 1, 16), (256, 2, 32), (512, 4, 64)])
def test_what_follows_from_the_bus(bus_width: int, lanes: int, bus_bytes: int) -> None:
    config = Config("x", bus_width)
    assert (config.lanes, config.bus_bytes, config.beat_bytes, config.beat_width) == (lanes, bus_bytes, bus_bytes, bus_width)
    # A burst never exceeds what AXI allows.
    assert config.burst_beats * config.bus_bytes <= 4096


@pytest.mark.parametrize(
    ("bus_width", "channels", "units"), [(128, 1, 1), (512, 1, 1), (128, 8, 2), (512, 2, 2), (256, 16, 8), (256, 32, 16)]
)
def test_beats_of_several_units(bus_width: int, channels: int, units: int) -> None:
    """Commands and vectors keep their 64 bytes; the vector unit is no wider than it can be."""
    config = Config("x", bus_width, channels=channels)
    assert (config.beat_units, config.unit_bytes) == (units, min(config.beat_bytes, 64))
    assert config.unit_width == 8 * config.unit_bytes
    assert config.beat_bytes == units * config.unit_bytes
    assert config.alignment == max(config.beat_bytes, 64)
    assert config.lanes == config.beat_width // 128
    assert config.word_elements == min(config.lanes, 4)
    assert len(memory_port_names(config)) == channels
    assert memory_port_names(config)[-1] == f"m{channels - 1:02}_axi"


@pytest.mark.parametrize(("bus_width", "channels"), [(128, 4), (256, 2), (128, 2)])
def test_channels_make_a_wider_beat(bus_width: int, channels: int) -> None:
    """And nothing else: what is behind the ports is that of one port as wide."""
    config = Config("x", bus_width, channels=channels)
    one = Config("x", bus_width * channels)
    assert (config.beat_width, config.beat_bytes) == (one.beat_width, one.beat_bytes)
    assert (config.lanes, config.word_elements) == (one.lanes, one.word_elements)
    assert config.bus_bytes == bus_width // 8
    assert memory_port_names(config) == ["m00_axi", "m01_axi", "m02_axi", "m03_axi"][:channels]


def test_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        CONFIGS["base"].bus_width = 256  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"bus_width": 64}, "bus_width must be one of (128, 256, 512), not 64"),
        ({"right_hand_sides": 3}, "right_hand_sides must be one of (1, 2, 4, 8, 16), not 3"),
        ({"vector_blocks": 100}, "vector_blocks must be a power of two from 64 to 4096, not 100"),
        ({"vector_blocks": 32}, "vector_blocks must be a power of two from 64 to 4096, not 32"),
        ({"vector_blocks": 8192}, "vector_blocks must be a power of two from 64 to 4096, not 8192"),
        ({"buffer_entries": 0}, "buffer_entries must be a power of two from 1024 to 65536, not 0"),
        ({"buffer_entries": 131072}, "buffer_entries must be a power of two from 1024 to 65536, not 131072"),
        ({"burst_beats": 8}, "burst_beats must be a power of two from 16 to 64, not 8"),
        ({"burst_beats": 128}, "burst_beats must be a power of two from 16 to 64, not 128"),
        ({"read_fifo_beats": 64}, "read_fifo_beats must be a power of two from 128 to 4096, not 64"),
        ({"read_fifo_beats": 16, "burst_beats": 16}, "read_fifo_beats must be a power of two from 32 to 4096, not 16"),
        ({"address_width": 31}, "address_width must be between 32 and 64, not 31"),
        ({"address_width": 65}, "address_width must be between 32 and 64, not 65"),
        ({"vector_width": 8}, "vector_width must be one of (0, 1, 2, 4), not 8"),
        ({"channels": 3}, "channels must be one of (1, 2, 4, 8, 16, 32), not 3"),
        (
            {"channels": 32, "bus_width": 512},
            "32 channels of 512 bits make beats of 16384, and 8192 are possible: choose fewer channels, or a smaller bus_width",
        ),
    ],
)
def test_refuses(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        replace(CONFIGS["base"], **change)


def test_a_config_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="bus_width"):
        Config("x", 1)


def test_parse() -> None:
    assert parse_config("base") is CONFIGS["base"]
    changed = parse_config("base,bus_width=256,right_hand_sides=2")
    assert changed == replace(CONFIGS["base"], name="base,bus_width=256,right_hand_sides=2", bus_width=256, right_hand_sides=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("huge", "unknown configuration 'huge': choose one of tiny, base, large, wide, arty, kv260, u280-hbm"),
        ("", "unknown configuration '': choose one of tiny, base, large, wide, arty, kv260, u280-hbm"),
        (
            "base,lanes=2",
            "unknown field 'lanes' of a configuration: choose from address_width,"
            " buffer_entries, burst_beats, bus_width, channels, read_fifo_beats, right_hand_sides, vector_blocks, vector_width",
        ),
        ("base,bus_width=wide", "bus_width must be a whole number, not 'wide'"),
        ("base,bus_width", "bus_width must be a whole number, not ''"),
        ("base,bus_width=256,bus_width=512", "bus_width is given twice in configuration 'base,bus_width=256,bus_width=512'"),
        ("base,bus_width=100", "bus_width must be one of (128, 256, 512), not 100"),
    ],
)
def test_parse_refuses(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        parse_config(text)
