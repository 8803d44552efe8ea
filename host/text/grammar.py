"""Grammars: which texts an answer may be, and which tokens may follow. llguidance does the work.

Source: https://github.com/guidance-ai/llguidance
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.errors import ConfigError, MissingPackage, TailraceError

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from .tokenizer import Tokenizer

#: Blanks between two parts of JSON: a line's end and an indent. Without a bound a small model goes on with blanks for ever.
_BLANKS = r"\n?[ \t]{0,20}"
#: How JSON is read; llguidance's own names.
_JSON: Any = {"whitespace_flexible": True, "whitespace_pattern": _BLANKS}
#: Compiled grammars that are kept.
_KEPT = 16


@dataclass(frozen=True)
class Grammar:
    """Which texts an answer may be. Made by one of `json_schema`, `json_object`, `regex`, `choice` and `text`.

    Attributes
    ----------
    source : str
        As llguidance reads it.
    """

    source: str

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | str) -> Self:
        """JSON that fits a schema.

        Raises
        ------
        ConfigError
            If it is no JSON object. What llguidance does not know in it is told when the grammar is used.
        """
        try:
            given = json.dumps(schema) if isinstance(schema, Mapping) else schema
            return cls(_free(json.loads(_matcher().grammar_from_json_schema(given, overrides=_JSON))["grammars"][0]))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"a JSON schema must be a JSON object: {error}") from None

    @classmethod
    def json_object(cls) -> Self:
        """Any JSON object."""
        return cls.json_schema({"type": "object"})

    @classmethod
    def regex(cls, pattern: str) -> Self:
        """Texts that a regular expression matches as a whole, in the syntax of Rust's ``regex``."""
        return cls(_free(json.loads(_matcher().grammar_from_regex(pattern))["grammars"][0]))

    @classmethod
    def choice(cls, texts: Sequence[str]) -> Self:
        """One of some texts.

        Raises
        ------
        ConfigError
            If there are none.
        """
        if isinstance(texts, str) or not texts or not all(isinstance(text, str) for text in texts):
            raise ConfigError(f"a choice must be a list of texts that is not empty, not {texts!r}")
        return cls.text("start: " + " | ".join(json.dumps(text) for text in texts))

    @classmethod
    def text(cls, grammar: str) -> Self:
        """A grammar in llama.cpp's GBNF, or in llguidance's Lark.

        Raises
        ------
        ConfigError
            If GBNF has an error. One in Lark is told when the grammar is used.
        """
        _matcher()
        from llguidance.gbnf_to_lark import any_to_lark

        if not isinstance(grammar, str) or not grammar.strip():
            raise ConfigError(f"a grammar must be a text in GBNF or Lark, not {grammar!r}")
        try:
            lark = any_to_lark(grammar)
        except Exception as error:  # its parser says what is wrong by exceptions of many kinds
            raise ConfigError(f"the grammar is no GBNF: {error}") from None
        return cls.lark(lark)

    @classmethod
    def lark(cls, grammar: str) -> Self:
        """A grammar in llguidance's Lark. An error in it is told when it is used."""
        _matcher()
        return cls(_free({"lark_grammar": grammar}))


def json_rule(schema: Mapping[str, Any]) -> str:
    """What stands in a rule of Lark for JSON that fits a schema."""
    return f"%json {json.dumps({**schema, 'x-guidance': _JSON})}"


def _free(grammar: dict[str, Any]) -> str:
    """A grammar in which any tokens that fit may follow, also where the text is certain: it stays the model that chooses."""
    outer = '%llguidance {"no_forcing": true}\nstart: @inner'
    return json.dumps({"grammars": [{"lark_grammar": outer}, {**grammar, "name": "inner"}]})


def grammar_of_format(form: Mapping[str, Any]) -> Grammar | None:
    """The grammar that OpenAI's ``response_format`` asks for; None for plain text.

    Raises
    ------
    ConfigError
        If it asks for something else.
    """
    kind = form.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        schema = form.get("schema")
        return Grammar.json_object() if schema is None else Grammar.json_schema(schema)
    if kind == "json_schema":
        wrapped = form.get("json_schema")
        schema = wrapped.get("schema") if isinstance(wrapped, Mapping) else None
        if not isinstance(schema, Mapping):
            raise ConfigError("response_format must have the schema, an object, as its json_schema.schema")
        return Grammar.json_schema(schema)
    raise ConfigError(f"response_format must be of type text, json_object or json_schema, not {kind!r}")


