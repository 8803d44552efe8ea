"""Which bytes of device memory are a channel's, against the decision's own words."""

import numpy as np
import pytest

from tailrace.spec.stripes import bytes_before
from verification.unit.hdl.axi.stripes import channel_of


@pytest.mark.parametrize(("channels", "port_bytes"), [(1, 16), (2, 16), (4, 16), (2, 64), (32, 32)])
def test_a_channel_s_bytes_before_an_address(channels: int, port_bytes: int) -> None:
    end = 3 * channels * port_bytes + 5
    counts = np.zeros(channels, int)
    for address in range(end):
        assert [bytes_before(address, channel, channels, port_bytes) for channel in range(channels)] == counts.tolist()
        channel, there = channel_of(address, port_bytes, channels)
        assert there == counts[channel]
        counts[channel] += 1
