"""Conversations that chat templates are compared on."""

from typing import Any

_SYSTEM = {"role": "system", "content": "You are brief. "}
_USER = {"role": "user", "content": "  What is the capital of France?\n"}
_ASSISTANT = {"role": "assistant", "content": "Paris."}
_THOUGHT = {"role": "assistant", "content": "<think>\nEasy.\n</think>\n\nParis."}
_NEXT = {"role": "user", "content": 'And of "Chad" & <b>Mali</b>? äöü 🎉'}
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Today's weather.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "Where"}},
                "required": ["city"],
            },
        },
    }
]

#: Name, turns and further variables.
CONVERSATIONS: tuple[tuple[str, list[dict[str, Any]], dict[str, Any]], ...] = (
    ("a question", [_USER], {"add_generation_prompt": True}),
    ("a question, no answer begun", [_USER], {"add_generation_prompt": False}),
    ("with a system prompt", [_SYSTEM, _USER], {"add_generation_prompt": True}),
    ("several turns", [_SYSTEM, _USER, _ASSISTANT, _NEXT], {"add_generation_prompt": True}),
    ("with a thought", [_USER, _THOUGHT, _NEXT], {"add_generation_prompt": True}),
    ("thinking off", [_USER], {"add_generation_prompt": True, "enable_thinking": False}),
    ("with tools", [_SYSTEM, _USER], {"add_generation_prompt": True, "tools": _TOOLS}),
    ("out of order", [_ASSISTANT, _ASSISTANT, _SYSTEM], {"add_generation_prompt": True}),
)
