"""Texts to tokens and back, and what chat templates make of conversations."""

import asyncio
from typing import Any

from ..generation.engine import Engine
from .errors import of_the_request
from .fields import Fields, wrong
from .turns import turns_of


async def tokens_of(engine: Engine, fields: Fields) -> dict[str, Any]:
    """The tokens of a text, or of a conversation."""
    fields.refuse({"with_pieces": (False,), "return_token_strs": (False,), "parse_special": (True,)})
    special = all(fields.flag(name) for name in ("add_special_tokens", "add_special") if name in fields)
    tokenizer = engine.tokenizer
    with of_the_request():
        if "messages" in fields:
            turns, variables = _conversation(fields)
            tokens = await asyncio.to_thread(tokenizer.encode_chat, turns, **variables)
        else:
            text = fields.text("prompt") if "prompt" in fields else fields.text("content")
            if text is None:
                raise wrong("prompt", "is missing: give a text, or messages")
            tokens = await asyncio.to_thread(tokenizer.encode, text, special)
    return {"tokens": tokens, "count": len(tokens), "max_model_len": engine.decoder.limit}


async def text_of(engine: Engine, fields: Fields) -> dict[str, Any]:
    """The text of tokens."""
    tokens = fields.get("tokens")
    if not isinstance(tokens, list):
        raise wrong("tokens", f"must be a list of tokens, not {tokens!r}")
    with of_the_request():
        text = engine.tokenizer.decode(tokens)
    return {"prompt": text, "content": text}


async def prompt_of(engine: Engine, fields: Fields) -> dict[str, Any]:
    """The prompt that a conversation becomes, as llama-server tells it."""
    turns, variables = _conversation(fields)
    with of_the_request():
        return {"prompt": await asyncio.to_thread(engine.tokenizer.render, turns, **variables)}


async def tokenizer_of(engine: Engine, fields: Fields) -> dict[str, Any]:
    """The tokenizer, by the names of transformers' tokenizer_config.json."""
    v, tokenizer = engine.tokenizer.vocabulary, engine.tokenizer
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    return {
        "tokenizer_class": v.kind,
        **{name: v.tokens[v.special[part]] if part in v.special else None for name, part in names.items()},
        "add_bos_token": v.start is not None,
        "vocab_size": len(v.tokens),
        "model_max_length": engine.decoder.limit,
        "chat_template": tokenizer.chat_template,
    }


def _conversation(fields: Fields) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Turns, and what the template is told besides."""
    turns = turns_of(fields.get("messages"))
    variables = dict(fields.table("chat_template_kwargs") or {})
    if fields.get("tools"):
        variables["tools"] = fields.get("tools")
    if "add_generation_prompt" in fields:
        variables["add_generation_prompt"] = fields.flag("add_generation_prompt")
    return turns, variables
