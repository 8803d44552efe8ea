"""The same decoder on golden and on the gateware, which must do the same."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import ImportedModel
from tailrace.image.programs import Kind
from tailrace.sim.devices import open_device
from tailrace.sim.verilated import VerilatedDevice
from tailrace.spec.config import parse_config

#: Bytes of memory that are compared at a time.
_PART = 1 << 24


class Twins:
    """Golden and the simulated gateware, with the same model in their memories.

    Parameters
    ----------
    imported : ImportedModel
    config : str
    memory : int
        Bytes of each device.
    gateware : dict or None
        Options of the simulated gateware, such as stalls.
    device : callable
        Opens the simulated gateware.
    **options
        Of the decoders.

    Attributes
    ----------
    doorbells : list of int
        Those of golden and of the gateware.
    """

    def __init__(
        self,
        imported: ImportedModel,
        config: str,
        memory: int,
        *,
        gateware: dict[str, Any] | None = None,
        device: Callable[..., VerilatedDevice] = VerilatedDevice,
        **options: Any,
    ) -> None:
        self.doorbells = [0, 0]
        build = parse_config(config)
        devices = open_device("golden", build, memory), device(build, memory, **(gateware or {}))
        self.decoders = [
            Decoder(Device(opened), imported, on_step=self._counter(n), **options) for n, opened in enumerate(devices)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for decoder in self.decoders:
            decoder.device.close()

    def _counter(self, n: int) -> Any:
        def count(counters: Any) -> None:
            self.doorbells[n] += 1

        return count

    def prefill(self, tokens: Sequence[int]) -> None:
        """Take a prompt."""
        for decoder in self.decoders:
            decoder.prefill(tokens)

    def step(self, token: int) -> NDArray[np.float32]:
        """Take a token; both must give the same bits."""
        golden, gateware = (decoder.step(token) for decoder in self.decoders)
        assert np.array_equal(golden.view(np.uint32), gateware.view(np.uint32)), (
            f"token {self.decoders[0].positions}: logits differ"
        )
        return golden

    def take(self, tokens: Sequence[int], kind: Kind, right: int) -> Any:
        """Take tokens in one pass, and keep the first of them; both must give the same results."""
        found = []
        for decoder in self.decoders:
            before = decoder.positions[0]
            found.append(np.asarray(decoder.take([tokens], kind)[0]))
            decoder.truncate(before + right)
        assert found[0].tobytes() == found[1].tobytes(), f"{kind} of {tokens} at {self.decoders[0].positions}"
        return found[0]

    def draft(self, token: int, position: int) -> NDArray[np.float32]:
        """Have the model's layer draft what comes after a token; both must give the same bits."""
        golden, gateware = (decoder.draft([(token, position)])[0] for decoder in self.decoders)
        assert golden is not None
        assert gateware is not None
        assert golden.tobytes() == gateware.tobytes(), f"draft behind token {token} at {position}"
        return golden

    def run(self, token: int, count: int) -> list[int]:
        """Take a token and go on; both must choose the same tokens."""
        golden, gateware = (decoder.run(token, count) for decoder in self.decoders)
        assert golden == gateware
        return golden  # type: ignore[return-value]

    def check_memory(self) -> None:
        """Compare every byte of the two memories: weights, KV caches, logits, tokens, programs and what nothing has written."""
        golden, gateware = (decoder.device.transport for decoder in self.decoders)
        for address in range(0, golden.memory_size, _PART):
            size = min(_PART, golden.memory_size - address)
            a, b = (np.frombuffer(device.read(address, size), dtype=np.uint8) for device in (golden, gateware))
            differ = np.flatnonzero(a != b)
            assert not differ.size, f"{differ.size} bytes differ, the first at {address + int(differ[0]):#x}"
