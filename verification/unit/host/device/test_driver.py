"""The driver over the golden device: products, limits, errors and what comes after them."""

import hashlib
import re
from typing import Any

import numpy as np
import pytest

from tailrace.device.driver import Device, Matrix, workspace_bytes
from tailrace.gguf.file import Tensor
from tailrace.golden.device import GoldenDevice
from tailrace.image.blocks import BlockFields
from tailrace.spec.commands import encode
from tailrace.spec.config import CONFIGS, Config, parse_config
from tailrace.spec.errors import DeviceError, DeviceTimeout, ErrorCode, LimitError, ModelError, TailraceError
from tailrace.spec.formats import BY_NAME, WEIGHT_FORMATS, Format, ScaleKind
from tailrace.spec.isa import ADDRESS_UNIT, Opcode
from tailrace.spec.numerics import dequantise, quantise
from tailrace.spec.registers import offset

SEED = 40
MIB = 1 << 20
Q8_0 = BY_NAME["Q8_0"]


class Faulty(GoldenDevice):
    """A golden device whose registers and waiting can be made to misbehave."""

    def __init__(self, config: Config = CONFIGS["tiny"], memory_size: int = MIB) -> None:
        super().__init__(config, memory_size)
        self.replaced: dict[int, int] = {}
        self.wait_error: BaseException | None = None

    def read_register(self, offset: int) -> int:
        return self.replaced.get(offset, super().read_register(offset))

    def wait(self, timeout: float) -> None:
        if self.wait_error is not None:
            error, self.wait_error = self.wait_error, None
            raise error
        super().wait(timeout)


def tensor(fmt: Format, rows: int, per_row: int) -> Tensor:
    """A matrix with `per_row` blocks of the file in a row: any codes, scales of a sensible size."""
    random = np.random.default_rng((SEED, fmt.number, rows, per_row))
    raw = random.integers(0, 256, (rows, per_row, fmt.file_bytes), dtype=np.uint8)
    scales = raw[..., BlockFields.of(fmt).scale]
    if fmt.scale_kind is ScaleKind.EXPONENT:
        scales[...] = random.integers(100, 120, scales.shape)
    else:
        for byte in range(1, 2 + 2 * fmt.has_minimum, 2):
            scales[..., byte] = random.integers(0x20, 0x30, (rows, per_row))
    return Tensor("m", fmt.name, fmt.ggml_type, (rows, per_row * fmt.file_elements), raw.reshape(rows, -1))


def open_golden(config: str = "tiny", memory: int = MIB, **options: Any) -> Device:
    return Device(GoldenDevice(parse_config(config), memory), **options)


def upload(device: Device, fmt: Format = Q8_0, rows: int = 9, per_row: int = 3) -> Matrix:
    return device.upload("m", fmt, tensor(fmt, rows, per_row).data)


@pytest.mark.parametrize("fmt", WEIGHT_FORMATS, ids=[f.name for f in WEIGHT_FORMATS])
@pytest.mark.parametrize("config", ["tiny", "base,bus_width=256,right_hand_sides=2", "wide"])
def test_products_and_read_back(fmt: Format, config: str) -> None:
    source = tensor(fmt, 37, 5)
    x = np.random.default_rng(SEED).standard_normal((7, source.columns)).astype(np.float32)
    with open_golden(config) as device:
        matrix = device.upload("m", fmt, source.data)
        assert np.array_equal(device.download(matrix), source.data)
        y = device.multiply(matrix, x)
    exact = np.stack([dequantise(*quantise(row)) for row in x]) @ source.dequantised().astype(np.float64).T
    # Dequantised weights are rounded to float32, the device's are not.
    np.testing.assert_allclose(y, exact, rtol=1e-6, atol=1e-6 * np.abs(exact).max(), err_msg=f"seed {SEED}")


def test_every_build_gives_the_same_bits() -> None:
    x = np.random.default_rng(SEED).standard_normal((5, 96)).astype(np.float32)
    results = []
    for config in ("tiny", "base,bus_width=256", "wide", "tiny,right_hand_sides=4"):
        with open_golden(config) as device:
            results.append(device.multiply(upload(device), x).tobytes())
    assert len(set(results)) == 1


