"""Files that are no model: each is told what it is."""

import json
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.gguf.file import open_model
from tailrace.gguf.writer import NewTensor, tensor_of, write_gguf
from tailrace.spec.errors import ModelError
from verification.unit.host.tiny_models import write_model

CONVERTER = "llama.cpp's convert_hf_to_gguf.py"


def refuses(path: Path, text: str) -> None:
    with pytest.raises(ModelError, match=f"^{re.escape(f'{path} {text}')}$"):
        open_model(path)


def test_no_file(tmp_path: Path) -> None:
    refuses(tmp_path / "none.gguf", "does not exist: give the path of a GGUF file, or 'smollm2' or 'shakespeare'")
    refuses(
        tmp_path,
        "is a folder without config.json: give the path of a GGUF file, or of a folder with all files of a Hugging Face model",
    )
    (tmp_path / "b\x1b.gguf").touch()
    refuses(tmp_path, r"is a folder: give the path of a GGUF file in it, such as b\x1b.gguf")
    refuses(Path("/dev/null"), "is not a file: give the path of a GGUF file")


SAFETENSORS = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2\nsize 4661211808\n"
PAGE = "is a web page, not a model: download the file itself (on huggingface.co its address has /resolve/, not /blob/), after logging in if the model asks for it"
OLD = f"is in llama.cpp's format from before GGUF: convert the model again from its source, with {CONVERTER}"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty: download it again"),
        (POINTER, "is a Git LFS pointer, not the model itself: fetch that (4,661,211,808 bytes) with `git lfs pull`, or download it"),
        (b"<!DOCTYPE html><html>", PAGE),
        (b"\n<html lang=en>", PAGE),
        (b"\xef\xbb\xbf<?xml version='1.0'?><Error>", PAGE),
        (struct.pack("<Q", len(SAFETENSORS)) + SAFETENSORS + bytes(4), "is a safetensors file: give the path of the folder that it came in, with config.json and tokenizer.json"),
        (b"PK\x03\x04 and so on", "is a ZIP archive: unpack it, and give the path of a GGUF file"),
        (b"\x80\x02}q\x00", f"is a Python pickle, such as an old PyTorch checkpoint: convert the folder that it came in with {CONVERTER}"),
        (b"\x1f\x8b\x08", "is compressed (gzip): unpack it, and give the path of a GGUF file"),
        (b"\x28\xb5\x2f\xfd", "is compressed (zstd): unpack it, and give the path of a GGUF file"),
        (b"name".ljust(257, b"\0") + b"ustar", "is a tar archive: unpack it, and give the path of a GGUF file"),
        (b"tjgg\x03\0\0\0", OLD),
        (b"lmgg", OLD),
        (b"algg\x01\0\0\0", "is a LoRA adapter of llama.cpp's old format, not a model: give the path of a model in GGUF"),
        (struct.pack("<II", 210, 19) + b"blk.0.attn_k.weight", "is an importance matrix, which only helps to quantise a model: give the path of the model itself"),
        (bytes(5000), "is a download that has not finished: wait for it, or download it again"),
        (b'{"error": "Invalid credentials"}', "is JSON, such as a configuration or a server's message, not a model: download the GGUF file itself"),
        (b"GG", f"is not a GGUF file: convert the model, for example with {CONVERTER}"),
        (b"FUGG\x03\0\0\0", f"is not a GGUF file: convert the model, for example with {CONVERTER}"),
        (b"GGUF", "is truncated: its header goes on after the end of the file. Download it again."),
        (b"GGUF\x03\0\0\0", "is truncated: its header goes on after the end of the file. Download it again."),
    ],
)  # fmt: skip
def test_other_files(content: bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    refuses(path, text)


def test_a_checkpoint_of_pytorch(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02")
    refuses(path, f"is a PyTorch checkpoint: convert the folder that it came in with {CONVERTER}")


@pytest.mark.parametrize(
    ("name", "all_of_them", "whole"),
    [
        ("m.gguf.part1of2", "m.gguf.part*", "m.gguf"),
        ("m.gguf.part2of2", "m.gguf.part*", "m.gguf"),
        ("m.Q6_K.gguf-split-b", "m.Q6_K.gguf-split-*", "m.Q6_K.gguf"),
        ("m.gguf.part_aa", "m.gguf.part_*", "m.gguf"),
        ("m-part1of3", "m-part*", "m.gguf"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_pieces_of_a_file(name: str, all_of_them: str, whole: str, first: bool, tmp_path: Path) -> None:
    data = write_model(tmp_path / "whole.gguf").read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) // 2] if first else data[len(data) // 2 :])
    refuses(
        path,
        "is one piece of a file that was cut up: join all pieces in their order, as in"
        f" `cat {all_of_them} > {whole}`, and give the path of the result",
    )


def test_downloads_that_have_not_finished(tmp_path: Path) -> None:
    data = write_model(tmp_path / "whole.gguf").read_bytes()
    for name, size in (("m.gguf.crdownload", 50000), ("m.gguf.incomplete", 10)):
        path = tmp_path / name
        path.write_bytes(data[:size])
        refuses(path, "is a download that has not finished: wait for it, or download it again")


LORA = "is a LoRA adapter, not a model, and can't be applied to one here: merge it into its model with llama.cpp's llama-export-lora, and give the path of the result"
PROJECTOR = "is a projector for images or sound (mmproj), which belongs to a model: give the path of the model itself"


@pytest.mark.parametrize(
    ("architecture", "values", "tensor", "text"),
    [
        ("llama", {"general.type": "adapter", "adapter.type": "lora"}, "blk.0.attn_q.weight.lora_a", LORA),
        ("llama", {}, "blk.0.attn_q.weight.lora_a", LORA),
        ("clip", {"general.type": "mmproj"}, "v.blk.0.attn_q.weight", PROJECTOR),
        ("clip", {"clip.has_vision_encoder": True}, "v.blk.0.attn_q.weight", PROJECTOR),
        ("controlvector", {"controlvector.model_hint": "llama"}, "direction.1", "is a control vector, which can't be applied here: give the path of a model"),
        (None, {"general.type": "imatrix", "imatrix.chunk_count": 5}, "blk.0.attn_q.weight.counts",
         "is an importance matrix, which only helps to quantise a model: give the path of the model itself"),
        ("llama", {"tokenizer.ggml.model": "gpt2"}, None, "is a vocabulary without weights: give the path of a whole model"),
        (None, {}, "x", "is not a complete model: its header lacks general.architecture. Convert it again."),
        ("llama", {"general.type": 3}, "x", "can't be used: general.type in its header is 3, and a text is expected. Convert the model again."),
    ],
)  # fmt: skip
def test_what_goes_with_a_model(
    architecture: str | None, values: dict[str, Any], tensor: str | None, text: str, tmp_path: Path
) -> None:
    tensors: list[NewTensor] = [] if tensor is None else [tensor_of(tensor, np.ones((2, 4)))]
    refuses(write_gguf(tmp_path / "m.gguf", architecture, values, tensors), text)
