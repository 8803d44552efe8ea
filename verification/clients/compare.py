"""Asks several servers the same questions, and prints what each answers as a table.

``python -m verification.clients.compare NAME=URL NAME=URL ...``; the URLs without ``/v1``. They should serve the same model.
"""

import http.client
import json
import re
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

Reply = tuple[int, Any, dict[str, str]]


class Asked:
    """A server at a URL, and what its model is called."""

    def __init__(self, url: str) -> None:
        self.host = urlsplit(url).netloc
        self.model = self("/v1/models")[1]["data"][0]["id"]

    def __call__(self, path: str, body: Any = None, method: str | None = None) -> Reply:
        """Status, the JSON of the answer (or its text), and its headers."""
        connection = http.client.HTTPConnection(self.host, timeout=600)
        try:
            raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            headers = {"content-type": "application/json"}
            connection.request(method or ("GET" if body is None else "POST"), path, raw, headers)
            response = connection.getresponse()
            text = response.read().decode()
            found = {name.lower(): value for name, value in response.getheaders()}
            is_json = "json" in found.get("content-type", "") and text
            return response.status, json.loads(text) if is_json else text, found
        finally:
            connection.close()

    def chat(self, **fields: Any) -> Reply:
        """A short chat, with more fields or others."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": "Name three rivers."}],
            "max_tokens": 6,
            "temperature": 0,
        }
        return self("/v1/chat/completions", body | fields)

    def complete(self, **fields: Any) -> Reply:
        """A short text, with more fields or others."""
        body = {"model": self.model, "prompt": "One, two, three,", "max_tokens": 4, "temperature": 0}
        return self("/v1/completions", body | fields)


def _error(reply: Reply) -> str:
    """A refusal: its status and how it is classified; or what was answered in spite of all."""
    status, body, _ = reply
    if status == 200:
        return f"200: {_said(reply)}"
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return f"{status}: {json.dumps(body)[:60]}"
    return f"{status} `{error.get('type')}`, code `{error.get('code')}`, param `{error.get('param')}`"


def _said(reply: Reply) -> str:
    """The texts of an answer, with why they end."""
    status, body, _ = reply
    if status != 200:
        return _error(reply)
    if not isinstance(body, dict) or "choices" not in body:
        return json.dumps(body)[:80]
    texts = [choice["text"] if "text" in choice else choice["message"].get("content") for choice in body["choices"]]
    return " / ".join(f"{text!r} ({choice['finish_reason']})" for text, choice in zip(texts, body["choices"], strict=True))


def _stream(asked: Asked, **fields: Any) -> str:
    """The parts of a stream, by what they bring; the same one after the other once."""
    status, text, _ = asked.chat(stream=True, **fields)
    if status != 200:
        return _error((status, text, {}))
    kinds: list[str] = []
    for line in text.splitlines():
        if not line.startswith("data: "):
            continue
        if line == "data: [DONE]":
            kind = "[DONE]"
        else:
            part = json.loads(line[6:])
            choice = part["choices"][0] if part.get("choices") else None
            delta = {} if choice is None else choice["delta"]
            names = ["role"] * ("role" in delta) + ["content"] * bool(delta.get("content"))
            names += ["finish_reason"] * bool(choice and choice["finish_reason"]) + ["usage"] * bool(part.get("usage"))
            kind = "+".join(names) + (" (no choices)" if choice is None else "") or "nothing"
        if kinds[-1:] != [kind]:
            kinds.append(kind)
    return ", ".join(kinds)


def _logprobs(reply: Reply) -> str:
    status, body, _ = reply
    if status != 200:
        return _error(reply)
    found = body["choices"][0].get("logprobs")
    if not found:
        return "none"
    if found.get("content"):
        return f"`content`, {len(found['content'])} tokens: {', '.join(found['content'][0])}"
    return (
        f"`token_logprobs`, {len(found['token_logprobs'])} tokens, the first {found['token_logprobs'][0]}: {', '.join(found)}"
    )


def _usage(asked: Asked) -> str:
    asked.chat()
    usage = asked.chat()[1]["usage"]
    return json.dumps({name: value for name, value in usage.items() if value is not None})


def _equal_seeds(asked: Asked) -> str:
    replies = [asked.chat(temperature=1, seed=seed, max_tokens=12)[1] for seed in (7, 7, 8)]
    one, two, other = (body["choices"][0]["message"]["content"] for body in replies)
    words = {True: "the same answer", False: "another answer"}
    return f"the same seed: {words[one == two]}; another seed: {words[one == other]}"


def _several(asked: Asked) -> str:
    status, body, _ = reply = asked.chat(n=2, temperature=1, seed=1)
    return f"{len(body['choices'])} answers" if status == 200 else _error(reply)


def _metrics(asked: Asked) -> str:
    status, text, _ = asked("/metrics")
    if status != 200:
        return str(status)
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    first = sorted({name.split(":")[0] + ":" for name in names if ":" in name})
    return f"{len(names)} figures ({', '.join(first)})"


def _plain(path: str) -> Callable[[Asked], str]:
    def ask(asked: Asked) -> str:
        status, body, _ = asked(path)
        return f"{status} {json.dumps(body)[:70] if body else ''}".strip()

    return ask


_LONG = "word " * 5000
_IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]
_TOOL = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]

QUESTIONS: dict[str, Callable[[Asked], str]] = {
    "chat, greedy": lambda asked: _said(asked.chat()),
    "text, greedy": lambda asked: _said(asked.complete()),
    "usage, asked again": _usage,
    "seeds": _equal_seeds,
    "`n: 2`": _several,
    '`stop: [","]`': lambda asked: _said(asked.complete(stop=[","])),
    "prompt as tokens": lambda asked: _said(asked.complete(prompt=[504, 3575, 282, 4649, 314])),
    "two prompts": lambda asked: _said(asked.complete(prompt=["One, two,", "Red, green,"], max_tokens=2)),
    "stream of a chat": lambda asked: _stream(asked),
    "stream with `include_usage`": lambda asked: _stream(asked, stream_options={"include_usage": True}),
    "stream of a refused request": lambda asked: _error(asked.chat(stream=True, temperature=-1)),
    "chat, `logprobs: true`": lambda asked: _logprobs(asked.chat(logprobs=True, top_logprobs=2)),
    "text, `logprobs: 1`": lambda asked: _logprobs(asked.complete(logprobs=1)),
    "text, `echo` and `logprobs`": lambda asked: _logprobs(asked.complete(logprobs=1, echo=True, max_tokens=1)),
    "prompt longer than the context": lambda asked: _error(asked.chat(messages=[{"role": "user", "content": _LONG}])),
    "`max_tokens` longer than the context": lambda asked: _error(asked.complete(max_tokens=10**6, stop=[","])),
    "`max_tokens: 0`": lambda asked: _error(asked.complete(max_tokens=0)),
    "`temperature: -1`": lambda asked: _error(asked.complete(temperature=-1)),
    "no JSON": lambda asked: _error(asked("/v1/chat/completions", b"{")),
    "no messages": lambda asked: _error(asked.chat(messages=[])),
    "unknown model": lambda asked: _error(asked.chat(model="none")),
    "unknown field": lambda asked: _error(asked.chat(colour="red")),
    "an image": lambda asked: _error(asked.chat(messages=_IMAGE)),
    "`tools`, no parser configured": lambda asked: _error(asked.chat(tools=_TOOL)),
    "`response_format: json_object`": lambda asked: _error(asked.chat(response_format={"type": "json_object"})),
    "a path that is not there": lambda asked: _error(asked("/v1/none", {})),
    "`GET` of a chat": lambda asked: _error(asked("/v1/chat/completions")),
    "`/tokenize` with `prompt`": lambda asked: _error(asked("/tokenize", {"model": asked.model, "prompt": "One, two"})),
    "`/tokenize` with `content`": lambda asked: _error(asked("/tokenize", {"content": "One, two"})),
    "`/health`": _plain("/health"),
    "`/v1/models`": lambda asked: ", ".join(asked("/v1/models")[1]["data"][0]),
    "`/slots`": _plain("/slots"),
    "`/props`": _plain("/props"),
    "`/version`": _plain("/version"),
    "`/metrics`": _metrics,
    "`x-request-id` of an answer": lambda asked: "yes" if "x-request-id" in asked.chat()[2] else "no",
}


def compare(servers: dict[str, Asked]) -> list[list[str]]:
    """Ask all of them everything; rows of the question and the answers."""
    rows = []
    for what, ask in QUESTIONS.items():
        row = [what]
        for name, asked in servers.items():
            try:
                row.append(ask(asked))
            except (OSError, http.client.HTTPException, LookupError, TypeError, ValueError) as error:
                row.append(f"no answer that can be read: {error!r}")
            print(f"{what}: {name}: {row[-1]}", file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    """Ask the servers of the command line, and print a table."""
    servers = dict(argument.split("=", 1) for argument in sys.argv[1:])
    if not servers:
        sys.exit(__doc__)
    rows = compare({name: Asked(url) for name, url in servers.items()})
    for row in [["asked", *servers], ["---"] * (len(servers) + 1), *rows]:
        print("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |")


if __name__ == "__main__":
    main()
