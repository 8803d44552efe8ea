"""The driver over the gateware: after a time-out, an interruption or an error the next product is right."""

import numpy as np
import pytest

from tailrace.device.driver import Device
from tailrace.device.products import upload
from tailrace.golden.device import GoldenDevice
from tailrace.sim.devices import open_device
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import DeviceError, DeviceTimeout, ErrorCode
from tailrace.spec.formats import BY_NAME

pytest.importorskip("amaranth")
pytest.importorskip("pyosys")

SEED = 60
ROWS, BLOCKS = 250, 6


@pytest.fixture(scope="module")
def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A matrix, vectors, and golden's results."""
    random = np.random.default_rng(SEED)
    raw = random.integers(0, 256, (ROWS, BLOCKS, 22), dtype=np.uint8)
    raw[..., 1] = 0x2C
    x = random.standard_normal((3, BLOCKS * 32)).astype(np.float32)
    with Device(GoldenDevice(CONFIGS["base"], 1 << 20)) as device:
        return raw.reshape(ROWS, -1), x, upload(device, "m", BY_NAME["Q5_0"], raw.reshape(ROWS, -1)).multiply(x)


def test_products_counters_and_recovery(problem: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    raw, x, expected = problem
    gateware = open_device("verilator", CONFIGS["base"], 1 << 20)
    with Device(gateware, timeout=1.0) as device:
        matrix = upload(device, "m", BY_NAME["Q5_0"], raw)
        assert np.array_equal(matrix.download(), raw)
        assert np.array_equal(matrix.multiply(x), expected), f"seed {SEED}"
        counters = device.counters
        stalls = sum(v for n, v in counters.values.items() if n.startswith("STALL_"))
        assert counters.cycles == counters.read_beats + stalls
        assert counters.weight_bytes == 3 * raw.size

        device.run([], 0)  # an empty queue is done at once
        gateware.freeze()
        with pytest.raises(DeviceTimeout):
            matrix.multiply(x)
        gateware.freeze(False)
        assert np.array_equal(matrix.multiply(x), expected)

        (part,) = matrix.place.parts
        gateware.inject_fault(part.address + 64 * 20, 16, reads=True)
        with pytest.raises(DeviceError) as caught:
            matrix.multiply(x)
        assert (caught.value.code, caught.value.command) == (ErrorCode.READ_ERROR, 1)
        assert part.address <= caught.value.address < part.address + matrix.stream_bytes
        gateware.clear_faults()
        assert np.array_equal(matrix.multiply(x), expected)


def test_interruption(problem: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """The interrupted run would store its results over the vectors of the next one, and read what is uploaded next."""
    raw, x, expected = problem
    fewer = raw[:40]
    gateware = open_device("verilator", CONFIGS["base"], 1 << 20)
    with Device(gateware) as device:
        matrix = upload(device, "m", BY_NAME["Q5_0"], raw)
        other = upload(device, "other", BY_NAME["Q5_0"], fewer)

        def interrupt() -> None:
            def interrupted(timeout: float) -> None:
                gateware.run(500)  # in the middle of the run
                raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(gateware, "wait", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    matrix.multiply(x)

        interrupt()
        many = np.concatenate([x] * 6)
        assert np.array_equal(other.multiply(many), np.concatenate([expected[:, :40]] * 6))
        interrupt()
        again = upload(device, "again", BY_NAME["Q5_0"], raw)
        assert np.array_equal(again.download(), raw)
        assert np.array_equal(matrix.multiply(x), expected)
        interrupt()
        with Device(gateware) as anew:
            assert np.array_equal(upload(anew, "m", BY_NAME["Q5_0"], raw).multiply(x), expected)
