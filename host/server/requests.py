"""Requests for answers: what OpenAI's clients send, as prompts and wishes."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..generation.answer import Wish
from ..generation.sampling import Sampler
from ..text.tokenizer import Tokenizer
from .errors import ApiError
from .fields import Fields, wrong
from .grammar_fields import grammar_field
from .tool_fields import Tools, refuse_without_effect, tools_of
from .turns import turns_of

#: Answers to one request.
MOST_ANSWERS = 128
#: Fields that change nothing here: names of users, hints, what is the case anyway.
_HARMLESS = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "continuous_usage_stats",
    "return_token_ids", "stream_options", "cache_prompt", "speculative.n_min", "speculative.p_min",
)  # fmt: skip
#: Fields that would change the answer, and the values with which they do not.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "suffix": ("",),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "include_stop_str_in_output": (False,),
    "functions": ([],),
    "function_call": ("none",),
    "audio": (),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "web_search_options": (),
    "mirostat": (0,),
    "typical_p": (1, 1.0),
    "tfs_z": (1, 1.0),
    "dry_multiplier": (0, 0.0),
    "xtc_probability": (0, 0.0),
    "length_penalty": (1, 1.0),
    "use_beam_search": (False,),
}


@dataclass(frozen=True)
class AnswerRequest:
    """A request for answers.

    Attributes
    ----------
    prompts : tuple of tuple of int
        Tokens of each.
    wishes : tuple of Wish
        Of the answers to each prompt.
    stream : bool
    include_usage : bool
        A stream ends with what was used.
    is_chat : bool
    echo : bool
        Answers begin with their prompts.
    tools : Tools or None
        What may be called.
    """

    prompts: tuple[tuple[int, ...], ...]
    wishes: tuple[Wish, ...]
    stream: bool
    include_usage: bool
    is_chat: bool
    echo: bool = False
    tools: Tools | None = None


def chat_request(body: Any, tokenizer: Tokenizer, check_model: Callable[[str | None], None]) -> AnswerRequest:
    """Read the body of a request to ``/v1/chat/completions``.

    Raises
    ------
    ApiError
        If a field is wrong, or one that is not supported would change the answer.
    TailraceError
        If the model's template refuses the conversation.
    """
    fields = Fields(body)
    check_model(fields.text("model"))
    turns = turns_of(fields.get("messages"))
    more = fields.table("chat_template_kwargs") or {}
    # The template alone says what comes first.
    fields.refuse({"add_special_tokens": (False,)})
    wanted = fields.flag("logprobs")
    top = fields.integer("top_logprobs", 0, 20)
    if top is not None and not wanted:
        raise wrong("top_logprobs", "needs logprobs to be true")
    tools = tools_of(fields, tokenizer)
    wishes = wishes_of(fields, tokenizer, (top or 0) if wanted else None, ("max_tokens", "max_completion_tokens"))
    if tools is not None:
        wishes = tuple(_with_tools(wish, tools) for wish in wishes)
        more = {**more, "tools": tools.described}
    stream, include_usage = _streaming(fields)
    fields.end()
    prompt = tokenizer.encode_chat(turns, **more)
    refuse_without_effect(tools, prompt, lambda: tokenizer.encode_chat(turns, **{**more, "tools": None}))
    return AnswerRequest((tuple(prompt),), wishes, stream, include_usage, True, tools=tools)


def _with_tools(wish: Wish, tools: Tools) -> Wish:
    if wish.grammar is not None:
        raise wrong("tools", "and a grammar or schema for the answer exclude each other: leave one of them out")
    if tools.grammar is not None and (wish.min_tokens or wish.ignore_ends):
        raise wrong("tool_choice", "says where the answer ends: leave min_tokens and ignore_eos out")
    return replace(wish, grammar=tools.grammar, shown=tools.shown)


def completion_request(body: Any, tokenizer: Tokenizer, check_model: Callable[[str | None], None]) -> AnswerRequest:
    """Read the body of a request to ``/v1/completions``.

    Raises
    ------
    ApiError, TailraceError
        As `chat_request`.
    """
    fields = Fields(body)
    check_model(fields.text("model"))
    fields.refuse({"add_special_tokens": (True,)})
    prompts = tuple(tuple(_tokens(prompt, tokenizer)) for prompt in _prompts(fields.get("prompt")))
    wishes = wishes_of(fields, tokenizer, fields.integer("logprobs", 0, 20), ("max_tokens",), 16)
    stream, include_usage = _streaming(fields)
    echo = fields.flag("echo")
    if echo and stream:
        raise wrong("echo", "of a stream is not supported: leave one of them out", "unsupported_parameter")
    if echo:
        wishes = tuple(replace(wish, prompt_logprobs=wish.logprobs) for wish in wishes)
    fields.end()
    return AnswerRequest(prompts, wishes, stream, include_usage, False, echo)


def _prompts(prompt: Any) -> list[Any]:
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt:
        if all(isinstance(one, int) and not isinstance(one, bool) for one in prompt):
            return [prompt]
        if all(isinstance(one, str) for one in prompt) or all(isinstance(one, list) and one for one in prompt):
            return prompt
    raise wrong("prompt", f"must be a text, a list of texts, of tokens, or of lists of tokens, not {prompt!r}")


def _tokens(prompt: str | list[Any], tokenizer: Tokenizer) -> list[int]:
    if isinstance(prompt, str):
        return tokenizer.encode(prompt)
    size = len(tokenizer.vocabulary.tokens)
    for token in prompt:
        if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < size:
            raise wrong("prompt", f"has {token!r} among its tokens, which are whole numbers from 0 to {size - 1}")
    return prompt


def _streaming(fields: Fields) -> tuple[bool, bool]:
    stream = fields.flag("stream")
    options = fields.table("stream_options") or {}
    return stream, bool(options.get("include_usage"))


def wishes_of(
    fields: Fields, tokenizer: Tokenizer, logprobs: int | None, lengths: tuple[str, ...], length: int | None = None
) -> tuple[Wish, ...]:
    """How the answers to a prompt are to be made; of several fields for their length the last one counts."""
    fields.ignore(_HARMLESS)
    fields.refuse(_UNSUPPORTED)
    for name in lengths:
        length = fields.integer(name, 1) if name in fields else length
        fields.ignore([name])
    n = fields.integer("n", 1, MOST_ANSWERS) or 1
    seed = fields.integer("seed", 0)
    temperature = fields.number("temperature", 0, 100)
    options = {
        "temperature": 1.0 if temperature is None else temperature,
        "top_p": fields.number("top_p", 0, 1),
        "top_k": fields.integer("top_k", -1),
        "min_p": fields.number("min_p", 0, 1),
        "presence_penalty": fields.number("presence_penalty", -2, 2),
        "frequency_penalty": fields.number("frequency_penalty", -2, 2),
        "repetition_penalty": fields.number("repetition_penalty", 0.01, 100),
        "logit_bias": _bias(fields.table("logit_bias"), len(tokenizer.vocabulary.tokens)),
    }
    if options["top_k"] in (-1, 0):
        options["top_k"] = None
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    stop = fields.texts("stop", 16)
    grammar = grammar_field(fields)
    drafts = {"speculate": fields.integer("speculative.n_max", 0) != 0, "prediction": _prediction(fields.table("prediction"))}
    ends = {"min_tokens": fields.integer("min_tokens", 0) or 0, "ignore_ends": fields.flag("ignore_eos")}
    if grammar is not None and any(ends.values()):
        raise wrong(grammar[0], "says where the answer ends: leave min_tokens and ignore_eos out")
    rest: dict[str, Any] = {"max_tokens": length, "stop": stop, "logprobs": logprobs, **ends, **drafts}
    # Several answers to one prompt are drawn with seeds of their own, which one seed gives.
    first = secrets.randbits(32) if seed is None else seed
    return tuple(
        Wish(Sampler(**given, seed=(first + number) % 2**64), grammar=grammar and grammar[1], **rest) for number in range(n)
    )


def _prediction(prediction: Mapping[str, Any] | None) -> str:
    """The text of OpenAI's predicted outputs."""
    content = "" if prediction is None else prediction.get("content")
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    if prediction is not None and (prediction.get("type") != "content" or not isinstance(content, str)):
        raise wrong("prediction", f"must be {{'type': 'content', 'content': TEXT}}, not {prediction!r}")
    return str(content)


def _bias(bias: Mapping[str, Any] | None, size: int) -> dict[int, float] | None:
    if bias is None:
        return None
    try:
        found = {int(token): float(value) for token, value in bias.items()}
    except (TypeError, ValueError):
        raise wrong("logit_bias", f"must give a number for each token, not {bias!r}") from None
    for token in found:
        if not 0 <= token < size:
            raise wrong("logit_bias", f"has {token} among its tokens, which are whole numbers from 0 to {size - 1}")
    return found


def check_length(tokens: int, context: int) -> None:
    """Refuse a prompt that is longer than the context.

    Raises
    ------
    ApiError
        As llama.cpp and vLLM say it, so that clients understand.
    """
    if tokens > context:
        raise ApiError(
            400,
            f"This model's maximum context length is {context} tokens. However, your prompt has {tokens} tokens: shorten it, or"
            " start the server with a larger --context",
            "exceed_context_size_error",
            "messages",
            "context_length_exceeded",
            n_prompt_tokens=tokens,
            n_ctx=context,
        )
