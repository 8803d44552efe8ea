"""The messages of a conversation, as chat templates take them."""

import json
from typing import Any

from .fields import wrong

#: What a message may have besides its role and content.
_MORE = ("name", "tool_call_id", "reasoning_content")


def turns_of(messages: Any) -> list[dict[str, Any]]:
    """The turns of a conversation.

    Parameters
    ----------
    messages : object
        What a request says.

    Raises
    ------
    ApiError
        If it is no conversation, or has what is no text.
    """
    if not isinstance(messages, list) or not messages:
        raise wrong("messages", f"must be a list of messages that is not empty, not {messages!r}")
    return [_turn(f"messages[{place}]", message) for place, message in enumerate(messages)]


def _turn(name: str, message: Any) -> dict[str, Any]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise wrong(name, f"must be an object with a role and a content, not {message!r}")
    content, calls = message.get("content"), message.get("tool_calls")
    turn = {key: message[key] for key in _MORE if message.get(key) is not None}
    if calls:
        turn["tool_calls"] = _calls(name, calls)
        content = "" if content is None else content
    if isinstance(content, list):
        # Parts, of which only texts can be read.
        for part in content:
            if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                kind = part.get("type") if isinstance(part, dict) else part
                raise wrong(name, f"has a part of type {kind!r}: this model reads only text", "unsupported_content")
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise wrong(name, f"must have a text as its content, not {content!r}")
    return {**turn, "role": "system" if message["role"] == "developer" else message["role"], "content": content}


def _calls(name: str, calls: Any) -> list[dict[str, Any]]:
    """The calls that an assistant has made, with arguments that are objects."""
    found = []
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise wrong(name, f"must have calls of functions as its tool_calls, not {call!r}")
        arguments = function.get("arguments")
        try:
            value = json.loads(arguments or "{}") if isinstance(arguments, str | None) else arguments
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise wrong(name, f"calls {function['name']} with arguments that are no JSON object: {arguments!r}")
        found.append({"type": "function", "function": {"name": function["name"], "arguments": value}})
        if isinstance(call.get("id"), str):
            found[-1]["id"] = call["id"]
    return found
