"""A model class for lm_eval: ``tailrace``."""

import sys
from collections.abc import Sequence
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from tailrace.spec.errors import ConfigError, LimitError, ModelError

from ..generation.answer import Answer
from ..generation.options import wish_of
from ..generation.sequences import Holder
from ..language_model import LanguageModel
from ..loading import load
from ..text.chat import render_chat
from .scoring import Text, score

#: Tokens of an answer where a task does not say.
_ANSWER_TOKENS = 256
#: Seconds between two states of a bar in what is no terminal.
_LOG_INTERVAL_S = 10
#: What a task may ask of an answer, by lm_eval's names; all else is refused.
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")


@register_model("tailrace")
class TailraceModel(TemplateLM):
    """A language model on a device, for lm_eval.

    What is too long loses its beginning, as with lm_eval's class for Hugging Face's models: `max_length` tokens of context and
    continuation are taken. Choices of a question share its computation, and as many questions as `batch` share steps; scores
    do not depend on either.

    Parameters
    ----------
    model : str or LanguageModel
        As `tailrace.load` takes it; or one that is loaded, which stays open.
    device : str
        As `tailrace.load` takes it. lm_eval's own ``--device`` is this one, too.
    context : int or None
        Tokens that context and continuation have room for together; None: as `tailrace.load`.
    batch : int
        Sequences that share steps: 1, 2 or 4.
    quantise : str or None
    config, memory : str
        As `tailrace.load` takes them.
    batch_size, max_batch_size : object
        lm_eval's, which says nothing here: a device has `batch` sequences.
    """

    def __init__(
        self,
        model: str | LanguageModel,
        device: str = "emulator",
        *,
        context: int | None = None,
        batch: int = 4,
        quantise: str | None = None,
        config: str = "auto",
        memory: str = "auto",
        batch_size: Any = None,
        max_batch_size: Any = None,
    ) -> None:
        super().__init__()
        if isinstance(model, LanguageModel):
            self.language_model = model
        else:
            self.language_model = load(
                model, device, config=config, memory=memory, context=context, batch=batch, quantise=quantise
            )
        self._tokenizer = self.language_model.tokenizer
        self._special = self._tokenizer.vocabulary.special

    @property
    def max_length(self) -> int:
        """Tokens that a context has room for."""
        return self.language_model.context

    @property
    def max_gen_toks(self) -> int:
        """Tokens of an answer where a task does not say."""
        return min(_ANSWER_TOKENS, self.max_length // 2)

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self._token("eos", "bos")

    @property
    def prefix_token_id(self) -> int:
        """What a text without a context follows."""
        return self._token("bos", "eos")

    @property
    def tokenizer_name(self) -> str:
        """What lm_eval tells cached requests apart by."""
        return str(self.language_model.decoder.imported.name).replace("/", "__")

    def _token(self, *names: str) -> int:
        for name in names:
            if name in self._special:
                return self._special[name]
        raise ModelError("the model has neither a token that begins texts nor one that ends them: lm_eval needs one")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Tokens of a text, after a begin-of-text token if the model wants one and the text has none."""
        tokens = self._tokenizer.encode(string)
        start = self._tokenizer.vocabulary.start
        if start is not None and (add_special_tokens is False or (add_special_tokens is None and tokens[1:2] == [start])):
            del tokens[0]
        return tokens

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The model's chat template; there is one at most."""
        return self._tokenizer.chat_template if chat_template else None

    def apply_chat_template(self, chat_history: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as the model's chat template has it."""
        template = self._tokenizer.chat_template
        if template is None:
            raise ModelError("the model has no chat template: leave --apply_chat_template out")
        tokens = self._tokenizer.vocabulary.tokens
        names = {f"{name}_token": tokens[self._special[name]] for name in ("bos", "eos") if name in self._special}
        text = render_chat(template, chat_history, {**names, "add_generation_prompt": add_generation_prompt})
        if add_generation_prompt:
            return text
        # What the last turn says is to go on.
        said = chat_history[-1]["content"]
        return text[: text.rindex(said) + len(said)] if said in text else text

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **unused: Any
    ) -> list[tuple[float, bool]]:
        texts = [self._text(context, continuation) for _, context, continuation in requests]
        with _bar(len(texts), "judging texts", disable_tqdm) as bar:
            found = score(self.language_model.engine, texts, lambda count: _show(bar, count))
        results = [(likelihood.logprob, likelihood.is_greedy) for likelihood in found]
        for (key, _, _), result in zip(requests, results, strict=True):
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, result)
        return results

    def _text(self, context: list[int], continuation: list[int]) -> Text:
        if len(continuation) > self.max_length:
            raise LimitError(
                f"a continuation has {len(continuation)} tokens, and the context has room for {self.max_length}: load the model"
                " with a larger context"
            )
        tokens = (*context, *continuation)[-(self.max_length + 1) :]
        return Text(tokens, len(tokens) - len(continuation))

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Logarithms of the probabilities of whole texts, window by window."""
        windows: list[tuple[None, list[int], list[int]]] = []
        owners: list[int] = []
        for owner, request in enumerate(requests):
            pieces = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for piece in map(make_disjoint_window, pieces):
                windows.append((None, *piece))
                owners.append(owner)
        sums = [0.0] * len(requests)
        for owner, (logprob, _) in zip(owners, self._loglikelihood_tokens(windows, disable_tqdm), strict=True):
            sums[owner] += logprob
        for request, total in zip(requests, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return sums

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Answers, up to the texts that end them."""
        engine, answers = self.language_model.engine, list[Answer]()
        for request in requests:
            prompt, options, most = self._asked(*request.args)
            answers.append(engine.answer(len(answers), prompt[-(self.max_length - most) :], Holder(), wish_of(options)))
        # Alphabetically: what one prompt begins with is there already if the next one begins so, too.
        in_order = sorted(answers, key=lambda answer: answer.tokens)
        with _bar(len(answers), "answering", disable_tqdm) as bar:
            for piece in engine.pieces(in_order):
                bar.update(piece.finish_reason is not None)
        texts = [answer.completion().text for answer in answers]
        for request, text in zip(requests, texts, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return texts

    def _asked(self, context: str, asked: dict[str, Any]) -> tuple[list[int], Any, int]:
        """Tokens of a prompt, options of its answer, and tokens that this one may have."""
        arguments: dict[str, Any] = dict(normalize_gen_kwargs(asked, self.max_gen_toks))
        until, most = arguments.pop("until", None) or [], int(arguments.pop("max_gen_toks"))
        if arguments.pop("do_sample") is False:
            arguments = {
                name: value for name, value in arguments.items() if name not in ("temperature", "top_k", "top_p", "min_p")
            }
        unknown = sorted(set(arguments) - set(_SAMPLING))
        if unknown:
            raise ConfigError(f"a task asks for {unknown[0]}={arguments[unknown[0]]}, and known are {', '.join(_SAMPLING)}")
        if not 0 < most < self.max_length:
            raise LimitError(
                f"an answer of {most} tokens leaves no room for a prompt in a context of {self.max_length}: load the model with"
                " a larger context, or ask for less with --gen_kwargs max_gen_toks="
            )
        stops = [text for text in ([until] if isinstance(until, str) else until) if text]
        return self.tok_encode(context), {**arguments, "max_tokens": most, "stop": stops or None}, most


def _bar(total: int, what: str, disable: bool) -> Any:
    # A log gets a line now and then: whoever reads one wants to see that there is progress, too.
    quick = sys.stderr.isatty()
    return tqdm(total=total, desc=what, disable=disable, mininterval=0.1 if quick else _LOG_INTERVAL_S, ascii=not quick)


def _show(bar: Any, count: int) -> None:
    bar.update(count - bar.n)
