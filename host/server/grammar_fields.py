"""The fields that say what an answer may be: OpenAI's, llama.cpp's and vLLM's."""

from collections.abc import Callable
from typing import Any

from tailrace.spec.errors import ConfigError, MissingPackage

from ..text.grammar import Grammar, grammar_of_format
from .errors import ApiError
from .fields import Fields, wrong


def _of_object(wanted: Any) -> Grammar | None:
    return Grammar.json_object() if wanted is True else None


#: Members of vLLM's ``structured_outputs``; its older fields have the same names after ``guided_``.
_KINDS: dict[str, Callable[[Any], Grammar | None]] = {
    "json": Grammar.json_schema,
    "json_object": _of_object,
    "regex": Grammar.regex,
    "choice": Grammar.choice,
    "grammar": Grammar.text,
}
#: Types of what they take.
_TYPES: dict[str, tuple[type, ...]] = {
    "json": (dict, str), "json_object": (bool,), "regex": (str,), "choice": (list,), "grammar": (str,),
}  # fmt: skip


def grammar_field(fields: Fields) -> tuple[str, Grammar] | None:
    """The field that says what an answer may be, and what it says; None: an answer may be anything.

    Raises
    ------
    ApiError
        If it can't be understood, if there are several, or if llguidance is not installed.
    """
    found: list[tuple[str, Grammar]] = []

    def read(name: str, what: Callable[[Any], Grammar | None], value: Any) -> None:
        try:
            grammar = what(value)
        except MissingPackage as error:
            raise ApiError(501, str(error), param=name, code="missing_package") from None
        except ConfigError as error:
            raise wrong(name, f"can't be used: {error}") from None
        if grammar is not None:
            found.append((name, grammar))

    def read_kind(name: str, kind: str, value: Any) -> None:
        if not isinstance(value, _TYPES[kind]):
            raise wrong(name, f"must be {' or '.join(_NAMES[one] for one in _TYPES[kind])}, not {value!r}")
        read(name, _KINDS[kind], value)

    if (form := fields.table("response_format")) is not None:
        read("response_format", grammar_of_format, form)
    if (schema := fields.get("json_schema")) is not None:
        read_kind("json_schema", "json", schema)
    if text := fields.text("grammar"):
        read("grammar", Grammar.text, text)
    for kind in _KINDS:
        if (value := fields.get(f"guided_{kind}")) is not None:
            read_kind(f"guided_{kind}", kind, value)
    for kind, value in (fields.table("structured_outputs") or {}).items():
        if value is None or value is False:
            continue
        name = f"structured_outputs.{kind}"
        if kind not in _KINDS:
            raise wrong(name, "is not supported: leave it out", "unsupported_parameter")
        read_kind(name, kind, value)
    if len(found) > 1:
        raise wrong(found[1][0], f"and {found[0][0]} both say what the answer may be: leave one of them out")
    return found[0] if found else None


_NAMES: dict[type, str] = {dict: "an object", str: "a text", bool: "true or false", list: "a list"}
