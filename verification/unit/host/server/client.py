"""A server in a thread, and the plainest of clients."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tailrace import LanguageModel
from tailrace.server.app import Server, Settings
from tailrace.server.run import Listening


class Client:
    """Asks a server at a URL."""

    def __init__(self, url: str, server: Server) -> None:
        self.host, self.server = urlsplit(url).netloc, server

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, timeout=60)

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Status, what the JSON of the answer says, and the headers."""
        connection = self.connect()
        try:
            raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
            connection.request(
                "GET" if body is None else "POST", path, raw, {k.replace("_", "-"): v for k, v in headers.items()}
            )
            response = connection.getresponse()
            text = response.read().decode()
            found = {name.lower(): value for name, value in response.getheaders()}
            is_json = found.get("content-type", "").startswith("application/json")
            return response.status, json.loads(text) if is_json else text, found
        finally:
            connection.close()

    def stream(self, path: str, body: dict[str, Any]) -> list[Any]:
        """The parts of a stream, up to its end; comments are left out."""
        connection = self.connect()
        try:
            connection.request("POST", path, json.dumps({**body, "stream": True}))
            response = connection.getresponse()
            assert response.status == 200
            assert response.getheader("content-type", "").startswith("text/event-stream")
            events = response.read().decode().split("\n\n")
        finally:
            connection.close()
        assert events.pop() == ""
        assert events.pop() == "data: [DONE]"
        return [json.loads(event.removeprefix("data: ")) for event in events if not event.startswith(":")]


@contextmanager
def serving(lm: LanguageModel, **settings: Any) -> Iterator[Client]:
    """Serve a model until the end of the block."""
    server = Server(lm.engine, Settings(("tiny", "other"), patience=1.0, **settings))
    listening = Listening(server, "127.0.0.1", 0)
    ready = threading.Event()
    thread = threading.Thread(target=listening.run, args=(lambda _: ready.set(),))
    thread.start()
    try:
        assert ready.wait(20)
        yield Client(listening.url, server)
    finally:
        listening.stop()
        thread.join(20)
        assert not thread.is_alive()


@contextmanager
def before_each_step(lm: LanguageModel, action: Callable[[], object]) -> Iterator[None]:
    """Have something done before each step of the device."""
    decoder, take = lm.engine.decoder, lm.engine.decoder.take

    def changed(*arguments: Any) -> Any:
        action()
        return take(*arguments)

    decoder.take = changed  # type: ignore[method-assign]
    try:
        yield
    finally:
        decoder.take = take  # type: ignore[method-assign]
