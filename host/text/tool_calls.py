"""Tools that a model may call, and its calls."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tool:
    """A tool that may be called.

    Attributes
    ----------
    name : str
    parameters : mapping
        JSON schema of its arguments.
    strict : bool
        Whether arguments must fit the schema, also where the model chooses whether it calls.
    """

    name: str
    parameters: Mapping[str, Any]
    strict: bool = False


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool.

    Attributes
    ----------
    name : str
    arguments : str
        JSON, as the model wrote it.
    identity : str
    """

    name: str
    arguments: str
    identity: str


def call_of(value: Any, names: frozenset[str] | None = None) -> ToolCall | None:
    """The call that an object with a name and arguments is, if it is one.

    Parameters
    ----------
    value
        What the model wrote, as JSON has it.
    names : frozenset of str, optional
        Of the tools that there are; without it any name will do.
    """
    if (
        not isinstance(value, dict)
        or not isinstance(name := value.get("name"), str)
        or (names is not None and name not in names)
    ):
        return None
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    # Nine letters and digits are what Mistral's template takes for an identity, and any other does, too.
    return ToolCall(name, arguments, secrets.token_hex(5)[:9]) if isinstance(arguments, str) else None


def json_of(text: str) -> Any:
    """What a text is as JSON; None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
