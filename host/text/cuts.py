"""How text is cut before byte-pair encoding, by the name that ``tokenizer.ggml.pre`` gives it.

A cut is a sequence of expressions: each isolates its matches in what the ones before have left. The expressions are those of
the models' own ``tokenizer.json``; the names, and the flags beside them, are those of llama.cpp.

Source: https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_NEW_LINES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_REST = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_NEW_LINES}"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_LLAMA3 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}|{_REST}"
_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_NEW_LINES}"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_REST_WITH_SLASH = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_NEW_LINES}"


def _cased(digits: str, contractions: str = "") -> str:
    """Words by their case, as GPT-4o has them."""
    before = r"[^\r\n\p{L}\p{N}]?"
    return rf"{before}{_UPPER}*{_LOWER}+{contractions}|{before}{_UPPER}+{_LOWER}*{contractions}|{digits}|{_REST_WITH_SLASH}"


_THREE_DIGITS = r"\p{N}{1,3}"
_CHINESE_JAPANESE = "[一-龥\u3040-ゟ゠-ヿ]+"
_DEEPSEEK3_WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_NEW_LINES}"
)
_DEEPSEEK3 = (_THREE_DIGITS, _CHINESE_JAPANESE, _DEEPSEEK3_WORDS)
#: Letters with case, of scripts that have it.
_CASED_LETTERS = (
    "A-Za-z\u00b5À-ÖØ-öø-ƺƼ-ƿ\u01c4-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-\u03f5Ϸ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛ"
    "ὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼ\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126"
    "\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149ⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿ\ufb00-\ufb06"
    "\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
_CJK = "[一-龥ࠀ-一가-\ud7ff]+"
_DEEPSEEK_PUNCTUATION = "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+"
_PUNCTUATION = r"[\p{P}\$\+<=>\^~\|`]+"


@dataclass(frozen=True)
class Cut:
    """How text is cut.

    Attributes
    ----------
    expressions : tuple of str
    whole_first : bool
        A piece that is a token as a whole is that token, whatever its merges.
    start : bool
        Text begins with a begin-of-text token, unless the file says otherwise.
    bytes : bool
        Tokens are spelled in the byte alphabet of GPT-2; otherwise in characters, with U+2581 for spaces.
    """

    expressions: tuple[str, ...]
    whole_first: bool = False
    start: bool = False
    bytes: bool = True

    def pieces(self, text: str) -> list[str]:
        """Cut a text."""
        return [piece for piece, _ in self._backend.pre_tokenize_str(text)]

    @cached_property
    def _backend(self) -> Any:
        from tokenizers import Regex, pre_tokenizers

        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(e), "isolated") for e in self.expressions])


def _named(names: str, *expressions: str, **flags: bool) -> dict[str, Cut]:
    return dict.fromkeys(names.split(), Cut(expressions, **flags))


CUTS: dict[str, Cut] = {
    **_named("default", r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
    **_named("gpt-2 gpt2 olmo mpt jais trillion granite-docling phi-2 gigachat a.x-4.0 mellum exaone4", _GPT2),
    **_named("jina-es jina-de jina-v2-es jina-v2-de jina-v1-en jina-v2-code roberta-bpe modern-bert", _GPT2),
    **_named("smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", _DIGIT, _GPT2),
    **_named(
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano", _LLAMA3, whole_first=True, start=True
    ),
    **_named("dbrx smaug-bpe chatglm-bpe", _LLAMA3),
    **_named("glm4 glm5", _LLAMA3, whole_first=True),
    **_named("minicpm5", _THREE_DIGITS, _LLAMA3.replace("{1,3}", "+"), whole_first=True),
    **_named("qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 hunyuan megrez solar-open grok-2", _QWEN2),
    **_named("qwen35", _QWEN35),
    **_named("tekken", _cased(_DIGIT), whole_first=True, start=True),
    **_named("gpt-4o llama4 kanana2 talkie minimax-m2", _cased(_THREE_DIGITS, _CONTRACTIONS + "?")),
    **_named("granite-embed-multi-97m", _cased(_THREE_DIGITS, _CONTRACTIONS + "?"), whole_first=True),
    **_named("tiny_aya cohere2moe", r"\d{1,3}(?=(?:\d{3})*\b)", _cased(_THREE_DIGITS, _CONTRACTIONS + "?")),
    **_named("deepseek-llm", r"[\r\n]", rf"\s?[{_CASED_LETTERS}]+", _DEEPSEEK_PUNCTUATION, r"\s+\z", _CJK, r"\p{N}+"),
    **_named("deepseek-coder", r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, _DIGIT),
    **_named("deepseek-v3 hunyuan-dense joyai-llm hy_v4", *_DEEPSEEK3),
    **_named(
        "youtu",
        "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|" + _CHINESE_JAPANESE,
        _cased(_DIGIT, _CONTRACTIONS + "?"),
        whole_first=True,
    ),
    **_named("falcon", _PUNCTUATION, _GPT2, "[0-9][0-9][0-9]"),
    **_named("poro-chat bloom gpt3-finnish", r" ?[^(\s|.,!?…。，、।۔،)]+"),
    **_named("viking", r" ?[^(\s|.,!?…。，、।۔،)]+", _DIGIT),
    **_named(
        "bailingmoe bailingmoe2 llada-moe",
        rf"'(?i:[sdmt]|ll|ve|re)|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    ),
    **_named("seed-coder", rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_NEW_LINES}"),
    **_named("ufakzeka", rf"{_WORD}|\p{{N}}|{_REST}"),
    **_named("laguna", r"[^\n]+|[\n]+", _QWEN2),
    **_named("gemma4", r"[^\n]+|[\n]+", bytes=False, start=True),
    **_named("sarvam-moe", r"[^\n]+|[\n]+", bytes=False),
}

#: Whose merges these are, by SHA-256 of all of them, one a line. Those of mpt are GPT-NeoX's.
_OWNERS = {
    "1101bfa1f9e8faaa15ffbdd1ae5de6a48b1f1ec10e97795cb0d946ba34008cae": "command-r",
    "3c86e94c54c92cfe01551f9be25d55b07d2aed8826a04b4036b7a0adc9af6324": "deepseek-coder",
    "cb5bed793622288a0e1b699c5c4edad6ab40c361a3f52d3c645ae3f9806388e3": "deepseek-llm",
    "26a620e10c7991c8451a09d21f8313932eff101916c64a874c738ccd6b88736d": "falcon",
    "04e3597d7996f292ca9b8b7285ca4d58a6ae171ac47d73fc7140ceb0c7a6bbc0": "gpt-2",
    "0cd100e0ab7dbd83c3b668a7cfb2aed1f63f2aec66dae6ec4b63de2c552bb82d": "llama-bpe",
    "0a1f07b1d32153dcdf48f57189b0c217a69b11e11a3bee8a053861987e1640e4": "mpt",
    "bbeef245f0b03a9613753068e5799c2496290005594c68f09eed68feedbe6d1f": "qwen2",
    "da302fc35c8c328471559ef6cba43496da6a050d2b7575ea633888611b2d0ac8": "refact",
    "aea6ed50becdb3beed814d2fde2dea2e655d1039addf269d74a4708ce2ed4d63": "smollm",
    "8715d8d6d92d1b0c267157f82cff55e0bfd0983ea256b42b7a16fc82873a2b67": "starcoder",
}


def owner(merges: Sequence[str]) -> str | None:
    """Name of the cut that belongs to merges, where they are known to the last."""
    return _OWNERS.get(hashlib.sha256("\n".join(merges).encode()).hexdigest())
