"""Calls whose arguments stand in tags of their own, and grammars for them: the form of Qwen3-Coder and Qwen 3.5.

::

    <function=name>
    <parameter=key>
    value
    </parameter>
    </function>

A value is text as it is where the tool's schema wants text, and JSON otherwise.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tailrace.spec.errors import ConfigError

from .grammar import json_rule
from .tool_calls import Tool, ToolCall, call_of, json_of

_FUNCTION = re.compile(r"\s*<function=([^>\n]+)>(.*?)(?:</function>\s*)?", re.DOTALL)
_PARAMETER = re.compile(r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>\s*", re.DOTALL)
#: What a schema can ask of a text that no grammar of tags can hold it to.
_OF_TEXTS = ("pattern", "format", "minLength", "maxLength")


def function_of(text: str, tools: Sequence[Tool]) -> ToolCall | None:
    """The call that a text is, if it is one.

    Parameters
    ----------
    text : str
        What stands between the marks of a call.
    tools : sequence of Tool
        Say what of a value is text. A tool that is none of them is called all the same, with texts.
    """
    match = _FUNCTION.fullmatch(text)
    if match is None:
        return None
    name, inner = match[1].strip(), match[2]
    schema = next((tool.parameters for tool in tools if tool.name == name), {})
    values, place = dict[str, Any](), 0
    while place < len(inner.rstrip()):
        found = _PARAMETER.match(inner, place)
        if found is None:
            return None
        place = found.end()
        values[found[1].strip()] = _value(found[2], _kinds(_property(schema, found[1].strip()), schema))
    return call_of({"name": name, "arguments": values})


def function_rule(tool: Tool) -> str:
    """The right side of a rule for the call of a tool: the parameters of its schema in their order.

    Raises
    ------
    ConfigError
        If its schema asks for what tags can't be held to.
    """
    schema = tool.parameters
    if schema.get("type", "object") != "object" or any(word in schema for word in ("anyOf", "oneOf", "allOf", "$ref")):
        raise ConfigError(f"the parameters of {tool.name!r} must be an object with properties for this model's form of calls")
    properties = schema.get("properties")
    parts = [json.dumps(f"<function={tool.name}>\n")]
    if properties is None:
        parts.append(r"(/<parameter=[^>\n]+>\n/ tagged)*")
    for key, wanted in (properties or {}).items():
        part = f"{json.dumps(f'<parameter={key}>' + chr(10))} {_value_rule(tool, key, wanted)}"
        parts.append(part if key in schema.get("required", ()) else f"({part})?")
    return " ".join((*parts, '"</function>"'))


#: The rule for a text and the tag behind it.
TAGGED = r"tagged[lazy]: /(?s:.*)\n<\/parameter>\n/"


def _value_rule(tool: Tool, key: str, wanted: Any) -> str:
    schema = _resolved(wanted, tool.parameters)
    end = json.dumps("\n</parameter>\n")
    texts = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if texts is not None and all(isinstance(text, str) for text in texts):
        return f"({' | '.join(map(json.dumps, texts))}) {end}"
    if _kinds(wanted, tool.parameters) != {"string"}:
        definitions = {word: tool.parameters[word] for word in ("$defs", "definitions") if word in tool.parameters}
        return f"{json_rule({**definitions, **(wanted if isinstance(wanted, Mapping) else {})})} {end}"
    if any(word in schema for word in _OF_TEXTS):
        words = " or ".join(word for word in _OF_TEXTS if word in schema)
        raise ConfigError(f"this model's form of calls can't hold the parameter {key!r} of {tool.name!r} to its {words}")
    return "tagged"


def _property(schema: Mapping[str, Any], key: str) -> Any:
    properties = schema.get("properties")
    # What the schema does not name is text.
    return properties.get(key, {"type": "string"}) if isinstance(properties, Mapping) else {"type": "string"}


def _resolved(wanted: Any, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A property's schema, or what it refers to in the same one."""
    reference = wanted.get("$ref") if isinstance(wanted, Mapping) else None
    if isinstance(reference, str) and reference.startswith("#/"):
        found: Any = schema
        for part in reference[2:].split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
        wanted = found
    return wanted if isinstance(wanted, Mapping) else {}


def _kinds(wanted: Any, schema: Mapping[str, Any]) -> set[str]:
    """The types that a property may have; none if it does not say."""
    found = _resolved(wanted, schema)
    kinds = found.get("type", [])
    named = {kinds} if isinstance(kinds, str) else set(kinds) if isinstance(kinds, list) else set()
    for word in ("anyOf", "oneOf"):
        for one in found.get(word, ()) if isinstance(found.get(word), list) else ():
            named |= _kinds(one, schema)
    values = found.get("enum")
    if not named and isinstance(values, list) and all(isinstance(value, str) for value in values):
        named = {"string"}
    return {kind for kind in named if isinstance(kind, str)}


def _value(text: str, kinds: set[str]) -> Any:
    if kinds == {"string"}:
        return text
    value = json_of(text)
    is_json = value is not None or text.strip() == "null"
    # Text in quotes is a text that has quotes, where texts are allowed.
    return text if not is_json or (isinstance(value, str) and "string" in kinds) else value
