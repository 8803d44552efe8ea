import math
from pathlib import Path

import numpy as np
import torch

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.models import train
from tailrace.models.fetch import SMALL, resolve_model
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from tailrace.text.tokenizer import Tokenizer

#: Not from the plays: lines in their manner.
TEXT = "KING HENRY.\nWhat says my lord of this most heavy news?\nGo to, good sir, and bring the duke to me."


def mean_surprise(path: Path, tokens: list[int]) -> float:
    """Mean of -log of the probability that the model gives the next token, on the golden device."""
    with Device(open_device("golden", parse_config("tiny"), 1 << 23)) as device:
        decoder = Decoder(device, import_model(open_model(path), len(tokens)))
        total = 0.0
        for token, following in zip(tokens, tokens[1:], strict=False):
            logits = np.asarray(decoder.step(token), dtype=np.float64).ravel()
            total += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[following]
    return total / (len(tokens) - 1)


def test_the_small_model_has_learned_to_write_plays():
    path = resolve_model("shakespeare")
    assert path == SMALL
    tokens = Tokenizer(open_model(path)).encode(TEXT)
    assert mean_surprise(path, tokens) < 0.6 * math.log(train.VOCABULARY)


def test_a_model_is_trained_and_written(tmp_path):
    tokenizer = train.train_tokenizer([TEXT * 40])
    tokens = np.array(tokenizer.encode(TEXT * 40).ids)
    model = train.train(np.tile(tokens, 40), steps=1, seed=1)
    train.write(model, tokenizer, tmp_path / "model.gguf")
    opened = open_model(tmp_path / "model.gguf")
    assert Tokenizer(opened).encode(TEXT) == tokenizer.encode(TEXT).ids
    few = Tokenizer(opened).encode(TEXT)[:12]
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([few]), labels=torch.tensor([few])).loss.item()
    # Weights are rounded to 8 bits on the way, and so are keys and values.
    assert abs(mean_surprise(tmp_path / "model.gguf", few) - expected) < 0.01
