"""The tables of a tokenizer, as a GGUF file has them, read without a silent guess.

What a file leaves out is found where it is certain, with a note; what contradicts itself is noted or refused. Which tokens end
an answer, and which swallow the blanks beside them, no file says in full: that is known by their names, as in llama.cpp.

Source: https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from numpy.typing import NDArray

from tailrace.spec.errors import ModelError

from ..gguf.file import Model
from ..gguf.header import Header
from ..gguf.printable import shortened
from .cuts import CUTS, Cut, owner


class TokenType(IntEnum):
    """What a token is, in ``tokenizer.ggml.token_type``."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


#: Kinds of vocabulary, by ``tokenizer.ggml.model``.
KINDS = {"gpt2": "byte-level BPE", "llama": "SentencePiece", "gemma4": "BPE with spaces as U+2581"}
#: Tokens that end an answer, whatever their type; files name only one of them.
_ENDS = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>", "<|endoftext|>",
    "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>",
    "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
)  # fmt: skip
#: Tokens for filling text in, by the key that may name them. The last three end an answer, too.
_FILL_IN = {
    "fim_pre": (
        "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>", "<|prefix|>",
    ),
    "fim_suf": (
        "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>", "<|suffix|>",
    ),
    "fim_mid": (
        "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>", "<|middle|>",
    ),
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}  # fmt: skip
_FILL_IN_ENDS = ("fim_pad", "fim_rep", "fim_sep")
#: Harmony's marks, which are part of what a model says.
_SPOKEN = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")
#: Special tokens of SentencePiece that are where they always are, if the file names none.
_USUAL = {"unknown": (0, "<unk>"), "bos": (1, "<s>"), "eos": (2, "</s>")}
#: Tokens that only Phi-3's vocabulary has at these places.
_PHI3 = {32000: "<|endoftext|>", 32001: "<|assistant|>", 32007: "<|end|>", 32010: "<|user|>"}
_BYTE_NAME = re.compile("<0x([0-9A-Fa-f]{2})>")
#: What a token looks like that nobody would write in a text.
_MARK = re.compile(r"[<\[].+[>\]]", re.DOTALL)


@dataclass
class Vocabulary:
    """A tokenizer's tables.

    Attributes
    ----------
    kind : str
        ``tokenizer.ggml.model``.
    tokens : list of str
        Texts, by token.
    types : list of int
        By token, see `TokenType`.
    ids : dict of str to int
        Tokens by their texts; of several with one text the last, as in llama.cpp.
    scores : list of float
        By token; empty where the kind needs none.
    merges : list of str
        Empty where the kind needs none.
    cut : Cut or None
    cut_name : str
    special : dict of str to int
        Tokens by their part: bos, eos, eot, eom, unknown, padding.
    ends : frozenset of int
        Tokens that end an answer.
    start : int or None
        The token that text begins with.
    space_prefix : bool
        Whether text begins with a space that it does not have, and what follows a control token, too.
    space_once : bool
        Whether that is so of the beginning alone, and not if there is a space already.
    strip_left, strip_right : frozenset of int
        Tokens that swallow the blanks before, and after them.
    notes : list of str
        What a user should know of it.
    """

    kind: str
    tokens: list[str]
    types: list[int]
    ids: dict[str, int]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    cut: Cut | None = None
    cut_name: str = ""
    special: dict[str, int] = field(default_factory=dict)
    ends: frozenset[int] = frozenset()
    start: int | None = None
    space_prefix: bool = False
    space_once: bool = False
    strip_left: frozenset[int] = frozenset()
    strip_right: frozenset[int] = frozenset()
    notes: list[str] = field(default_factory=list)

    def of_type(self, *types: int) -> list[int]:
        """Tokens of some types."""
        return [i for i, t in enumerate(self.types) if t in types]

    def named(self, ids: Iterable[int]) -> str:
        """Some tokens, for a message: the first few, with their texts."""
        ids = sorted(ids)
        some = ", ".join(f"{i} '{shortened(self.tokens[i])}'" for i in ids[:4])
        return some + (f" and {len(ids) - 4:,} more" if len(ids) > 4 else "")