class GrammarState:
    """Where an answer is in its grammar.

    Parameters
    ----------
    matcher : LLMatcher
        Belongs to this object.
    size : int
        Tokens that the vocabulary has.
    """

    def __init__(self, matcher: "LLMatcher", size: int) -> None:
        self._matcher, self._size = matcher, size

    @property
    def is_complete(self) -> bool:
        """Whether nothing may follow."""
        return self._matcher.is_stopped()

    def mask(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of shape (vocabulary,), with -inf for all tokens that may not follow.

        Raises
        ------
        TailraceError
            If the grammar has become too complex.
        """
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        self._check()
        allowed = np.zeros(len(logits), bool)
        allowed[: self._size] = bits[: self._size]
        return np.where(allowed, logits, np.float32(-np.inf))

    def take(self, token: int) -> None:
        """Go on by a token.

        Raises
        ------
        TailraceError
            If it may not follow.
        """
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise TailraceError(f"the grammar can't be followed any further: {_reason(self._matcher.get_error())}")


class Grammars:
    """What grammars know of a vocabulary. Built when the first grammar is used; from any thread.

    Parameters
    ----------
    tokenizer : Tokenizer
    """

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer, self._lock = tokenizer, threading.Lock()
        self._vocabulary: Any = None
        self._compiled: OrderedDict[Grammar, LLMatcher] = OrderedDict()

    def begin(self, grammar: Grammar) -> GrammarState:
        """The beginning of an answer.

        Raises
        ------
        ConfigError
            If the grammar has an error, or something that llguidance does not know.
        """
        with self._lock:
            if grammar not in self._compiled:
                if self._vocabulary is None:
                    self._vocabulary = _vocabulary(self._tokenizer)
                compiled = _matcher()(self._vocabulary, grammar.source, log_level=0)
                if compiled.is_error():
                    raise ConfigError(f"the grammar can't be used: {_reason(compiled.get_error())}")
                self._compiled[grammar] = compiled
                if len(self._compiled) > _KEPT:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(grammar)
            return GrammarState(self._compiled[grammar].deep_copy(), len(self._tokenizer.vocabulary.tokens))


def _matcher() -> "type[LLMatcher]":
    try:
        from llguidance import LLMatcher
    except ImportError:
        raise MissingPackage("llguidance", "for grammars and JSON schemas", "grammar") from None
    return LLMatcher


class _Tokens:
    """A vocabulary, as llguidance asks for it."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        v = tokenizer.vocabulary
        texts = [tokenizer.token_bytes(token) for token in range(len(v.tokens))]
        #: Tokens without a text can only be asked for by their names.
        self.special_token_ids = [token for token, text in enumerate(texts) if not text]
        self.tokens = [text or (name or f"<[{token}]>").encode() for token, (text, name) in enumerate(zip(texts, v.tokens))]
        self.bos_token_id = v.special.get("bos")
        self._encode = tokenizer.encode
        # A vocabulary without one gets a token behind its last, which no mask ever reaches.
        self.ends = sorted(v.ends) or [len(v.tokens)]
        if not v.ends:
            self.special_token_ids.append(len(v.tokens))
            self.tokens.append(b"<end>")
        self.eos_token_id = self.ends[0]

    def __call__(self, text: str) -> list[int]:
        return self._encode(text, False)


def _vocabulary(tokenizer: "Tokenizer") -> Any:
    from llguidance import LLTokenizer, TokenizerWrapper

    tokens = _Tokens(tokenizer)
    return LLTokenizer(TokenizerWrapper(tokens), n_vocab=len(tokens.tokens), eos_token=tokens.ends)


def _reason(error: str) -> str:
    """What is wrong, without the state of the parser behind it."""
    return error.split("\n<state>")[0].strip().removesuffix(".")
