"""From tokenizer.json and the files beside it to what a GGUF file's header says of its tokenizer.

A GGUF file names the rules by which text is cut; a tokenizer.json has the expressions themselves, and so they are handed on:
``tokenizer.cut.expressions`` and ``tokenizer.cut.whole_first`` (`tailrace.text.cuts.Cut`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tailrace.spec.errors import ModelError

from ..printable import shortened
from .json_file import Values

TOKENIZER, SETTINGS, GENERATION = "tokenizer.json", "tokenizer_config.json", "generation_config.json"
TEMPLATE = "chat_template.jinja"
_MAX_TOKENS = 1 << 24
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_SPACE = "\u2581"
#: What byte-level BPE cuts by if it says nothing else (GPT-2).
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def tokenizer_values(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Header values about the tokenizer; none if the folder has no tokenizer.json.

    Parameters
    ----------
    folder : Path
    config : dict
        What config.json holds.

    Raises
    ------
    ModelError
        If the tokenizer is of a kind that is not known here, or damaged.
    """
    values = _template(folder)
    path = folder / TOKENIZER
    if not path.exists():
        return values
    file = Values.read(path)
    model = file.inner("model")
    if model.text("type", "BPE") != "BPE":
        raise model.unexpected("type", "'BPE'")
    tokens, types = _tokens(file, model)
    merges = [_merge(model, merge) for merge in model.items("merges")]
    values |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    steps = list(_steps(file, "pre_tokenizer", "pretokenizers"))
    if any(step.text("type") == "ByteLevel" for step in steps):
        values |= {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.merges": merges,
            "tokenizer.cut.expressions": _expressions(steps),
            "tokenizer.cut.whole_first": model.flag("ignore_merges", False),
        }
    elif model.flag("byte_fallback", False):
        values |= {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.scores": _scores(tokens, merges),
            "tokenizer.ggml.add_space_prefix": _adds_space(file, steps),
            "tokenizer.cut.space_once": any(_metaspace(steps, "first")),
        }
    else:
        raise ModelError(f"{path} can't be used: its BPE has neither bytes as characters nor bytes as tokens")
    return values | _special(folder, file, tokens, config)


def _tokens(file: Values, model: Values) -> tuple[list[str], list[int]]:
    """Texts and types by token; what no name leads to is unused."""
    vocabulary = dict(model.inner("vocab").unasked())
    added = [Values(file.path, token, f"added_tokens[{n}].") for n, token in enumerate(file.items("added_tokens"))]
    names = vocabulary | {token.text("content"): token.integer("id", 0, _MAX_TOKENS) for token in added}
    if not names or not all(type(i) is int and 0 <= i < _MAX_TOKENS for i in names.values()):
        raise ModelError(f"{file.path} is corrupt: its tokens are no numbers below {_MAX_TOKENS}. Download it again.")
    size = max(names.values()) + 1
    if size > 2 * len(names) + 4096:
        raise ModelError(
            f"{file.path} is corrupt: it has {len(names)} tokens, with numbers up to {size - 1}. Download it again."
        )
    tokens, types = [f"[PAD{n}]" for n in range(size)], [_UNUSED] * size
    unknown, bytes_ = model.text("unk_token", ""), model.flag("byte_fallback", False)
    for text, token in names.items():
        tokens[token], types[token] = text, _NORMAL
        if bytes_ and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            types[token] = _BYTE
    for entry in added:
        token = entry.integer("id", 0, _MAX_TOKENS)
        types[token] = _CONTROL if entry.flag("special", False) else _USER_DEFINED
    if bytes_ and unknown in names:
        types[names[unknown]] = _UNKNOWN
    return tokens, types