def byte_of(text: str) -> int | None:
    """The byte that a token such as ``<0x0A>`` stands for."""
    match = _BYTE_NAME.fullmatch(text)
    return None if match is None else int(match[1], 16)


def read_vocabulary(model: Model) -> Vocabulary:
    """Read the tables of a model's tokenizer.

    Raises
    ------
    ModelError
        If there are none, if they are of an unknown kind, or if they contradict each other so that text can't be told.
    """
    header = _Header(model.header)
    kind, tokens = header.text("model"), header.texts("tokens")
    if kind is None or not tokens:
        raise ModelError(f"{model.path} has no tokenizer: convert the model again")
    if kind not in KINDS:
        known = ", ".join(map(repr, KINDS))
        raise ModelError(
            f"{model.path} has a tokenizer of the kind '{shortened(kind)}', and only {known} are known here: --path operations"
            " uses that of transformers"
        )
    v = Vocabulary(kind, tokens, [TokenType.NORMAL] * len(tokens), {text: i for i, text in enumerate(tokens) if text})
    _compare_sizes(v, model)
    types = header.types(len(tokens))
    v.types = types or v.types
    _read_special(v, header)
    _mend_types(v, types is not None)
    if kind == "llama":
        _read_scores(v, header)
    else:
        _read_merges(v, header)
    _find_ends(v, header)
    _find_start(v, header)
    _find_strips(v, header)
    _note_oddities(v)
    return v


class _Header:
    """The values of a file's header that are about its tokenizer."""

    def __init__(self, header: Header) -> None:
        self.path, self._header = header.path, header

    def text(self, name: str) -> str | None:
        return self._header.text(key) if (key := _key(name)) in self._header else None

    def flag(self, name: str, default: bool) -> bool:
        return self._header.boolean(_key(name), default)

    def token(self, name: str) -> int | None:
        """A token's number, wherever it leads."""
        return self._header.integer(key, -1 << 31, 1 << 32) if (key := _key(name)) in self._header else None

    def texts(self, name: str) -> list[str]:
        return self._header.texts(_key(name), default=[])

    def model_name(self) -> str:
        return self._header.text("general.name", "").lower()

    def cut(self) -> Cut | None:
        """How text is cut, where a model says it in expressions."""
        expressions = self._header.texts("tokenizer.cut.expressions", default=[])
        return Cut(tuple(expressions), self._header.boolean("tokenizer.cut.whole_first", False)) if expressions else None

    def space_once(self) -> bool:
        """Whether a space is put before the beginning alone; no GGUF file says so, and Hugging Face's folders may."""
        return self._header.boolean("tokenizer.cut.space_once", False)

    def types(self, tokens: int) -> list[int] | None:
        key = _key("token_type")
        return self._whole(key, self._header.integers(key, -1 << 31, 1 << 31), tokens) if key in self._header else None

    def scores(self, tokens: int) -> list[float]:
        key = _key("scores")
        if key not in self._header:
            raise ModelError(f"{self.path} has a tokenizer without scores: convert the model again")
        return self._whole(key, self._header.reals(key, -1e38, 1e38), tokens)

    def _whole(self, key: str, values: NDArray[Any], tokens: int) -> list[Any]:
        """Check that there is a value for each token."""
        if len(values) < tokens:
            raise ModelError(
                f"{self.path} is corrupt: it has {tokens:,} tokens, but {key} has {len(values):,} values."
                " Convert the model again."
            )
        return values[:tokens].tolist()


def _key(name: str) -> str:
    return f"tokenizer.ggml.{name}"


