"""Compares decode steps of a small model with the golden model's, bit for bit."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tailrace.golden.device import GoldenDevice
from tailrace.spec.errors import DeviceTimeout

from ..device.decoder import Decoder
from ..device.driver import Device
from ..gguf.describe import import_model
from ..gguf.file import open_model
from ..models.random_model import CONTEXT, VOCABULARY, write_random_model
from .examination import Examination, Fault, NothingToDo
from .identity import config_of

#: Tokens of the prompt, tokens that are taken one by one, and that the device chooses with one doorbell.
_PROMPT, _STEPS, _CHOSEN = 3, 4, 4
_MEMORY = 1 << 20


def check_decode(examination: Examination) -> str:
    """Decode with a small random llama and compare logits and tokens with golden."""
    link, seed = examination.link, examination.seed
    if link.memory_size < _MEMORY:
        raise NothingToDo(
            f"the model of this check takes up to {_MEMORY} bytes of memory, and the device has {link.memory_size}"
        )
    with TemporaryDirectory(prefix="tailrace-") as folder, examination.driver.temporary():
        path = Path(folder, "random.gguf")
        write_random_model(path)
        imported = import_model(open_model(path), CONTEXT)
        config = config_of(examination, examination.driver.geometry)
        devices = [examination.driver, Device(GoldenDevice(config, _MEMORY))]
        examination.progress("loading a small model", 0.0)
        decoders = [Decoder(d, imported, tokens_per_doorbell=_CHOSEN) for d in devices]
        prompt = [int(t) for t in np.random.default_rng([seed, 3]).integers(0, VOCABULARY, _PROMPT)]
        for decoder in decoders:
            decoder.prefill(prompt[:-1])
        token = prompt[-1]
        for step in range(_STEPS):
            examination.progress("decoding", step / (_STEPS + 1))
            try:
                found, expected = (decoder.step(token) for decoder in decoders)
            except DeviceTimeout as error:
                raise Fault(
                    f"token {step} of a small llama: {error}", "products work, so look at the vector unit's timing"
                ) from None
            if found.tobytes() != expected.tobytes():
                wrong = int((found.view(np.uint32) != expected.view(np.uint32)).sum())
                raise Fault(
                    f"the logits of token {step} differ from golden in {wrong} of {VOCABULARY} places (seed {seed})",
                    "products are right, so look at what only a decode step uses: the vector unit, and the KV cache's writes to"
                    " memory; check the design's timing report and lower the clock; if it stays, report the seed",
                )
            token = int(expected.argmax())
        chosen = [decoder.run(token, _CHOSEN) for decoder in decoders]
        if chosen[0] != chosen[1]:
            raise Fault(
                f"with one doorbell for {_CHOSEN} tokens the device chooses {chosen[0]}, and golden {chosen[1]}",
                "single steps are right, so look at loops and registers of the control part; report the seed",
            )
    return f"{_STEPS} tokens and {_CHOSEN} more with one doorbell, equal to golden"
