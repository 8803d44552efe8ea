"""Tokens in, tokens out: ``/inference/v1/generate`` as vLLM shapes it, for front-ends that tokenize by themselves."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..generation.answer import Answer
from ..generation.completion import ChosenLogprob, FinishReason, Piece
from ..text.tokenizer import Tokenizer
from .fields import Fields, wrong
from .requests import AnswerRequest, wishes_of
from .responses import usage_of

#: As vLLM says them.
_REASONS: dict[FinishReason, str] = {"stop": "stop", "length": "length", "context": "length", "closed": "abort"}
#: Fields of the request that change nothing here.
_HARMLESS = ("stream_options", "cache_salt", "token_offsets", "reasoning_ended", "return_token_ids", "output_mode")
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "features": (),
    "content_parts": ([],),
    "priority": (0,),
    "ec_transfer_params": (),
    "reasoning_parser_kwargs": (),
}
#: Fields of vLLM's sampling parameters that change nothing here: texts are not sent.
_HARMLESS_SAMPLING = (
    "detokenize", "output_kind", "skip_clone", "flat_logprobs", "skip_special_tokens", "spaces_between_special_tokens",
    "include_stop_str_in_output", "skip_reading_prefix_cache",
)  # fmt: skip
_UNSUPPORTED_SAMPLING: dict[str, tuple[Any, ...]] = {
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "prompt_logprobs": (),
    "allowed_token_ids": (),
    "logprob_token_ids": (),
    "structured_outputs": (),
    "truncate_prompt_tokens": (),
    "thinking_token_budget": (),
    "repetition_detection": (),
    "extra_args": ({},),
}


@dataclass(frozen=True)
class TokensRequest(AnswerRequest):
    """A request whose answers are tokens.

    Attributes
    ----------
    identity : str
        By which it can be aborted.
    """

    identity: str = ""


def tokens_request(body: Any, tokenizer: Tokenizer, check_model: Callable[[str | None], None]) -> TokensRequest:
    """Read the body of a request to ``/inference/v1/generate``.

    Raises
    ------
    ApiError
        If a field is wrong, or one that is not supported would change the answer.
    """
    fields = Fields(body)
    check_model(fields.text("model"))
    tokens, size = fields.get("token_ids"), len(tokenizer.vocabulary.tokens)
    if not isinstance(tokens, list) or not tokens:
        raise wrong("token_ids", f"must be a list of tokens that is not empty, not {tokens!r}")
    for token in tokens:
        if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < size:
            raise wrong("token_ids", f"has {token!r} among its tokens, which are whole numbers from 0 to {size - 1}")
    if fields.get("output_mode") not in (None, "tokens"):
        raise wrong("output_mode", f"of {fields.get('output_mode')!r} is not supported: tokens are", "unsupported_parameter")
    sampling = fields.table("sampling_params")
    if sampling is None:
        raise wrong("sampling_params", "is missing: give an object, which may be empty")
    inner = Fields(sampling)
    inner.ignore(_HARMLESS_SAMPLING)
    inner.refuse(_UNSUPPORTED_SAMPLING)
    wishes = wishes_of(inner, tokenizer, inner.integer("logprobs", 0, 20), ("max_tokens",), 16)
    inner.end()
    options = fields.table("stream_options") or {}
    identity = fields.text("request_id") or secrets.token_hex(16)
    request = TokensRequest(
        (tuple(tokens),), wishes, fields.flag("stream"), bool(options.get("include_usage")), False, identity=identity
    )
    fields.ignore(_HARMLESS)
    fields.refuse(_UNSUPPORTED)
    fields.end()
    return request


@dataclass
class TokensReply:
    """How a request for tokens is answered; as `Reply`.

    Parameters
    ----------
    identity, model : str
    each : int
        Answers to each prompt.
    """

    identity: str
    model: str
    each: int
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The answers, all of them finished."""
        choices = []
        for answer in answers:
            done = answer.completion()
            choices.append(self._choice(answer.index, done.tokens, done.logprobs, done.finish_reason))
        more = {"model": self.model, "created": self.created, "kv_transfer_params": None}
        return {**self._body(choices), **more, "usage": usage_of(answers, self.each)}

    def beginning(self, answers: Sequence[Answer]) -> None:
        """A stream of tokens has no first part without any."""

    def part(self, piece: Piece, offset: int) -> dict[str, Any]:
        """The part of a stream that a piece of an answer is."""
        return self._body([self._choice(piece.index, piece.tokens, piece.logprobs, piece.finish_reason)])

    def end(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The last part of a stream, if its usage is wanted."""
        return {**self._body([]), "usage": usage_of(answers, self.each)}

    def _body(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"request_id": self.identity, "output_mode": "tokens", "choices": choices}

    def _choice(
        self, index: int, tokens: Sequence[int], logprobs: Sequence[ChosenLogprob] | None, reason: FinishReason | None
    ) -> dict[str, Any]:
        return {
            "index": index,
            "token_ids": list(tokens),
            "logprobs": None if logprobs is None else {"content": [_logprob(one) for one in logprobs]},
            "finish_reason": None if reason is None else _REASONS[reason],
            "stop_reason": None,
        }


def _logprob(one: ChosenLogprob) -> Mapping[str, Any]:
    top = [{"token_id": other.token, "logprob": other.logprob, "rank": rank} for rank, other in enumerate(one.top, 1)]
    rank = next((found["rank"] for found in top if found["token_id"] == one.token), None)
    return {"token_id": one.token, "logprob": one.logprob, "rank": rank, "top_logprobs": top}
