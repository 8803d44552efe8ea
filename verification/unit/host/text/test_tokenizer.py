"""Tokenizers of GGUF files, against transformers and by hand; chat templates."""

import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tailrace.gguf.file import open_model
from tailrace.spec.errors import ModelError
from tailrace.text.chat import render_chat
from tailrace.text.sentencepiece import SentencePiece
from tailrace.text.tokenizer import Tokenizer
from verification.unit.host.tiny_models import byte_alphabet, write_model

TEXTS = (
    "Hello, world! It's 2024 or 12 345.",
    "  two  spaces\n\n\tand a tab",
    "日本語 und Ümläute 🎉🎉",
    "<|im_start|>user\nhi<|im_end|>",
    "def f(x):\n    return x+1 # 3.14",
    "You'LL DON'T",
    "",
)


def smollm2() -> Path:
    from tailrace.models.fetch import resolve_model
    from tailrace.spec.errors import ToolError

    try:
        return resolve_model("smollm2")
    except ToolError as error:
        pytest.skip(str(error))


def test_smollm2_is_read_as_transformers_reads_it() -> None:
    transformers = pytest.importorskip("transformers")
    path = smollm2()
    other = transformers.AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    tokenizer = Tokenizer(open_model(path))
    for text in TEXTS:
        assert tokenizer.encode(text) == other(text)["input_ids"], text
    question = "What is the capital of France?"
    chat = other.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)
    assert tokenizer.encode_chat(question) == chat["input_ids"]
    assert tokenizer.decode(tokenizer.encode(TEXTS[2])) == TEXTS[2]
    assert tokenizer.ends == {0, 2}


