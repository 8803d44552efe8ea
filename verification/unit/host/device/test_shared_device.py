"""Decoders on a device that others use as well: a run that was interrupted, another thread, another decoder."""

import sys
import threading
from typing import Any

import numpy as np
import pytest

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import ImportedModel, import_model
from tailrace.gguf.file import open_model
from tailrace.models.random_model import CONTEXT, HEAD_SIZE, KV_HEADS, LAYERS, write_random_model
from tailrace.spec.errors import LimitError
from verification.unit.host.device.matrices import MIB, Late, open_golden


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> ImportedModel:
    path = tmp_path_factory.mktemp("models") / "random.gguf"
    write_random_model(path)
    return import_model(open_model(path), CONTEXT)


def interrupt(transport: Late, decoder: Decoder, token: int) -> None:
    transport.wait_error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        decoder.step(token)
    assert transport.busy


def hand_over(decoder: Decoder, rng: np.random.Generator, tokens: int) -> None:
    """Another conversation, computed elsewhere."""
    decoder.reset()
    for layer in range(LAYERS):
        keys, values = rng.standard_normal((2, KV_HEADS, tokens, HEAD_SIZE)).astype(np.float32)
        decoder.load_cache(layer, 0, 0, keys, values)
    decoder.positions = [tokens]


def test_a_cache_that_is_handed_over_after_an_interruption(imported: ImportedModel, seed: int) -> None:
    logits = []
    for stop in (False, True):
        transport = Late()
        decoder = Decoder(Device(transport), imported)
        decoder.prefill([1, 2, 3])
        if stop:
            interrupt(transport, decoder, 4)
        # The interrupted token is the fourth, which lies within what is handed over.
        hand_over(decoder, np.random.default_rng(seed), 8)
        logits.append(decoder.step(7).tobytes())
    assert logits[0] == logits[1]


@pytest.mark.parametrize("whole", [False, True], ids=["rows of embeddings are written", "all embeddings are there"])
def test_a_step_after_an_interruption(imported: ImportedModel, whole: bool) -> None:
    def decoded(stop: bool) -> list[Any]:
        transport = Late()
        decoder = Decoder(Device(transport), imported, tokens_per_doorbell=4 if whole else 1)
        decoder.prefill([1, 2, 3])
        if stop:
            interrupt(transport, decoder, 4)
        found: list[Any] = [decoder.step(5).tobytes()]
        if stop:
            interrupt(transport, decoder, 9)
        return [*found, decoder.run(6, 3 if whole else 1), decoder.step(8).tobytes()]

    assert decoded(True) == decoded(False)


def test_a_model_that_is_loaded_onto_a_busy_device(imported: ImportedModel) -> None:
    """What a second program does to hardware whose first program was killed."""
    transport = Late()
    interrupt(transport, Decoder(Device(transport), imported), 4)
    again = Decoder(Device(transport), imported, tokens_per_doorbell=2)
    fresh = Decoder(open_golden(), imported, tokens_per_doorbell=2)
    places = [(piece.address, piece.size) for piece in again.image.pieces]
    assert [again.device.read(*place) for place in places] == [fresh.device.read(*place) for place in places]
    assert again.step(5).tobytes() == fresh.step(5).tobytes()


def test_a_model_whose_loading_was_interrupted_takes_no_memory(imported: ImportedModel) -> None:
    def stop(what: str, done: float) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    with open_golden() as device:
        before = device.free_memory
        with pytest.raises(KeyboardInterrupt):
            Decoder(device, imported, on_progress=stop)
        assert device.free_memory == before
        with pytest.raises(LimitError):
            while True:
                Decoder(device, imported)


def test_decoders_in_threads(imported: ImportedModel) -> None:
    """They are made, and take their steps, at the same time."""
    reference = Decoder(open_golden(), imported)
    expected = [reference.step(token).tobytes() for token in range(1, 9)]
    found: dict[int, list[bytes]] = {}
    interval = sys.getswitchinterval()
    try:
        sys.setswitchinterval(1e-5)
        with open_golden(memory=4 * MIB) as device:

            def work(n: int) -> None:
                decoder = Decoder(device, imported)
                found[n] = [decoder.step(token).tobytes() for token in range(1, 9)]

            threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert found == dict.fromkeys(range(3), expected)
