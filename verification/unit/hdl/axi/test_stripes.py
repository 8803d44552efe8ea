import pytest

from verification.unit.hdl.axi.stripes import channel_of, place_of


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("bus_bytes", [16, 32])
def test_every_byte_lies_in_one_place(channels: int, bus_bytes: int) -> None:
    places = [channel_of(address, bus_bytes, channels) for address in range(1024)]
    assert sorted(places) == [(n, address) for n in range(channels) for address in range(1024 // channels)]
    assert [place_of(*place, bus_bytes, channels) for place in places] == list(range(1024))


def test_four_ports_of_16_bytes() -> None:
    """A beat of 64 bytes lies at one address in all four."""
    assert [channel_of(address, 16, 4) for address in (0, 15, 16, 63, 64, 200)] == [
        (0, 0), (0, 15), (1, 0), (3, 15), (0, 16), (0, 56),
    ]  # fmt: skip
