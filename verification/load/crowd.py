"""Clients that ask at the same time: some read their answers, some go away before they have them."""

import http.client
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .failing_serve import PLANTED
from .questions import Question
from .served import PATIENCE, Served

#: What clients do, and how often.
_WAYS = {"read whole": 6, "read a stream": 6, "leave a stream": 3, "leave while waiting": 2, "leave at once": 2}


@dataclass
class Seen:
    """What clients have seen.

    Attributes
    ----------
    counts : Counter
        By what happened.
    wrong : list of str
        What must not happen.
    first, whole : list of float
        Seconds up to the first part of a stream, and up to the end of an answer.
    tokens : int
        Of answers that were read.
    """

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    tokens: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        """Something has happened once more."""
        with self.lock:
            self.counts[what] += 1

    def complain(self, what: str) -> None:
        """Something has happened that must not."""
        with self.lock:
            self.wrong.append(what)


class Client(threading.Thread):
    """Asks one question after the other until it is told to end.

    Parameters
    ----------
    number : int
    served : Served
    questions : sequence of Question
    seen : Seen
    seed : int
    end : Event
        Set: ask nothing more.
    stopping : Event
        Set: the server has been told to end, and may refuse connections.
    leaving : bool
        Whether it goes away from some of its questions.
    """

    def __init__(
        self, number: int, served: Served, questions: Sequence[Question], seen: Seen, seed: int, end: threading.Event,
        stopping: threading.Event, leaving: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(name=f"client {number}", daemon=True)
        self.served, self.questions, self.seen, self.end, self.stopping = served, questions, seen, end, stopping
        self.ways = {way: often for way, often in _WAYS.items() if leaving or way.startswith("read")}
        self.draw = random.Random(seed * 1000 + number)

    def run(self) -> None:
        """Ask."""
        while not self.end.is_set():
            question = self.draw.choice(self.questions)
            (way,) = self.draw.choices(list(self.ways), list(self.ways.values()))
            while not self.end.is_set():
                try:
                    again = self._ask(question, way)
                except TimeoutError:
                    self.seen.complain(f"nothing came for {PATIENCE:g} s: {way}")
                    break
                except (OSError, http.client.HTTPException, ValueError) as error:
                    self.seen.complain(f"{way}: {error!r}")
                    break
                if again is None:
                    break
                time.sleep(again * self.draw.uniform(0.1, 1))

    def _ask(self, question: Question, way: str) -> float | None:
        """Ask once; returns the seconds after which to ask again, if that is to be done."""
        connection = http.client.HTTPConnection(self.served.host, timeout=PATIENCE)
        start = time.monotonic()
        try:
            response = self._answer_of(connection, question, way)
            if response is None:
                return None
            if response.status == 429:
                self.seen.count("refused with 429")
                wait = response.headers["retry-after"]
                response.read()
                return float(wait)
            if response.status != 200:
                return self._failed(response.status, json.loads(response.read())["error"])
            if way == "read whole":
                body = json.loads(response.read())
                choice = body["choices"][0]
                self._compare(question, choice["text"], choice["finish_reason"], start, body["usage"]["completion_tokens"])
                return None
            return self._read(question, way, connection, response, start)
        finally:
            connection.close()

    def _answer_of(
        self, connection: http.client.HTTPConnection, question: Question, way: str
    ) -> http.client.HTTPResponse | None:
        """The response, as far as its headers; None if the client has gone away, or the server."""
        try:
            connection.request("POST", "/v1/completions", json.dumps({**question.body, "stream": "stream" in way}))
            if way in ("leave at once", "leave while waiting"):
                time.sleep(0 if way == "leave at once" else self.draw.uniform(0, 0.5))
                _reset(connection)
                self.seen.count(way)
                return None
            return connection.getresponse()
        except ConnectionError:
            if not self.stopping.is_set():
                raise
            self.seen.count("not let in at the end")
            self.end.set()
            return None

    def _read(
        self,
        question: Question,
        way: str,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        start: float,
    ) -> float | None:
        """Read a stream, or its beginning."""
        most = self.draw.randrange(1, 6) if way == "leave a stream" else None
        text, reason, parts = "", None, 0
        for line in response:
            if not line.startswith(b"data: ") or line == b"data: [DONE]\n":
                continue
            part = json.loads(line[6:])
            if "error" in part:
                return self._failed(response.status, part["error"])
            if not parts:
                with self.seen.lock:
                    self.seen.first.append(time.monotonic() - start)
            parts += 1
            text += part["choices"][0]["text"]
            reason = part["choices"][0]["finish_reason"]
            if parts == most:
                if not question.text.startswith(text):
                    self.seen.complain(f"{question.body}: the stream begins with {text!r}, not {question.text!r}")
                _reset(connection)
                self.seen.count(way)
                return None
        self._compare(question, text, reason, start, parts)
        return None

    def _failed(self, status: int, error: dict[str, Any]) -> float | None:
        """An error: those that were planted are asked about again; the end of the server is the end."""
        if error["code"] == "shutting_down":
            self.seen.count("told of the end")
            self.end.set()
            return None
        if error["code"] != "device_error" or PLANTED not in error["message"]:
            self.seen.complain(f"status {status}: {error}")
            return None
        self.seen.count("met a device error")
        return 0.1

    def _compare(self, question: Question, text: str, reason: str | None, start: float, tokens: int) -> None:
        if (text, reason) != (question.text, question.reason):
            self.seen.complain(f"{question.body}: {text!r} ({reason}), not {question.text!r} ({question.reason})")
        with self.seen.lock:
            self.seen.counts["answered, equal"] += 1
            self.seen.whole.append(time.monotonic() - start)
            self.seen.tokens += tokens


def _reset(connection: http.client.HTTPConnection) -> None:
    """Go away, as a process does that ends."""
    if connection.sock is not None:
        connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
