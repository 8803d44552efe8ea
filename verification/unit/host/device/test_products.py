"""Products on the golden device: results, limits and what is refused."""

import hashlib
import re

import numpy as np
import pytest

from tailrace.device.driver import Device
from tailrace.device.products import multiply_all, upload, workspace_bytes
from tailrace.spec.errors import LimitError, ModelError, TailraceError
from tailrace.spec.formats import BY_NAME, WEIGHT_FORMATS, Format
from tailrace.spec.numerics import dequantise, quantise
from tailrace.spec.registers import offset
from verification.unit.host.device.matrices import Q8_0, SEED, Faulty, matrix_on, open_golden, tensor


@pytest.mark.parametrize("fmt", WEIGHT_FORMATS, ids=[f.name for f in WEIGHT_FORMATS])
@pytest.mark.parametrize("config", ["tiny", "base,bus_width=256,right_hand_sides=2", "wide"])
def test_products_and_read_back(fmt: Format, config: str) -> None:
    source = tensor(fmt, 37, 5)
    x = np.random.default_rng(SEED).standard_normal((7, source.columns)).astype(np.float32)
    with open_golden(config) as device:
        matrix = upload(device, "m", fmt, source.data)
        assert np.array_equal(matrix.download(), source.data)
        y = matrix.multiply(x)
    exact = np.stack([dequantise(*quantise(row)) for row in x]) @ source.dequantised().astype(np.float64).T
    # Dequantised weights are rounded to float32, the device's are not.
    np.testing.assert_allclose(y, exact, rtol=1e-6, atol=1e-6 * np.abs(exact).max(), err_msg=f"seed {SEED}")


def test_every_build_gives_the_same_bits() -> None:
    x = np.random.default_rng(SEED).standard_normal((5, 96)).astype(np.float32)
    results = []
    for config in ("tiny", "base,bus_width=256", "wide", "tiny,right_hand_sides=4"):
        with open_golden(config) as device:
            results.append(matrix_on(device).multiply(x).tobytes())
    assert len(set(results)) == 1


def test_several_products_share_a_doorbell() -> None:
    x = np.ones((1, 96), dtype=np.float32)
    with open_golden() as device:
        matrices = [matrix_on(device, fmt, rows) for fmt, rows in zip(WEIGHT_FORMATS[:4], (3, 70, 1, 20), strict=True)]
        together = multiply_all(matrices, x)
        assert device.counters.runs == 1
        assert device.counters["COMMANDS"] == 1 + 2 * len(matrices)
        assert device.counters.weight_bytes == sum(m.weight_bytes for m in matrices)
        for matrix, result in zip(matrices, together, strict=True):
            assert np.array_equal(result, matrix.multiply(x))


def test_vectors_share_passes_over_the_weights() -> None:
    x = np.ones((6, 96), dtype=np.float32)
    with open_golden("tiny,right_hand_sides=4") as device:
        matrix = matrix_on(device)
        matrix.multiply(x)
        assert device.counters.weight_bytes == 2 * matrix.weight_bytes


def test_small_memory_takes_more_runs_and_gives_the_same() -> None:
    x = np.random.default_rng(SEED).standard_normal((20, 96)).astype(np.float32)
    with open_golden() as device:
        expected = matrix_on(device, rows=300).multiply(x)
    with open_golden() as probe:
        matrix = matrix_on(probe, rows=300)
        size = matrix.stream_bytes + 3 * workspace_bytes(probe.geometry, [300], 96, 1)
    with open_golden(memory=size) as device:
        assert np.array_equal(matrix_on(device, rows=300).multiply(x), expected)
        assert device.counters.runs == 7