def test_several_products_share_a_doorbell() -> None:
    x = np.ones((1, 96), dtype=np.float32)
    with open_golden() as device:
        matrices = [upload(device, fmt, rows) for fmt, rows in zip(WEIGHT_FORMATS[:4], (3, 70, 1, 20), strict=True)]
        together = device.multiply_all(matrices, x)
        assert device.counters.runs == 1
        assert device.counters["COMMANDS"] == 1 + 2 * len(matrices)
        assert device.counters.weight_bytes == sum(m.weight_bytes for m in matrices)
        for matrix, result in zip(matrices, together, strict=True):
            assert np.array_equal(result, device.multiply(matrix, x))


def test_vectors_share_passes_over_the_weights() -> None:
    x = np.ones((6, 96), dtype=np.float32)
    with open_golden("tiny,right_hand_sides=4") as device:
        matrix = upload(device)
        device.multiply(matrix, x)
        assert device.counters.weight_bytes == 2 * matrix.weight_bytes


def test_small_memory_takes_more_runs_and_gives_the_same() -> None:
    x = np.random.default_rng(SEED).standard_normal((20, 96)).astype(np.float32)
    with open_golden() as device:
        expected = device.multiply(upload(device, rows=300), x)
    with open_golden() as probe:
        matrix = upload(probe, rows=300)
        size = matrix.stream_bytes + 3 * workspace_bytes(probe.geometry, [300], 96, 1)
    with open_golden(memory=size) as device:
        assert np.array_equal(device.multiply(upload(device, rows=300), x), expected)
        assert device.counters.runs == 7


def test_memory_that_is_full() -> None:
    fmt = Q8_0
    with open_golden(memory=4096) as device:
        text = (
            "m needs 5440 bytes of device memory, but only 4096 of 4096 are free:"
            " use a device with more memory or a smaller model"
        )
        with pytest.raises(LimitError, match=f"^{re.escape(text)}$"):
            upload(device, fmt, rows=160, per_row=1)
        matrix = upload(device, fmt, rows=120, per_row=1)
        with pytest.raises(
            LimitError, match="^m: commands, vectors and results need 896 bytes of device memory, but only 0 of 4096"
        ):
            device._memory.allocate(device.free_memory, "the rest")
            device.multiply(matrix, np.ones((1, 32), dtype=np.float32))


def test_limits_of_the_build() -> None:
    with open_golden("tiny,vector_blocks=64") as device:
        text = (
            "m: its rows have 2080 elements, and this device takes at most 2048:"
            " use a configuration with vector_blocks of at least 128"
        )
        with pytest.raises(LimitError, match=f"^{re.escape(text)}$"):
            upload(device, per_row=65)
    transport = Faulty()
    transport.replaced[offset("FORMATS")] = 0b0010
    with pytest.raises(ModelError, match="^m: this device does not read Q8_0: it reads Q4_0$"):
        upload(Device(transport))


@pytest.mark.parametrize(
    ("config", "parts"), [("tiny,buffer_entries=1024", 6), ("tiny,buffer_entries=1024,right_hand_sides=4", 12)]
)
def test_a_matrix_in_parts(config: str, parts: int) -> None:
    """More rows than the activation buffer has entries: parts with streams of their own, and the same bits."""
    source = tensor(Q8_0, 1500, 2)
    x = np.random.default_rng(SEED).standard_normal((6, 64)).astype(np.float32)
    with open_golden("wide") as device:
        whole = device.upload("m", Q8_0, source.data)
        expected = device.multiply(whole, x)
    with open_golden(config) as device:
        matrix = device.upload("m", Q8_0, source.data)
        assert len(matrix.place.parts) == parts
        assert np.array_equal(device.download(matrix), source.data)
        assert np.array_equal(device.multiply(matrix, x), expected)
        one, other = device.multiply_all([matrix, upload(device, rows=5, per_row=2)], x)
        assert np.array_equal(one, expected)
        assert other.shape == (6, 5)


def test_exponents_that_no_stream_holds() -> None:
    fmt = BY_NAME["MXFP4"]
    raw = np.full((2, 17), 0x11, dtype=np.uint8)
    raw[:, 0] = 60, 120
    with open_golden() as device:
        with pytest.raises(
            ModelError, match="^m: the exponents of its MXFP4 blocks run from -68 to -8, and the device takes 31 "
        ):
            device.upload("m", fmt, raw)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_activations_that_are_not_finite(value: float) -> None:
    x = np.ones((3, 96), dtype=np.float32)
    x[1, 40] = value
    with open_golden() as device:
        text = (
            f"the input of m is not finite (vector 1, element 40 is {value}):"
            " the device has no infinities and NaNs. Check the model's weights, or its prompt."
        )
        matrix = upload(device)
        with pytest.raises(TailraceError, match=f"^{re.escape(text)}$"):
            device.multiply(matrix, x)
        assert np.isfinite(device.multiply(matrix, np.ones((1, 96), dtype=np.float32))).all()


