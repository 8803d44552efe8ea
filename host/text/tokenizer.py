"""The tokenizer of a GGUF file, without PyTorch and transformers.

Two kinds of vocabulary are known: byte-level BPE (`gpt2`), for which the `tokenizers` package does the work, and SentencePiece
with scores (`llama`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from tailrace.spec.errors import ModelError

from ..gguf.file import Model
from .chat import render_chat
from .sentencepiece import SentencePiece

#: Types of tokens in a GGUF file.
_CONTROL, _USER_DEFINED, _BYTE = 3, 4, 6
#: Tokens that end an answer, by their usual names; files name only one of them.
_END_NAMES = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>",
)  # fmt: skip

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_REST_WITH_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}|{_REST_WITH_SLASH}"
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}|{_REST_WITH_SLASH}"
)
#: How text is cut before merging, by ``tokenizer.ggml.pre``: by an expression, or (`None`) as GPT-2 does it, or ("digits") as
#: GPT-2 does it after every digit has been set apart.
_CUTS: dict[str, str | None] = {
    **dict.fromkeys(("default", "gpt-2", "gpt2", "olmo", "mpt", "jais", "trillion", "granite-docling", "phi-2")),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), "digits"),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "dbrx", "smaug-bpe", "lfm2"), _LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"), _QWEN2),
    "tekken": _TEKKEN,
    **dict.fromkeys(("gpt-4o", "llama4"), _GPT4O),
}
#: Whose merges are left out where a whole piece of text is a token.
_WHOLE_PIECES = (_LLAMA3, _TEKKEN)
#: Whose text starts with a begin-of-text token unless the file says otherwise.
_WITH_START = ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "tekken")


class _Vocabulary(Protocol):
    def encode(self, text: str, at_start: bool = True) -> list[int]: ...

    def decode(self, ids: Sequence[int], at_start: bool = True) -> str: ...


class Tokenizer:
    """Text to tokens and back.

    Parameters
    ----------
    model : Model

    Attributes
    ----------
    ends : frozenset of int
        Tokens that end an answer.
    chat_template : str or None

    Raises
    ------
    ModelError
        If the file has no vocabulary, or one of an unknown kind.
    """

    def __init__(self, model: Model) -> None:
        self._path, self._metadata = model.path, model.metadata
        read = _Arrays(model)
        kind = self._value("model")
        self._tokens: list[str] = read("tokens") or []
        if kind is None or not self._tokens:
            raise ModelError(f"{model.path} has no tokenizer: convert the model again")
        types = read("token_type") or [1] * len(self._tokens)
        self._special = frozenset(i for i, t in enumerate(types) if t == _CONTROL)
        pre = str(self._value("pre", "default"))
        if kind == "gpt2":
            self._vocabulary: _Vocabulary = _byte_level(model, self._tokens, types, read("merges") or [], pre)
            starts = pre in _WITH_START
        elif kind == "llama":
            self._vocabulary, starts = self._sentencepiece(types, read("scores")), True
        else:
            raise ModelError(
                f"{model.path} has a tokenizer of the kind {kind!r}, and only 'gpt2' and 'llama' are known here:"
                " --path operations uses that of transformers"
            )
        self._start = self._value("bos_token_id") if self._value("add_bos_token", starts) else None
        named = {self._tokens.index(name) for name in _END_NAMES if name in self._tokens}
        stated = (self._value(f"{n}_token_id") for n in ("eos", "eot", "eom"))
        self.ends = frozenset((named & self._special) | {i for i in stated if i is not None})
        self.chat_template: str | None = model.metadata.get("tokenizer.chat_template")

    def encode(self, text: str, at_start: bool = True) -> list[int]:
        """Tokens of a text as it is, after a begin-of-text token if the model wants one.

        Parameters
        ----------
        text : str
        at_start : bool
            False: it goes on from another text.
        """
        start = [int(self._start)] if at_start and self._start is not None else []
        return start + self._vocabulary.encode(text, at_start)

    def encode_chat(self, conversation: str | Sequence[Mapping[str, str]]) -> list[int]:
        """Tokens of a conversation, up to where the model is to answer.

        Parameters
        ----------
        conversation : str, or sequence of mapping
            Messages, each with a ``role`` and its ``content``; or what a user says, without a word before it.

        Raises
        ------
        ModelError
            If the model has no chat template, or one that fails.
        """
        if not self.chat_template:
            raise ModelError(f"{self._path} has no chat template: give --raw to continue the prompt as it is")
        names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
        ids = {name: self._value(f"{key}_token_id") for name, key in names.items()}
        special = {name: self._tokens[i] for name, i in ids.items() if i is not None}
        messages = [{"role": "user", "content": conversation}] if isinstance(conversation, str) else conversation
        text = render_chat(self.chat_template, messages, special)
        return self._vocabulary.encode(text)

    def decode(self, ids: Iterable[int], at_start: bool = True) -> str:
        """Text of tokens, without special ones; `at_start`: they are the first of their text."""
        return self._vocabulary.decode([i for i in ids if i not in self._special], at_start)

    def stream(self, write: Callable[[str], None]) -> "TextStream":
        """A place for generated tokens, which hands their text on as soon as it is whole."""
        return TextStream(self, write)

    def _value(self, key: str, default: Any = None) -> Any:
        return self._metadata.get(f"tokenizer.ggml.{key}", default)

    def _sentencepiece(self, types: Sequence[int], scores: Sequence[float] | None) -> SentencePiece:
        if scores is None:
            raise ModelError(f"{self._path} has a tokenizer without scores: convert the model again")
        bytes_of = {i: int(self._tokens[i][1:-1], 16) for i, t in enumerate(types) if t == _BYTE}
        whole = [i for i, t in enumerate(types) if t in (_CONTROL, _USER_DEFINED)]
        return SentencePiece(
            self._tokens, scores, bytes_of, whole, bool(self._value("add_space_prefix", True)), self._value("unknown_token_id")
        )


class TextStream:
    """Hands text on, token by token, but no half characters."""

    def __init__(self, tokenizer: Tokenizer, write: Callable[[str], None]) -> None:
        self._tokenizer, self._write = tokenizer, write
        self._ids: list[int] = []
        self._given = ""

    def put(self, token: int) -> None:
        """Take a token."""
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids, at_start=False)
        if not text.endswith("\ufffd"):
            self._give(text)

    def end(self) -> None:
        """Hand on what is left: half a character becomes U+FFFD."""
        self._give(self._tokenizer.decode(self._ids, at_start=False))

    def _give(self, text: str) -> None:
        self._write(text[len(self._given) :])
        self._given = text


class _Arrays:
    """The arrays of a header."""

    def __init__(self, model: Model) -> None:
        self._header = model.header

    def __call__(self, name: str) -> list[Any] | None:
        key = f"tokenizer.ggml.{name}"
        if key not in self._header:
            return None
        if name in ("tokens", "merges"):
            return self._header.texts(key)
        if name == "scores":
            return self._header.reals(key, -1e38, 1e38).tolist()
        return self._header.integers(key, 0, 6).tolist()


class _ByteLevel:
    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def encode(self, text: str, at_start: bool = True) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int], at_start: bool = True) -> str:
        return self._backend.decode(list(ids), skip_special_tokens=False)


def _byte_level(model: Model, tokens: list[str], types: Sequence[int], merges: list[str], pre: str) -> _ByteLevel:
    from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    if pre not in _CUTS:
        raise ModelError(
            f"{model.path} cuts text by the rules of {pre!r}, which are not known here: --path operations uses those of"
            " transformers"
        )
    cut = _CUTS[pre]
    vocabulary = {text: index for index, text in enumerate(tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    backend = Backend(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=cut in _WHOLE_PIECES))
    if cut in (None, "digits"):
        steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if cut else []
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    else:
        steps = [
            pre_tokenizers.Split(Regex(cut), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.ByteLevel()
    whole = [(text, t) for text, t in zip(tokens, types, strict=True) if t in (_CONTROL, _USER_DEFINED)]
    backend.add_special_tokens([AddedToken(text, normalized=False, special=True) for text, t in whole if t == _CONTROL])
    backend.add_tokens([AddedToken(text, normalized=False) for text, t in whole if t == _USER_DEFINED])
    return _ByteLevel(backend)