def _compare_sizes(v: Vocabulary, model: Model) -> None:
    rows, tokens = model.tensors["token_embd.weight"].rows, len(v.tokens)
    if tokens > rows:
        raise ModelError(
            f"{model.path} is corrupt: its vocabulary has {tokens:,} tokens, but token_embd.weight has {rows:,} rows."
            " Convert the model again."
        )
    if tokens < rows:
        v.notes.append(
            f"the last {rows - tokens:,} of {rows:,} tokens that the model can choose have no text, and print as nothing"
        )


def _read_special(v: Vocabulary, header: _Header) -> None:
    for part in ("bos", "eos", "eot", "eom", "unknown", "padding"):
        key = _key(f"{part}_token_id")
        index = header.token(f"{part}_token_id")
        if index is not None and not 0 <= index < len(v.tokens):
            v.notes.append(f"{key} is {index:,}, but there are {len(v.tokens):,} tokens: it is left out")
            index = None
        usual, name = _USUAL.get(part, (0, ""))
        if index is None and v.kind == "llama" and v.ids.get(name) == usual:
            v.notes.append(f"{key} names no token: it is {usual} {name!r}, as usual")
            index = usual
        if index is not None:
            v.special[part] = index


def _mend_types(v: Vocabulary, there: bool) -> None:
    """Types that certainly are other than the file says, or that it does not say at all."""
    if not there:
        v.notes.append("tokenizer.ggml.token_type is missing: bytes and special tokens are told by their names")
    known = frozenset(map(int, TokenType))
    unheard = [i for i, t in enumerate(v.types) if t not in known]
    if unheard:
        v.notes.append(f"{v.named(unheard)} have unknown types: they are taken as ordinary tokens")
    for i in unheard:
        v.types[i] = TokenType.NORMAL
    for i in v.of_type(TokenType.BYTE):
        if byte_of(v.tokens[i]) is None:
            v.notes.append(f"{v.named([i])} is typed as a byte, but does not look like one: it is taken as an ordinary token")
            v.types[i] = TokenType.NORMAL
    if v.kind != "gpt2":
        by_name = {i for text, i in v.ids.items() if byte_of(text) is not None}
        wrong = [i for i in by_name if v.types[i] != TokenType.BYTE]
        if len(by_name) >= 256 and wrong:
            if there:
                v.notes.append(f"{v.named(wrong)} are not typed as bytes: they are taken as bytes, by their names")
            for i in wrong:
                v.types[i] = TokenType.BYTE
    unknown = v.special.get("unknown")
    if unknown is not None and not there:
        v.types[unknown] = TokenType.UNKNOWN
    marks = {i for part, i in v.special.items() if part in ("bos", "eos", "eot", "eom") and _MARK.fullmatch(v.tokens[i])}
    _make_control(v, marks, "the header names them")


def _make_control(v: Vocabulary, ids: Iterable[int], why: str) -> None:
    wrong = {i for i in ids if v.types[i] != TokenType.CONTROL}
    if wrong:
        v.notes.append(f"{v.named(wrong)}: not typed as control tokens, but {why}, so they are taken as such")
    for i in wrong:
        v.types[i] = TokenType.CONTROL


def _read_scores(v: Vocabulary, header: _Header) -> None:
    v.scores = header.scores(len(v.tokens))
    v.space_prefix, v.space_once = header.flag("add_space_prefix", True), header.space_once()


def _read_merges(v: Vocabulary, header: _Header) -> None:
    merges = header.texts("merges")
    if not merges:
        raise ModelError(f"{header.path} has a tokenizer of the kind {v.kind!r} without merges: convert the model again")
    v.merges = merges
    if (cut := header.cut()) is not None:
        v.cut, v.cut_name = cut, "tokenizer.json"
        return
    name = "gemma4" if v.kind == "gemma4" else header.text("pre")
    if not name and (name := owner(merges)) is not None:
        v.notes.append(f"tokenizer.ggml.pre is missing: text is cut by the rules of {name!r}, whose merges these are")
    elif not name:
        name = "default"
        v.notes.append(
            "tokenizer.ggml.pre is missing, and the merges are not known here: text is cut by the rules that llama.cpp takes"
            " then, WHICH MAY NOT BE THE MODEL'S, and answers may be worse. Convert the model again."
        )
    if name not in CUTS:
        raise ModelError(
            f"{header.path} cuts text by the rules of '{shortened(name)}', which are not known here: --path operations uses"
            f" those of transformers. Known are {', '.join(sorted(CUTS))}."
        )
    v.cut, v.cut_name = CUTS[name], name
    if header.flag("add_space_prefix", False):
        # llama.cpp obeys it in SentencePiece alone.
        v.notes.append("tokenizer.ggml.add_space_prefix is set, but byte pairs are merged without a space before the text")


