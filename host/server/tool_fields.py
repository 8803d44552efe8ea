"""Tools that a model may call: the fields of a request about them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tailrace.spec.errors import ConfigError, MissingPackage

from ..text.grammar import Grammar
from ..text.tokenizer import Tokenizer
from ..text.tool_calls import Tool
from ..text.tool_forms import Form, form_of
from .errors import ApiError
from .fields import Fields, wrong


@dataclass(frozen=True)
class Tools:
    """What may be called in an answer, and how.

    Attributes
    ----------
    described : list
        The tools as the request has them, for the chat template.
    tools : tuple of Tool
    form : Form
        How the model writes calls.
    parallel : bool
        Whether more than one call is wanted.
    grammar : Grammar or None
        If something must be called, or what is called is strict.
    shown : frozenset of int
        Control tokens that calls are written with.
    """

    described: list[Any]
    tools: tuple[Tool, ...]
    form: Form
    parallel: bool
    grammar: Grammar | None
    shown: frozenset[int]


def tools_of(fields: Fields, tokenizer: Tokenizer) -> Tools | None:
    """What a request wants to have called; None: nothing may be.

    Raises
    ------
    ApiError
        If a field is wrong, or the model is none whose calls are understood, or they can't be held to their schemas.
    """
    described, choice = fields.get("tools"), fields.get("tool_choice")
    parallel = fields.flag("parallel_tool_calls") if "parallel_tool_calls" in fields else True
    fields.ignore(["parallel_tool_calls"])
    if described is not None and not isinstance(described, list):
        raise wrong("tools", f"must be a list of tools, not {described!r}")
    tools = tuple(_tool(place, tool) for place, tool in enumerate(described or []))
    wanted = _wanted(choice, tools)
    if wanted is None or not tools:
        return None
    form = form_of(tokenizer.chat_template)
    if form is None:
        raise wrong(
            "tools",
            "are not supported with this model: its chat template has none of the forms of calls that are known here (Hermes"
            " and Qwen, Qwen3-Coder, Llama 3.1, Mistral). Leave them out, or say tool_choice: none",
            "unsupported_parameter",
        )
    v = tokenizer.vocabulary
    # Marks that are words of the text need no care.
    control = {mark: v.ids[mark] for mark in form.marks if mark in v.ids and not tokenizer.token_bytes(v.ids[mark])}
    grammar = None
    try:
        if wanted:
            grammar = form.grammar(wanted, control, parallel and choice == "required")
        elif any(tool.strict for tool in tools):
            # What is not strict may have any arguments.
            free = (tool if tool.strict else replace(tool, parameters={"type": "object"}) for tool in tools)
            grammar = form.grammar(tuple(free), control, parallel, required=False)
    except MissingPackage as error:
        raise ApiError(501, str(error), param="tool_choice" if wanted else "tools", code="missing_package") from None
    except ConfigError as error:
        raise wrong("tools", f"can't be held to their schemas: {error}") from None
    return Tools(described or [], tools, form, parallel, grammar, frozenset(control.values()))


def refuse_without_effect(tools: Tools | None, with_tools: list[int], without: Callable[[], list[int]]) -> None:
    """Refuse tools that the model's chat template does not tell the model of.

    Raises
    ------
    ApiError
        If the prompt is the same with tools and without.
    """
    if tools is not None and with_tools == without():
        raise wrong("tools", "are not supported with this model: its chat template takes none", "unsupported_parameter")


def _tool(place: int, tool: Any) -> Tool:
    name = f"tools[{place}]"
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise wrong(name, f"must be an object of type function, with a function that has a name, not {tool!r}")
    parameters = function.get("parameters")
    if parameters is None:
        parameters = {"type": "object", "properties": {}}
    if not isinstance(parameters, dict):
        raise wrong(name, f"must have a JSON schema as its parameters, not {parameters!r}")
    strict = function.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise wrong(name, f"must be strict or not (true or false), not {strict!r}")
    return Tool(function["name"], parameters, bool(strict))


def _wanted(choice: Any, tools: tuple[Tool, ...]) -> tuple[Tool, ...] | None:
    """The tools of which one must be called; none: the model may choose; None: none may be called."""
    if choice == "none" or (choice is None and not tools):
        return None
    if choice in (None, "auto"):
        return ()
    if choice == "required":
        if not tools:
            raise wrong("tool_choice", "is required, and there are no tools: give some")
        return tools
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    if not isinstance(function, dict):
        raise wrong("tool_choice", f"must be none, auto, required, or name a function, not {choice!r}")
    found = tuple(tool for tool in tools if tool.name == function.get("name"))
    if not found:
        raise wrong("tool_choice", f"names {function.get('name')!r}, which is none of the tools")
    return found