@pytest.mark.parametrize("pre", ["smollm", "gpt-2", "llama-bpe", "qwen2", "tekken", "gpt-4o"])
def test_text_survives(pre: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf")
    tokenizer = Tokenizer(_with(path, {"pre": pre}))
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text.replace("<|im_start|>", "").replace("<|im_end|>", "")


def test_what_is_cut_where(tmp_path: Path) -> None:
    """Merges never cross a cut: "ab" is a token, and "cd"."""
    path = write_model(tmp_path / "m.gguf")
    model = open_model(path)
    tokens = Tokenizer(model)._tokens
    assert [tokens[i] for i in Tokenizer(model).encode("xab cd12")] == ["x", "ab", "Ġ", "cd", "1", "2"]


def _with(path: Path, changes: dict[str, Any]) -> Any:
    model = open_model(path)
    model.metadata.update({f"tokenizer.ggml.{key}": value for key, value in changes.items()})
    return model


def test_begin_of_text(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf")
    plain = Tokenizer(_with(path, {"pre": "gpt-2"})).encode("ab")
    assert Tokenizer(_with(path, {"pre": "gpt-2", "add_bos_token": True})).encode("ab") == [1, *plain]
    # Llama 3's files do not say so, and mean it.
    assert Tokenizer(_with(path, {"pre": "llama-bpe"})).encode("ab") == [1, *plain]
    assert Tokenizer(_with(path, {"pre": "llama-bpe"})).encode_chat("ab") == Tokenizer(_with(path, {})).encode_chat("ab")


def test_ends_of_an_answer(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf")
    assert Tokenizer(_with(path, {"eos_token_id": 9, "eot_token_id": 7})).ends == {2, 7, 9}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model": "t5"}, "has a tokenizer of the kind 't5', and only 'gpt2' and 'llama' are known here: --path operations uses that of transformers"),
        ({"pre": "klingon"}, "cuts text by the rules of 'klingon', which are not known here: --path operations uses those of transformers"),
        ({"model": None}, "has no tokenizer: convert the model again"),
        ({"model": "llama"}, "has a tokenizer without scores: convert the model again"),
    ],
)  # fmt: skip
def test_what_is_not_known(changes: dict[str, Any], text: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf")
    with pytest.raises(ModelError, match=f"^{re.escape(f'{path} {text}')}$"):
        Tokenizer(_with(path, changes))


def test_a_model_without_chat_template(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", chat_template=None)
    with pytest.raises(ModelError, match=r"has no chat template: give --raw to continue the prompt as it is$"):
        Tokenizer(open_model(path)).encode_chat("x")


def test_text_comes_in_whole_characters(tmp_path: Path) -> None:
    tokenizer = Tokenizer(open_model(write_model(tmp_path / "m.gguf")))
    pieces: list[str] = []
    stream = tokenizer.stream(pieces.append)
    for token in tokenizer.encode("aé🎉b"):
        stream.put(token)
    assert "".join(pieces) == "aé🎉b"
    assert not any("\ufffd" in piece for piece in pieces)
    stream.put(byte_alphabet().index("Ã") + 3)  # half a character
    stream.end()
    assert pieces[-2:] == ["\ufffd", "\n"]


PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "a", "b", "c", "ab", "bc", "▁a", "▁ab", "▁▁"]
SCORES = [0.0] * 259 + [-1.0, -2.0, -3.0, -4.0, -10.0, -5.0, -20.0, -11.0, -30.0]


def pieces(space_prefix: bool = True) -> SentencePiece:
    return SentencePiece(PIECES, SCORES, {3 + b: b for b in range(256)}, [1, 2], space_prefix, 0)


def spelled(tokenizer: SentencePiece, text: str) -> list[str]:
    return [PIECES[i] for i in tokenizer.encode(text)]


def test_sentencepiece_merges_the_best_pair_first() -> None:
    # "bc" has a better score than "ab", so "abc" does not become "ab", "c".
    assert spelled(pieces(False), "abc") == ["a", "bc"]
    assert spelled(pieces(), "ab") == ["▁ab"]
    assert spelled(pieces(False), "ab  ab") == ["ab", "▁", "▁ab"]
    # What is no token is spelled in bytes; what is special is whole, and text begins anew after it.
    assert spelled(pieces(False), "é") == ["<0xC3>", "<0xA9>"]
    assert spelled(pieces(), "<s>ab</s>") == ["<s>", "▁ab", "</s>"]
    assert pieces().decode(pieces().encode("ab é  c")) == "ab é  c"
    assert pieces().decode(pieces().encode("ab"), at_start=False) == " ab"


def test_sentencepiece_file(tmp_path: Path) -> None:
    path = tmp_path / "spm.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(8)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(PIECES)
    writer.add_token_scores(SCORES)
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (len(PIECES) - 259)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name in (
        "token_embd",
        *(f"blk.0.{n}" for n in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")),
    ):
        writer.add_tensor(f"{name}.weight", np.zeros((32, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tokenizer = Tokenizer(open_model(path))
    assert tokenizer.encode("ab") == [1, PIECES.index("▁ab")]
    assert tokenizer.decode(tokenizer.encode("ab é")) == "ab é"


MESSAGES = [{"role": "user", "content": "Hi"}]


def test_chat_templates() -> None:
    def render(template: str) -> str:
        return render_chat(template, MESSAGES, {"bos_token": "<s>"})

    assert render("{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m['content'] }}\n{% endfor %}") == "<s>user: Hi\n"
    assert render("{%- if add_generation_prompt %}\n  go\n{% endif %}") == "  go\n"
    assert render("{% for m in messages %}{% break %}{% endfor %}{{ messages | tojson }}").startswith('[{"role": ')
    assert render("{% generation %}{{ messages[0].content }}{% endgeneration %}") == "Hi"
    assert re.fullmatch(r"\d{4}", render("{{ strftime_now('%Y') }}"))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('no system role') }}", "no system role"),
        ("{% if %}", "Expected an expression, got 'end of statement block'"),
        ("{{ messages.__class__.__mro__ }}", "access to attribute '__class__' of 'list' object is unsafe."),
    ],
)
def test_templates_that_fail(template: str, reason: str) -> None:
    text = f"the model's chat template can't be used: {reason}. Give --raw to continue the prompt as it is."
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        render_chat(template, MESSAGES, {})
