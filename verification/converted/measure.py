"""One random model, of llama.cpp's own converter: how far the device, llama.cpp and transformers are from each other."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tailrace.gguf.file import open_model
from verification.architectures import POSITIONS, open_decoder
from verification.llama_cpp_logits import in_llama_cpp
from verification.unit.host.references import decode, divergence, reference_logits
from verification.unit.host.transformers_models import gguf_name

from .checkpoints import save
from .converter import convert

#: Whose rows of q and k the converter puts in pairs although nothing is rotated, so that blocks of keys are others.
_IN_PAIRS = ("nemotron_h", "nemotron_h_moe")


def measured(architecture: str, seed: int, converter: Path, kind: str) -> tuple[Any, Any, Any, Any]:
    """Divergence at each position.

    Of the device from llama.cpp, from transformers, and from transformers with the device's 8-bit keys and values, which the
    experts that it chooses follow from (None where these lie in another order); then of llama.cpp from transformers.

    Raises
    ------
    CalledProcessError
        If the converter does not take the checkpoint.
    ValueError
        If it makes a file of another architecture of it.
    """
    with TemporaryDirectory() as work:
        folder = Path(work)
        model, path = save(folder, architecture, seed), folder / "converted.gguf"
        convert(converter, architecture, folder / "checkpoint", path, kind)
        if (name := open_model(path).architecture.name) != gguf_name(architecture):
            raise ValueError(f"the converter makes a file of {name} of it")
        tokens = [int(t) for t in np.random.default_rng(seed).integers(0, model.config.get_text_config().vocab_size, POSITIONS)]
        theirs = in_llama_cpp(path, tokens)
        decoder = open_decoder(path, "base,right_hand_sides=4", POSITIONS, "emulator")
        ours, held = decode(decoder, tokens)
        decoder.device.close()
    reference = reference_logits(model, tokens)
    same_codes = None if architecture in _IN_PAIRS else divergence(reference_logits(model, tokens, held), ours)
    return divergence(theirs, ours), divergence(reference, ours), same_codes, divergence(reference, theirs)
