"""Bodies of responses: answers in OpenAI's shapes, whole and in parts."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..generation.answer import Answer
from ..generation.completion import ChosenLogprob, Completion, FinishReason, Piece, TokenLogprob
from ..text.tokenizer import Tokenizer
from .tool_fields import Tools

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
    tools : Tools or None
        What may be called.
    """

    model: str
    tokenizer: Tokenizer
    is_chat: bool
    each: int
    echo: bool = False
    tools: Tools | None = None
    identity: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))
    _spoken: dict[int, "Spoken"] = field(default_factory=dict)

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
            if self.tools is not None:
                said, calls = (spoken := Spoken(self.tools)).put(text, True)
                content["message"]["content"] = said or None if calls else said
                if calls:
                    content["message"]["tool_calls"] = calls
                reason = spoken.reason(reason)
            choices.append({"index": answer.index, **content, "logprobs": logprobs, "finish_reason": reason})
        body = self._body("chat.completion" if self.is_chat else "text_completion", choices, usage_of(answers, self.each))
        return {**body, "timings": timings_of(answers)}

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
            said, calls = piece.text, list[dict[str, Any]]()
            if self.tools is not None:
                spoken = self._spoken.setdefault(piece.index, Spoken(self.tools))
                first = spoken.calls
                said, calls = spoken.put(piece.text, reason is not None)
                calls = [{"index": first + n, **call} for n, call in enumerate(calls)]
                reason = reason and spoken.reason(reason)
            content = {"delta": {**({"content": said} if said else {}), **({"tool_calls": calls} if calls else {})}}
        logprobs = self._logprobs(piece.logprobs, offset)
        choice = {"index": piece.index, **content, "logprobs": logprobs, "finish_reason": reason}
        return self._body("chat.completion.chunk" if self.is_chat else "text_completion", [choice])

    def end(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The last part of a stream, if its usage is wanted."""
        body = self._body("chat.completion.chunk" if self.is_chat else "text_completion", [], usage_of(answers, self.each))
        return {**body, "timings": timings_of(answers)}

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


class Spoken:
    """What one answer has said and called so far.

    Parameters
    ----------
    tools : Tools

    Attributes
    ----------
    calls : int
        Calls so far.
    """

    def __init__(self, tools: Tools) -> None:
        self._parser = tools.form.parser(tools.tools)
        self._most = None if tools.parallel else 1
        self.calls = 0

    def put(self, text: str, is_end: bool) -> tuple[str, list[dict[str, Any]]]:
        """Take the next bit; returns text and calls, as OpenAI writes them."""
        said, calls = self._parser.put(text)
        if is_end:
            rest, last = self._parser.end()
            said, calls = said + rest, calls + last
        if self._most is not None:
            calls = calls[: self._most - self.calls]
        self.calls += len(calls)
        return said, [
            {"id": call.identity, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]

    def reason(self, reason: str) -> str:
        """Why it is finished, with its calls in mind."""
        return "tool_calls" if self.calls and reason == "stop" else reason


def usage_of(answers: Sequence[Answer], each: int) -> dict[str, Any]:
    """What answers have used: a prompt counts once, however many answers it has."""
    first = answers[::each]
    prompt = sum(answer.prompt_tokens for answer in first)
    generated = sum(len(answer.tokens) - answer.prompt_tokens for answer in answers)
    cached = sum(answer.reused or 0 for answer in first)
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    if predicted := [answer for answer in answers if answer.wish.prediction]:
        accepted = sum(answer.accepted for answer in predicted)
        rejected = sum(answer.drafted for answer in predicted) - accepted
        usage["completion_tokens_details"] = {
            "accepted_prediction_tokens": accepted, "rejected_prediction_tokens": rejected,
        }  # fmt: skip
    return usage


def timings_of(answers: Sequence[Answer]) -> dict[str, Any]:
    """What answers have taken, by the names of llama-server; of several the sums."""
    cached = sum(answer.reused or 0 for answer in answers)
    prompt = sum(answer.prompt_tokens for answer in answers) - cached
    prompt_ms = 1e3 * sum(answer.prompt_seconds for answer in answers)
    predicted = sum(len(answer.tokens) - answer.prompt_tokens for answer in answers)
    predicted_ms = 1e3 * sum(answer.seconds - answer.prompt_seconds for answer in answers)
    found = {"cache_n": cached, **_speed("prompt", prompt, prompt_ms), **_speed("predicted", predicted, predicted_ms)}
    if drafted := sum(answer.drafted for answer in answers):
        found |= {"draft_n": drafted, "draft_n_accepted": sum(answer.accepted for answer in answers)}
    return found


def _speed(name: str, tokens: int, milliseconds: float) -> dict[str, float]:
    return {
        f"{name}_n": tokens,
        f"{name}_ms": milliseconds,
        f"{name}_per_token_ms": milliseconds / tokens if tokens else 0.0,
        f"{name}_per_second": 1e3 * tokens / milliseconds if milliseconds else 0.0,
    }