def test_shapes_that_do_not_fit() -> None:
    with open_golden() as device:
        with pytest.raises(ValueError, match=r"^vectors of shape \(1, 64\) do not fit m 9 x 96$"):
            device.multiply(upload(device), np.ones((1, 64), dtype=np.float32))


def test_error_and_the_call_after_it() -> None:
    x = np.ones((1, 96), dtype=np.float32)
    with open_golden() as device:
        matrix = upload(device)
        expected = device.multiply(matrix, x)
        bad = [encode(Opcode.FENCE), encode(Opcode.LOAD_VECTOR, blocks=1 << 20)]
        with pytest.raises(DeviceError, match="^the device stopped at command 1 with OUT_OF_RANGE: ") as caught:
            device.run(bad, MIB // 2)
        assert (caught.value.code, caught.value.command) == (ErrorCode.OUT_OF_RANGE, 1)
        outside = [encode(Opcode.LOAD_VECTOR, source=(1 << 30) // ADDRESS_UNIT, blocks=1)]
        with pytest.raises(DeviceError, match="^the device stopped at command 0 with READ_ERROR at address 0x40000000: "):
            device.run(outside, MIB // 2)
        assert np.array_equal(device.multiply(matrix, x), expected)


def test_the_limit_that_the_golden_device_itself_checks_is_the_drivers() -> None:
    """What the driver refuses to upload, the device would refuse to run: both know the same limit."""
    with open_golden("tiny,vector_blocks=64") as device:
        with pytest.raises(DeviceError, match="OUT_OF_RANGE"):
            device.run([encode(Opcode.LOAD_VECTOR, source=0, blocks=65)], MIB // 2)


@pytest.mark.parametrize("error", [DeviceTimeout("no interrupt"), KeyboardInterrupt()])
def test_giving_up_leaves_the_device_usable(error: BaseException) -> None:
    x = np.ones((1, 96), dtype=np.float32)
    transport = Faulty()
    with Device(transport) as device:
        matrix = upload(device)
        expected = device.multiply(matrix, x)
        transport.wait_error = error
        with pytest.raises(type(error)):
            device.multiply(matrix, x)
        assert np.array_equal(device.multiply(matrix, x), expected)
    device.close()


def test_what_is_not_our_device() -> None:
    transport = Faulty()
    transport.replaced[offset("MAGIC")] = 0xDEADBEEF
    text = (
        "golden is not a Tailrace device: its MAGIC register reads 0xdeadbeef, not 0x43524c54."
        " Check the base address of its registers, its clock and its reset."
    )
    with pytest.raises(TailraceError, match=f"^{re.escape(text)}$"):
        Device(transport)
    transport.replaced = {offset("ISA_VERSION"): 1 << 16 | 5}
    text = (
        "golden has instruction set 1.5, and this driver speaks 2.x:"
        " rebuild the device, or install the release of tailrace that matches it."
    )
    with pytest.raises(TailraceError, match=f"^{re.escape(text)}$"):
        Device(transport)


def test_digest_of_results() -> None:
    x = np.ones((2, 96), dtype=np.float32)
    with open_golden() as device:
        matrix = upload(device, BY_NAME["Q4_0"])
        device.results_digest = hashlib.sha256()
        results = device.multiply(matrix, x)
        assert device.results_digest.digest() == hashlib.sha256(results.tobytes()).digest()


def test_the_digest_does_not_depend_on_the_build() -> None:
    x = np.random.default_rng(SEED).standard_normal((5, 96)).astype(np.float32)
    digests = set()
    for config in ("tiny", "tiny,right_hand_sides=2", "wide"):
        with open_golden(config) as device:
            matrices = [upload(device), upload(device, rows=3)]
            device.results_digest = hashlib.sha256()
            device.multiply_all(matrices, x)
            digests.add(device.results_digest.hexdigest())
    assert len(digests) == 1


def test_watchdog_is_set_when_asked() -> None:
    with open_golden(watchdog_cycles=1234) as device:
        assert device.transport.read_register(offset("WATCHDOG_CYCLES")) == 1234
