"""Tokens beside llama.cpp's and prompts beside those of transformers: small vocabularies here, published ones where they are at hand."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.spec.errors import ToolError
from verification.tokenizers.compare import compare_model, compare_template, compare_vocabulary
from verification.unit.host.text.vocabularies import (
    BPE,
    CONTROL,
    NORMAL,
    PAIRS,
    SPM,
    USER_DEFINED,
    swapped,
    with_tokens,
    write_with,
)

#: A folder with published vocabularies and chat templates, such as vendor/llama.cpp/models of llama-cpp-python's source archive.
FOLDER = "TAILRACE_VOCABULARIES"

MARKS = (
    ("<|im_end|>x", USER_DEFINED),
    ("<|end|>", NORMAL),
    ("<|user|>", CONTROL),
    ("<|assistant|>", CONTROL),
    ("[INST]", CONTROL),
)


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        (with_tokens(BPE, *MARKS), {}),
        (BPE, {"pre": "llama-bpe", "token_type": swapped(BPE["token_type"], {2: NORMAL}), "eos_token_id": 1}),
        (BPE, {"merges": [*PAIRS, "x y", "Ġthe Ġ", "b", "ab cd"], "pre": None}),
        (with_tokens(SPM, *MARKS, ("<|endoftext|>", CONTROL)), {"name": "Phi-3 mini"}),
        (BPE, {"add_space_prefix": True}),
        (SPM, {"add_space_prefix": False, "add_bos_token": False, "unknown_token_id": None}),
    ],
    ids=["marks", "end typed as text", "merges that lead nowhere", "phi-3", "a space that BPE has not", "no space"],
)
def test_small_vocabularies_are_read_as_llama_cpp_reads_them(
    base: dict[str, Any], changes: dict[str, Any], tmp_path: Path, rng: np.random.Generator
) -> None:
    pytest.importorskip("cyllama")
    path = write_with(tmp_path / "model.gguf", base, **changes)
    compared = compare_model(path, path, rng, 200)
    assert compared.texts > 200, compared.how
    assert compared.equal, compared


@pytest.mark.parametrize("model", ["shakespeare", "smollm2"])
def test_our_models_are_read_as_llama_cpp_reads_them(model: str, rng: np.random.Generator) -> None:
    pytest.importorskip("cyllama")
    from tailrace.models.fetch import resolve_model

    try:
        path = resolve_model(model)
    except ToolError as error:
        pytest.skip(str(error))
    compared = compare_vocabulary(path, rng, 200)
    assert compared.texts > 200, compared.how
    assert compared.equal, compared


TEMPLATE = """{{- bos_token }}
{%- set ns = namespace(n=0, system='') %}
{%- macro turn(m, last=false) -%}
<|{{ m.role }}|>
{{ m['content'] | trim }}{{ '' if last else eos_token }}
{% endmacro -%}
{% if messages[0].role == 'system' %}{% set ns.system = messages[0].content %}{% set messages = messages[1:] %}{% endif %}
{% for m in messages if m.role != 'system' -%}
    {%- if m.role == 'assistant' and '</think>' in m.content %}
        {%- set m = {'role': m.role, 'content': m.content.split('</think>')[-1].lstrip('\\n')} %}
    {%- elif loop.first and m.role != 'user' %}{{ raise_exception('a user begins') }}{% endif %}
    {%- set ns.n = ns.n + 1 %}
{{ turn(m, loop.last) }}{% generation %}{{ ns.n }}{% endgeneration %}
{%- endfor %}
{% if tools is not none %}{% for tool in tools %}{{ tool | tojson(indent=2) }}{% endfor %}{% endif %}
{{ (ns.system ~ '!') | upper }} {{ documents is none }} {{ enable_thinking is defined }} {{ messages | map(attribute='role') | join(',') }}
{% if add_generation_prompt %}<|assistant|>
{% endif %}"""


def test_a_chat_template_gives_the_prompts_of_transformers() -> None:
    pytest.importorskip("transformers")
    compared = compare_template("made here", TEMPLATE)
    assert compared.different == []
    assert compared.refused == 1
    assert compared.conversations == 8


def test_a_difference_is_seen() -> None:
    pytest.importorskip("transformers")
    assert (
        len(
            compare_template(
                "made here", "{{ range(99999) | list | length }}{{ messages | list | random | string }}{{ lipsum() }}"
            ).different
        )
        == 8
    )


def folder() -> Path:
    path = os.environ.get(FOLDER)
    if not path:
        pytest.skip(f"no published vocabularies: set {FOLDER} to a folder that has them, see verification/tokenizers")
    return Path(path)


@pytest.mark.slow
def test_published_vocabularies_are_read_as_llama_cpp_reads_them(rng: np.random.Generator) -> None:
    pytest.importorskip("cyllama")
    for vocabulary in sorted(folder().glob("*.gguf")):
        compared = compare_vocabulary(vocabulary, rng, 200)
        if compared.how.startswith("refused"):
            assert "tokenizer of the kind 'bert'" in compared.how or "tokenizer of the kind 't5'" in compared.how
        elif vocabulary.name == "ggml-vocab-gpt-neox.gguf":
            # It lacks its rules: here they are known by its merges, and llama.cpp takes others.
            assert compared.how == "gpt2 mpt"
        else:
            assert compared.equal, compared


@pytest.mark.slow
def test_published_chat_templates_give_the_prompts_of_transformers() -> None:
    pytest.importorskip("transformers")
    for path in sorted((folder() / "templates").glob("*.jinja")):
        assert compare_template(path.name, path.read_text(encoding="utf-8")).different == [], path.name
