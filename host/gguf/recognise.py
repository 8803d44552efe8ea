"""What a file is that is not a model in GGUF, and what to do about it."""

import re
from pathlib import Path

from tailrace.spec.errors import ModelError

from .header import MAGIC, Header
from .printable import printable

#: Bytes that are looked at.
_START = 4096
_CONVERTER = "llama.cpp's convert_hf_to_gguf.py"
_ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!": "RAR",
}
#: Magic numbers of llama.cpp's older files, as they lie in the file.
_OLD = (b"lmgg", b"fmgg", b"tjgg")
_OLD_LORA = b"algg"
#: Pieces of a file that was cut in two or more, to be joined by cat: name.gguf.part1of2, name.gguf-split-a, name.gguf.part_aa.
_PIECE = re.compile(
    r"^(?P<stem>.+?)[.-]"
    r"(?:part[-_]?(?P<number>\d+)of\d+|split-(?P<letter>[a-z]+)|part[-_]?(?P<suffix>[a-z]{1,2}|\d+))$",
    re.DOTALL,
)
_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".incomplete", ".aria2", ".tmp")


def check_file(path: Path) -> None:
    """Check that a path leads to a file that begins as a GGUF file does.

    Raises
    ------
    ModelError
        If it does not, with what it is.
    """
    if not path.exists():
        raise ModelError(f"{path} does not exist: give the path of a GGUF file, or 'smollm2' or 'shakespeare'")
    if path.is_dir():
        found = sorted(p.name for p in path.glob("*.gguf"))
        if found:
            raise ModelError(f"{path} is a folder: give the path of a GGUF file in it, such as {printable(found[0])}")
        raise ModelError(
            f"{path} is a folder without config.json: give the path of a GGUF file, or of a folder with all files of a Hugging"
            " Face model"
        )
    if not path.is_file():
        raise ModelError(f"{path} is not a file: give the path of a GGUF file")
    with path.open("rb") as file:
        start = file.read(_START)
    if not start.startswith(MAGIC):
        raise ModelError(f"{path} {_what(path, start)}")


def check_whole(path: Path, error: ModelError) -> ModelError:
    """What is to be said of a damaged file: the error, or, if its name tells more, that."""
    if "truncated" not in str(error):
        return error
    if _PIECE.match(path.name):
        return ModelError(f"{path} {_piece(path)}")
    if path.suffix in _UNFINISHED:
        return ModelError(f"{path} is a download that has not finished: wait for it, or download it again")
    return error


def check_kind(header: Header) -> None:
    """Check that a file holds a language model, and not what goes with one.

    Raises
    ------
    ModelError
        If it does not, with what it holds.
    """
    kind, path = header.text("general.type", "model"), header.path
    arch = header.text("general.architecture", "")
    if kind == "imatrix" or "imatrix.chunk_count" in header:
        raise ModelError(
            f"{path} is an importance matrix, which only helps to quantise a model: give the path of the model itself"
        )
    if kind == "mmproj" or arch == "clip" or "clip.projector_type" in header:
        raise ModelError(
            f"{path} is a projector for images or sound (mmproj), which belongs to a model: give the path of the model itself"
        )
    if arch == "controlvector":
        raise ModelError(f"{path} is a control vector, which can't be applied here: give the path of a model")
    if kind == "adapter" or "adapter.type" in header or any(t.name.endswith(".lora_a") for t in header.tensors):
        raise ModelError(
            f"{path} is a LoRA adapter, not a model, and can't be applied to one here: merge it into its model with llama.cpp's"
            " llama-export-lora, and give the path of the result"
        )
    if not header.tensors and "tokenizer.ggml.model" in header and header.integer("split.count", 0, 65535, 0) < 2:
        raise ModelError(f"{path} is a vocabulary without weights: give the path of a whole model")


def _what(path: Path, start: bytes) -> str:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "is empty: download it again"
    if start.startswith(b"version https://git-lfs"):
        size = re.search(rb"size (\d+)", start)
        whole = f" ({int(size[1]):,} bytes)" if size else ""
        return f"is a Git LFS pointer, not the model itself: fetch that{whole} with `git lfs pull`, or download it"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        return (
            "is a web page, not a model: download the file itself (on huggingface.co its address has /resolve/, not /blob/),"
            " after logging in if the model asks for it"
        )
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 32:
        return "is a safetensors file: give the path of the folder that it came in, with config.json and tokenizer.json"
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        if b"data.pkl" in start or path.suffix in (".pt", ".pth", ".bin"):
            return f"is a PyTorch checkpoint: convert the folder that it came in with {_CONVERTER}"
        return "is a ZIP archive: unpack it, and give the path of a GGUF file"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return f"is a Python pickle, such as an old PyTorch checkpoint: convert the folder that it came in with {_CONVERTER}"
    for magic, name in _ARCHIVES.items():
        if start.startswith(magic):
            return f"is compressed ({name}): unpack it, and give the path of a GGUF file"
    if start[257:262] == b"ustar":
        return "is a tar archive: unpack it, and give the path of a GGUF file"
    if start[:4] == _OLD_LORA:
        return "is a LoRA adapter of llama.cpp's old format, not a model: give the path of a model in GGUF"
    if start[:4] in _OLD:
        return f"is in llama.cpp's format from before GGUF: convert the model again from its source, with {_CONVERTER}"
    if _is_old_imatrix(start):
        return "is an importance matrix, which only helps to quantise a model: give the path of the model itself"
    if _PIECE.match(path.name):
        return _piece(path)
    if path.suffix in _UNFINISHED or not start.strip(b"\x00"):
        return "is a download that has not finished: wait for it, or download it again"
    if text.startswith((b"{", b"[")):
        return "is JSON, such as a configuration or a server's message, not a model: download the GGUF file itself"
    return f"is not a GGUF file: convert the model, for example with {_CONVERTER}"


def _is_old_imatrix(start: bytes) -> bool:
    """Whether it begins with a number of entries, the length of a name, and the name of a matrix."""
    entries, length = int.from_bytes(start[:4], "little"), int.from_bytes(start[4:8], "little")
    return 0 < entries < 1 << 20 and 0 < length <= 64 and start[8 : 8 + length].endswith(b".weight")


def _piece(path: Path) -> str:
    found = _PIECE.match(path.name)
    assert found is not None
    stem = found["stem"]
    whole = stem if stem.endswith(".gguf") else f"{stem}.gguf"
    start = path.name[: found.start("number") if found["number"] else found.start("letter" if found["letter"] else "suffix")]
    return (
        "is one piece of a file that was cut up: join all pieces in their order, as in"
        f" `cat {printable(start)}* > {printable(whole)}`, and give the path of the result"
    )