def _merge(model: Values, merge: Any) -> str:
    """A merge as GGUF has it, whichever way the file does."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise ModelError(f"{model.path} is corrupt: {shortened(str(merge))} is no merge of two tokens. Download it again.")
    return " ".join(parts)


def _steps(file: Values, name: str, inner: str) -> Iterator[Values]:
    """The steps of a sequence, or the only one."""
    if name not in file:
        return
    step = file.inner(name)
    if step.text("type") == "Sequence":
        for n, item in enumerate(step.items(inner)):
            yield Values(file.path, item, f"{name}[{n}].")
    else:
        yield step


def _expressions(steps: list[Values]) -> list[str]:
    """What text is cut by, one after the other."""
    found = []
    for step in steps:
        match step.text("type"):
            case "ByteLevel":
                if step.flag("add_prefix_space", False):
                    raise step.unexpected("add_prefix_space", "false")
                found += [_GPT2] if step.flag("use_regex", True) else []
            case "Digits":
                found.append(r"\p{N}" if step.flag("individual_digits", False) else r"\p{N}+")
            case "Split":
                pattern = step.inner("pattern")
                found.append(pattern.text("Regex"))
                behavior = step.text("behavior").lower()
                if behavior != ("removed" if step.flag("invert", False) else "isolated"):
                    raise step.unexpected("behavior", "'Isolated'")
            case "Punctuation":
                found.append(r"\p{P}")
            case _:
                raise step.unexpected("type", "one of ByteLevel, Digits and Split")
    return found


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """Scores by which SentencePiece merges in the same order."""
    ranks: dict[str, int] = {}
    for merge in merges:
        ranks.setdefault(merge.replace(" ", ""), len(ranks))
    return [-float(ranks.get(token, len(ranks))) for token in tokens]


def _adds_space(file: Values, steps: list[Values]) -> bool:
    """Whether a space is put before text."""
    prepended = any(
        step.text("type") == "Prepend" and step.text("prepend", "") == _SPACE
        for step in _steps(file, "normalizer", "normalizers")
    )
    return prepended or any(_metaspace(steps, "first", "always"))


def _metaspace(steps: list[Values], *schemes: str) -> Iterator[bool]:
    """Of each step that makes spaces visible, whether it puts one before text in one of these ways."""
    return (step.text("prepend_scheme", "always") in schemes for step in steps if step.text("type") == "Metaspace")


def _special(folder: Path, file: Values, tokens: list[str], config: dict[str, Any]) -> dict[str, Any]:
    """Tokens with a part of their own."""
    settings = Values.read(folder / SETTINGS) if (folder / SETTINGS).exists() else Values(folder / SETTINGS, {})
    generation = Values.read(folder / GENERATION) if (folder / GENERATION).exists() else Values(folder / GENERATION, {})
    ids = {text: n for n, text in enumerate(tokens)}

    def named(name: str) -> list[int]:
        """Tokens by the settings, then by numbers."""
        entry = settings.any(f"{name}_token")
        text = entry.get("content") if isinstance(entry, dict) else entry
        found: list[Any] = [ids[text]] if isinstance(text, str) and text in ids else []
        for numbers in (generation.any(f"{name}_token_id"), config.get(f"{name}_token_id")):
            found += numbers if isinstance(numbers, list) else [numbers]
        return list(dict.fromkeys(n for n in found if type(n) is int and 0 <= n < len(tokens)))

    values: dict[str, Any] = {}
    first = _first_token(file, ids)
    begin = named("bos")
    if first is not None:
        begin = [first, *begin]
    starts = settings.flag("add_bos_token", first is not None)
    values["tokenizer.ggml.add_bos_token"] = starts
    parts = {"bos": begin[:1], "unknown": named("unk")[:1], "padding": named("pad")[:1]}
    ends = named("eos")
    parts |= dict(zip(("eos", "eot", "eom"), ([token] for token in ends), strict=False))
    return values | {f"tokenizer.ggml.{part}_token_id": found[0] for part, found in parts.items() if found}


def _first_token(file: Values, ids: dict[str, int]) -> int | None:
    """The token that is put before a text."""
    for step in _steps(file, "post_processor", "processors"):
        single = step.items("single") if step.text("type") == "TemplateProcessing" else []
        token = single[0].get("SpecialToken") if single and isinstance(single[0], dict) else None
        if isinstance(token, dict) and token.get("id") in ids:
            return ids[token["id"]]
    return None


def _template(folder: Path) -> dict[str, Any]:
    """The template of chats."""
    path = folder / TEMPLATE
    if path.exists():
        try:
            return {"tokenizer.chat_template": path.read_text(encoding="utf-8")}
        except UnicodeDecodeError:
            raise ModelError(f"{path} is corrupt: it is not text in UTF-8. Download it again.") from None
    if not (folder / SETTINGS).exists():
        return {}
    template = Values.read(folder / SETTINGS).any("chat_template")
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    return {"tokenizer.chat_template": template} if isinstance(template, str) else {}
