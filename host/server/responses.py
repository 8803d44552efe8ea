"""Bodies of responses: answers in OpenAI's shapes, whole and in parts."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..generation.answer import Answer
from ..generation.completion import ChosenLogprob, Completion, FinishReason, Piece, TokenLogprob
from ..text.tokenizer import Tokenizer

_REASONS: dict[FinishReason, str] = {"stop": "stop", "length": "length", "context": "length", "closed": "stop"}


@dataclass
class Reply:
    """How one request is answered.

    Parameters
    ----------
    model : str
    tokenizer : Tokenizer
    is_chat : bool
    each : int
        Answers to each prompt.
    echo : bool
        Answers begin with their prompts.
    """

    model: str
    tokenizer: Tokenizer
    is_chat: bool
    each: int
    echo: bool = False
    identity: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The answers, all of them finished."""
        choices = []
        for answer in answers:
            done = answer.completion()
            logprobs, text = self._logprobs(done.logprobs, 0), done.text
            if self.echo:
                prompt = answer.tokens[: answer.prompt_tokens]
                beginning = self.tokenizer.decode(prompt, at_start=True)
                logprobs, text = self._echoed(prompt, done, len(beginning)), beginning + text
            reason = _REASONS[done.finish_reason]
            content: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if self.is_chat else {"text": text}
            choices.append({"index": answer.index, **content, "logprobs": logprobs, "finish_reason": reason})
        return self._body("chat.completion" if self.is_chat else "text_completion", choices, usage_of(answers, self.each))

    def beginning(self, answers: Sequence[Answer]) -> dict[str, Any] | None:
        """The first part of a stream; None if there is none."""
        if not self.is_chat:
            return None
        deltas = [{"index": a.index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None} for a in answers]
        return self._body("chat.completion.chunk", deltas)

    def part(self, piece: Piece, offset: int) -> dict[str, Any]:
        """The part of a stream that a piece of an answer is; `offset`: characters of the answer before it."""
        reason = None if piece.finish_reason is None else _REASONS[piece.finish_reason]
        content: dict[str, Any] = {"text": piece.text}
        if self.is_chat:
            content = {"delta": {"content": piece.text} if piece.text else {}}
        logprobs = self._logprobs(piece.logprobs, offset)
        choice = {"index": piece.index, **content, "logprobs": logprobs, "finish_reason": reason}
        return self._body("chat.completion.chunk" if self.is_chat else "text_completion", [choice])

    def end(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The last part of a stream, if its usage is wanted."""
        return self._body("chat.completion.chunk" if self.is_chat else "text_completion", [], usage_of(answers, self.each))

    def _body(self, kind: str, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> dict[str, Any]:
        prefix = "chatcmpl" if self.is_chat else "cmpl"
        body = {"id": f"{prefix}-{self.identity}", "object": kind, "created": self.created, "model": self.model}
        return {**body, "choices": choices, **({} if usage is None else {"usage": usage})}

    def _logprobs(self, logprobs: Sequence[ChosenLogprob] | None, offset: int) -> dict[str, Any] | None:
        if logprobs is None:
            return None
        if self.is_chat:
            return {
                "content": [{**self._token(one), "top_logprobs": [self._token(t) for t in one.top]} for one in logprobs],
                "refusal": None,
            }
        offsets, place = [], offset
        for one in logprobs:
            offsets.append(place)
            place += len(one.text)
        return {
            "tokens": [one.text for one in logprobs],
            "token_logprobs": [one.logprob for one in logprobs],
            "top_logprobs": [{t.text: t.logprob for t in one.top} for one in logprobs],
            "text_offset": offsets,
        }

    def _echoed(self, prompt: Sequence[int], done: Completion, length: int) -> dict[str, Any] | None:
        """Log probabilities of a prompt and of its answer: of its first token there is none."""
        answered = self._logprobs(done.logprobs, length)
        if answered is None or done.prompt_logprobs is None:
            return None
        judged = self._logprobs([one for one in done.prompt_logprobs if one is not None], 0)
        assert judged is not None
        first = self.tokenizer.decode(prompt[:1], at_start=True)
        judged["text_offset"] = [place + len(first) for place in judged["text_offset"]]
        start: dict[str, list[Any]] = {
            "tokens": [first], "token_logprobs": [None], "top_logprobs": [None], "text_offset": [0],
        }  # fmt: skip
        return {name: start[name] + judged[name] + answered[name] for name in start}

    def _token(self, one: TokenLogprob) -> dict[str, Any]:
        return {"token": one.text, "logprob": one.logprob, "bytes": list(self.tokenizer.token_bytes(one.token))}


def usage_of(answers: Sequence[Answer], each: int) -> dict[str, Any]:
    """What answers have used: a prompt counts once, however many answers it has."""
    first = answers[::each]
    prompt = sum(answer.prompt_tokens for answer in first)
    generated = sum(len(answer.tokens) - answer.prompt_tokens for answer in answers)
    cached = sum(answer.reused or 0 for answer in first)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
