"""Small vocabularies for tests, in models whose weights are zeros."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailrace.gguf.file import Model, open_model
from verification.tokenizers.dress import write_vocabulary
from verification.unit.host.tiny_models import byte_alphabet

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
#: Byte-level BPE: 3 special tokens, 256 bytes, and pairs.
PAIRS = ["Ġ t", "h e", "Ġt he", "a b", "c d", "Ġ Ġ"]
BPE_TOKENS = ["<unk>", "<|im_start|>", "<|im_end|>", *byte_alphabet(), *(pair.replace(" ", "") for pair in PAIRS)]
BPE: dict[str, Any] = {
    "model": "gpt2",
    "pre": "gpt-2",
    "tokens": BPE_TOKENS,
    "token_type": [UNKNOWN, CONTROL, CONTROL, *[NORMAL] * (len(BPE_TOKENS) - 3)],
    "merges": PAIRS,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
#: SentencePiece: 3 special tokens, 256 bytes, pieces.
PIECES = ["▁", "a", "b", "c", "t", "h", "e", "ab", "bc", "▁a", "▁ab", "▁▁", "th", "▁th", "▁the"]
SPM_TOKENS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES]
SPM: dict[str, Any] = {
    "model": "llama",
    "tokens": SPM_TOKENS,
    "scores": [0.0] * 259 + [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -10.0, -5.0, -20.0, -11.0, -30.0, -8.0, -9.0, -9.5],
    "token_type": [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(PIECES)],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "unknown_token_id": 0,
}


def model_with(folder: Path, base: Mapping[str, Any], rows: int | None = None, **changes: Any) -> Model:
    """A model with a vocabulary; `changes` by the keys' last part, None leaves one out, `template` is the chat template."""
    return open_model(write_with(folder / "vocabulary.gguf", base, rows, **changes))


def write_with(path: Path, base: Mapping[str, Any], rows: int | None = None, **changes: Any) -> Path:
    """The same, written."""
    name, template = changes.pop("name", "tiny"), changes.pop("template", None)
    values = {f"tokenizer.ggml.{key}": value for key, value in {**base, **changes}.items() if value is not None}
    if template is not None:
        values["tokenizer.chat_template"] = template
    return write_vocabulary(path, {"general.name": name, **values}, rows)


def swapped(values: list[Any], changes: Mapping[int, Any]) -> list[Any]:
    """A list with some items replaced."""
    return [changes.get(i, value) for i, value in enumerate(values)]


def with_tokens(base: Mapping[str, Any], *added: tuple[str, int]) -> dict[str, Any]:
    """A vocabulary with more tokens, each with its type."""
    result = {
        **base,
        "tokens": [*base["tokens"], *(text for text, _ in added)],
        "token_type": [*base["token_type"], *(kind for _, kind in added)],
    }
    if "scores" in base:
        result["scores"] = [*base["scores"], *[0.0] * len(added)]
    return result
