"""What a caller can ask for: prompts in their several forms, and how an answer is made."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from tailrace.spec.errors import ConfigError

from ..device.token_ids import Token, TokenArray, token_list
from ..text.grammar import Grammar, grammar_of_format
from .answer import Wish
from .sampling import LogitsProcessor, Sampler

#: A text, or its tokens.
Prompt = str | Sequence[Token] | TokenArray
#: Several of them.
Prompts = Sequence[str] | Sequence[Sequence[Token]] | Sequence[TokenArray]
#: What was said, each with its ``role`` and ``content``; or what a user says, without a word before it.
Conversation = str | Sequence[Mapping[str, Any]]
#: What a chat template is told besides.
Variables = Mapping[str, Any] | None


class Options(TypedDict, total=False):
    """How an answer is made. All can be left out, and None is as good as that.

    Attributes
    ----------
    max_tokens : int or None
        Tokens of the answer, at most. None: until it ends by itself, or the context is full.
    temperature : float or None
        None or 0: always the best token. Else tokens are drawn.
    top_k, top_p, min_p
        What is drawn from: see `tailrace.Sampler`, as for the penalties, the bias and the seed.
    stop : str, or sequence of str
        Texts before which the answer ends.
    logprobs : int or None
        Report each token's log probability, and those of so many of the likeliest ones.
    prompt_logprobs : int or None
        The same for each token of the prompt, all of which is computed anew.
    logits_processor : callable, or sequence of callable
        Takes all tokens so far and the logits of the next one, and returns logits.
    response_format : mapping or None
        OpenAI's: ``{"type": "json_object"}``, or ``{"type": "json_schema", "json_schema": {"schema": ...}}``.
    grammar : Grammar, str or None
        What the answer may be; a text is GBNF or Lark.
    min_tokens : int or None
        No token ends the answer before it has so many.
    ignore_ends : bool or None
        No token ends the answer at all.
    speculate : bool or None
        False: no drafts are verified. The answer is the same, and takes as many steps as it has tokens.
    prediction : str, or tokens, or None
        What the answer is likely to be, or to have in it, such as the text that is to be edited: it comes in fewer steps then.
    """

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[int, float] | None
    seed: int | None
    stop: str | Sequence[str] | None
    logprobs: int | None
    prompt_logprobs: int | None
    logits_processor: LogitsProcessor | Sequence[LogitsProcessor] | None
    response_format: Mapping[str, Any] | None
    grammar: Grammar | str | None
    min_tokens: int | None
    ignore_ends: bool | None
    speculate: bool | None
    prediction: Prompt | None


def wish_of(options: Options) -> Wish:
    """The options, checked, with a seed of its own if none was given.

    Raises
    ------
    ConfigError
        If one is out of range.
    TypeError
        If there is no such option.
    """
    for name in options:
        if name not in Options.__annotations__:
            raise TypeError(f"unknown option {name!r}: choose from {', '.join(Options.__annotations__)}")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    stop, processors = given.pop("stop", ()), given.pop("logits_processor", ())
    given_format, given_grammar = given.pop("response_format", None), given.pop("grammar", None)
    if not isinstance(stop, Iterable):
        raise ConfigError(f"stop must be a text or several, not {stop!r}")
    if not callable(processors) and not isinstance(processors, Iterable):
        raise ConfigError(f"logits_processor must be a callable or several, not {processors!r}")
    rest = {name: given.pop(name, None) for name in ("max_tokens", "logprobs", "prompt_logprobs")}
    more = {name: given.pop(name) for name in ("min_tokens", "ignore_ends", "speculate") if name in given}
    prediction = given.pop("prediction", ())
    return Wish(
        sampler=Sampler(**given),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        processors=(processors,) if callable(processors) else tuple(processors),
        grammar=_grammar(given_format, given_grammar),
        prediction=prediction if isinstance(prediction, str) else tuple(token_list(prediction)),
        **rest,
        **more,
    )


def _grammar(form: Any, grammar: Any) -> Grammar | None:
    if form is not None and grammar is not None:
        raise ConfigError("response_format and grammar both say what the answer may be: leave one of them out")
    if form is not None:
        if not isinstance(form, Mapping):
            raise ConfigError(f"response_format must be a mapping such as {{'type': 'json_object'}}, not {form!r}")
        return grammar_of_format(form)
    return Grammar.text(grammar) if isinstance(grammar, str) else grammar
