"""The hand-over file: keys and values of a prompt that was computed elsewhere, for a decode that goes on here.

A hand-over file is one of safetensors. Its tensors:

* ``tokens``: I64 ``(tokens,)``, the prompt.
* ``layers.N.keys`` and ``layers.N.values`` for each layer: F32, F16 or BF16 ``(kv_heads, tokens, head_size)``, before any
  quantisation. Keys are those after RoPE: element ``i`` of a head is rotated with element ``i + rotary_size / 2``.
* ``rope_frequencies``: F64 ``(rotary_size / 2,)``, radians from one position to the next; none if positions are learned.

Its metadata, which safetensors keeps as texts: ``format``, ``version``, ``writer`` (program and version), ``model`` (its name
there), ``architecture`` (Hugging Face's ``model_type``), ``vocabulary`` (rows of the embedding), ``rope_magnitude`` (what
cosines and sines are multiplied with).

A file is written under another name and renamed, so that whoever sees a hand-over file sees a whole one. In a folder that is
shared, names are drawn at random: nobody reads the prompts of others by guessing.
"""

import re
import secrets

FORMAT, VERSION = "tailrace-handover", 1
TOKENS, FREQUENCIES = "tokens", "rope_frequencies"
#: What safetensors calls the types that keys and values may have.
KEY_TYPES = ("F32", "F16", "BF16")
METADATA = ("format", "version", "writer", "model", "architecture", "vocabulary", "rope_magnitude")

#: Members of ``kv_transfer_params``: the name of the file, the tokens that it holds, the token that the prefill chose next, the
#: type of keys and values, the model, and why there is no file.
FILE, COUNT, NEXT = "tailrace_file", "tailrace_tokens", "tailrace_next_token"
TYPE, MODEL, REFUSED = "tailrace_dtype", "tailrace_model", "tailrace_refused"

_NAME = re.compile(r"[0-9a-f]{32}\.safetensors")


def new_name() -> str:
    """A name for a hand-over file, which nobody can guess."""
    return f"{secrets.token_hex(16)}.safetensors"


def is_name(name: str) -> bool:
    """Whether a name is one of `new_name`, so that it leads to no other folder."""
    return _NAME.fullmatch(name) is not None


def tensor_names(layer: int) -> tuple[str, str]:
    """Names of a layer's keys and values."""
    return f"layers.{layer}.keys", f"layers.{layer}.values"