def test_memory_that_is_full() -> None:
    fmt = Q8_0
    with open_golden(memory=4096) as device:
        text = (
            "m needs 5440 bytes of device memory, but only 4096 of 4096 are free:"
            " use a device with more memory or a smaller model"
        )
        with pytest.raises(LimitError, match=f"^{re.escape(text)}$"):
            matrix_on(device, fmt, rows=160, per_row=1)
        matrix = matrix_on(device, fmt, rows=120, per_row=1)
        with pytest.raises(
            LimitError, match="^m: commands, vectors and results need 896 bytes of device memory, but only 0 of 4096"
        ):
            with device.reserve(device.free_memory, "the rest"):
                pass
            matrix.multiply(np.ones((1, 32), dtype=np.float32))


def test_limits_of_the_build() -> None:
    with open_golden("tiny,vector_blocks=64") as device:
        text = (
            "m: its rows have 2080 elements, and this device takes at most 2048:"
            " use a configuration with vector_blocks of at least 128"
        )
        with pytest.raises(LimitError, match=f"^{re.escape(text)}$"):
            matrix_on(device, per_row=65)
    transport = Faulty()
    transport.replaced[offset("FORMATS")] = 0b0010
    with pytest.raises(ModelError, match="^m: this device does not read Q8_0: it reads Q4_0$"):
        matrix_on(Device(transport))


@pytest.mark.parametrize(
    ("config", "parts"), [("tiny,buffer_entries=1024", 6), ("tiny,buffer_entries=1024,right_hand_sides=4", 12)]
)
def test_a_matrix_in_parts(config: str, parts: int) -> None:
    """More rows than the activation buffer has entries: parts with streams of their own, and the same bits."""
    source = tensor(Q8_0, 1500, 2)
    x = np.random.default_rng(SEED).standard_normal((6, 64)).astype(np.float32)
    with open_golden("wide") as device:
        whole = upload(device, "m", Q8_0, source.data)
        expected = whole.multiply(x)
    with open_golden(config) as device:
        matrix = upload(device, "m", Q8_0, source.data)
        assert len(matrix.place.parts) == parts
        assert np.array_equal(matrix.download(), source.data)
        assert np.array_equal(matrix.multiply(x), expected)
        one, other = multiply_all([matrix, matrix_on(device, rows=5, per_row=2)], x)
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
            upload(device, "m", fmt, raw)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_activations_that_are_not_finite(value: float) -> None:
    x = np.ones((3, 96), dtype=np.float32)
    x[1, 40] = value
    with open_golden() as device:
        text = (
            f"the input of m is not finite (vector 1, element 40 is {value}):"
            " the device has no infinities and NaNs. Check the model's weights, or its prompt."
        )
        matrix = matrix_on(device)
        with pytest.raises(TailraceError, match=f"^{re.escape(text)}$"):
            matrix.multiply(x)
        assert np.isfinite(matrix.multiply(np.ones((1, 96), dtype=np.float32))).all()


def test_shapes_that_do_not_fit() -> None:
    with open_golden() as device:
        with pytest.raises(ValueError, match=r"^vectors of shape \(1, 64\) do not fit m 9 x 96$"):
            matrix_on(device).multiply(np.ones((1, 64), dtype=np.float32))


def test_digest_of_results() -> None:
    x = np.ones((2, 96), dtype=np.float32)
    with open_golden() as device:
        matrix = matrix_on(device, BY_NAME["Q4_0"])
        device.results_digest = hashlib.sha256()
        results = matrix.multiply(x)
        assert device.results_digest.digest() == hashlib.sha256(results.tobytes()).digest()


def test_the_digest_does_not_depend_on_the_build() -> None:
    x = np.random.default_rng(SEED).standard_normal((5, 96)).astype(np.float32)
    digests = set()
    for config in ("tiny", "tiny,right_hand_sides=2", "wide"):
        with open_golden(config) as device:
            matrices = [matrix_on(device), matrix_on(device, rows=3)]
            device.results_digest = hashlib.sha256()
            multiply_all(matrices, x)
            digests.add(device.results_digest.hexdigest())
    assert len(digests) == 1
