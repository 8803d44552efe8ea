"""Random weights in the shape of a published model: ``python -m tailrace.models.random_weights Llama-2-7B -o FILE``.

What it writes means nothing, and takes the time, the memory and the bytes of the real one. Rows come again and again, so
that it is written as fast as the disk takes it.
"""

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from ..gguf.quantisation import quantise
from ..gguf.types import TENSOR_TYPE_NUMBERS
from ..gguf.writer import NewTensor, write_gguf
from .published import PUBLISHED
from .shapes import Shape, header_of, tensors_of

#: Rows that are random; then they come again.
_ROWS = 64
_SEED = 1


def write_random_weights(path: Path, shape: Shape) -> Path:
    """Write a GGUF file of a shape with random weights, and a vocabulary of bytes."""
    values = {**header_of(shape, shape.layers), **_tokenizer(shape.vocabulary)}
    return write_gguf(path, shape.architecture, values, _filled(shape))


def _filled(shape: Shape) -> Iterator[NewTensor]:
    random = np.random.default_rng(_SEED)
    pieces: dict[tuple[str, int], NDArray[np.uint8]] = {}
    for tensor in tensors_of(shape, shape.layers):
        if tensor.data is not None:
            yield tensor
            continue
        columns = tensor.shape[-1]
        if tensor.type_name == "F32":
            spread = 0.1 if len(tensor.shape) == 1 else columns**-0.5
            numbers = random.standard_normal(tensor.shape, dtype=np.float32) * np.float32(spread)
            yield replace(tensor, data=numbers + np.float32(tensor.name.endswith("norm.weight")))
            continue
        key = tensor.type_name, columns
        if key not in pieces:
            numbers = random.standard_normal((_ROWS, columns), dtype=np.float32) * np.float32(columns**-0.5)
            pieces[key] = quantise(numbers, TENSOR_TYPE_NUMBERS[tensor.type_name])
        yield replace(tensor, data=_repeated(pieces[key], prod(tensor.shape[:-1])))


def _repeated(piece: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    """The rows of the piece, over and over; they take memory only when they are written, if they come out even."""
    if rows % len(piece):
        return np.resize(piece, (rows, piece.shape[1]))
    return np.broadcast_to(piece, (rows // len(piece), *piece.shape))


def _tokenizer(vocabulary: int) -> dict[str, Any]:
    # GPT-2 writes bytes as printable letters: these are themselves, the others follow from 256 on.
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in own] + [chr(256 + n) for n in range(256 - len(own))]
    tokens = ["<s>", "</s>", *letters, "ab"]
    tokens += [f"<unused{n}>" for n in range(vocabulary - len(tokens))]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if len(t) > 2 else 1 for t in tokens],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }


@click.command()
@click.argument("name", metavar="SHAPE", type=click.Choice([shape.name for shape in PUBLISHED]))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="GGUF file to write.")
def main(name: str, output: Path) -> None:
    """Write random weights in the shape of a published model."""
    shape = next(shape for shape in PUBLISHED if shape.name == name)
    click.echo(f"{write_random_weights(output, shape)}: {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