def _find_ends(v: Vocabulary, header: _Header) -> None:
    named = {v.ids[name] for name in _ENDS if name in v.ids}
    fill_in = {}
    for part, names in _FILL_IN.items():
        index = header.token(f"{part}_token_id")
        if index is None or not 0 <= index < len(v.tokens):
            index = next((v.ids[name] for name in names if name in v.ids), None)
        if index is not None:
            fill_in[part] = index
    _make_control(v, named | set(fill_in.values()), "their names are those of control tokens")
    for text in _SPOKEN:
        if text in v.ids:
            v.types[v.ids[text]] = TokenType.USER_DEFINED
    ends = named | {fill_in[part] for part in _FILL_IN_ENDS if part in fill_in}
    ends |= {v.special[part] for part in ("eos", "eot", "eom") if part in v.special}
    texts = {v.tokens[i] for i in ends}
    harmony = {"<|return|>", "<|call|>"} <= texts or ("<|flush|>" in texts and texts & {"<|call|>", "<|calls|>"})
    if harmony and "<|end|>" in texts:
        # Here it only ends a part of an answer.
        ends.remove(v.ids["<|end|>"])
        v.types[v.ids["<|end|>"]] = TokenType.USER_DEFINED
    if texts & {"<|tool_response>", "<|plamo:eos|>"} and "</s>" in texts:
        # Here it is a word of HTML.
        ends.remove(v.ids["</s>"])
        v.types[v.ids["</s>"]] = TokenType.NORMAL
    v.ends = frozenset(ends)
    if not ends:
        v.notes.append("no token ends an answer: it goes on to the last token that was asked for")


def _find_start(v: Vocabulary, header: _Header) -> None:
    starts = header.flag("add_bos_token", v.cut is None or v.cut.start)
    if starts and "bos" not in v.special:
        v.notes.append("text should begin with a begin-of-text token, but the header names none: it begins without")
    v.start = v.special.get("bos") if starts else None
    if header.flag("add_eos_token", False):
        v.notes.append("tokenizer.ggml.add_eos_token is set, but no end is put after a prompt, which is to be continued")


def _find_strips(v: Vocabulary, header: _Header) -> None:
    name = header.model_name()
    if "phi-3" in name or "phi3" in name or all(v.ids.get(text) == i for i, text in _PHI3.items()):
        special = v.of_type(TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
        v.strip_right = frozenset(i for i in special if v.tokens[i] not in ("<unk>", "<s>", "<|endoftext|>"))
    mask = "<mask>" if v.cut_name.startswith("jina-v2-") else "[MASK]" if "modern-bert" in name else None
    if mask in v.ids:
        v.strip_left = frozenset([v.ids[mask]])


def _note_oddities(v: Vocabulary) -> None:
    doubles = [i for i, text in enumerate(v.tokens) if text and v.ids[text] != i]
    if doubles:
        v.notes.append(f"{v.named(doubles)}: later tokens have the same texts, and text becomes those")
    if v.cut is None:
        return
    unmade = sum(pair.replace(" ", "", 1) not in v.ids for pair in v.merges)
    if unmade:
        v.notes.append(
            f"{unmade:,} of {len(v.merges):,} merges make texts that are no tokens: these are spelled in smaller ones"
        )
