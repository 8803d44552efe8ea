"""The server under load: many clients, some of whom go away, a device that fails, and an end in the middle.

``python -m verification.load`` prints what was seen, and fails if anything was lost, hung, wrong or kept.
"""

import argparse
import http.client
import json
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tailrace.models.fetch import resolve_model

from .crowd import Client, Seen
from .questions import Question, questions
from .served import PATIENCE, Served, serve

#: Seconds that running answers may go on when the server is told to end.
_GRACE = 3.0
#: Seconds more of a step, where steps are counted, or are to outlast the grace.
_SLOW = 0.2


@dataclass(frozen=True)
class Load:
    """What is to be done.

    Attributes
    ----------
    model : str
    minutes : float
    clients, slots, queue, context, seed : int
    errors : float
        Seconds from one planted error of the device to the next.
    """

    model: str = "shakespeare"
    minutes: float = 10.0
    clients: int = 20
    slots: int = 4
    queue: int = 8
    context: int = 256
    seed: int = 1
    errors: float = 20.0


def run(load: Load) -> list[str]:
    """Put a server under load, print figures, and return what went wrong."""
    print(f"{load}", flush=True)
    resolve_model(load.model, None)
    asked = questions(load.model, load.context, 24, load.seed)
    print(f"{len(asked)} questions answered alone", flush=True)
    log = Path(tempfile.mkstemp(prefix="tailrace-load-", suffix=".log")[1])
    arguments = ["-np", str(load.slots), "--queue", str(load.queue), "-c", str(load.context), "--patience", str(_GRACE)]
    seen = Seen()
    with serve(load.model, log, *arguments) as served:
        wrong = [*_freed(served, load, "before")]
        wrong += _crowd(served, load, asked, seen)
        wrong += _freed(served, load, "after")
        wrong += _end(served, load, asked)
    wrong += seen.wrong
    if not wrong:
        log.unlink()
    else:
        print(f"the server's log: {log}")
    return wrong


def _crowd(served: Served, load: Load, asked: Sequence[Question], seen: Seen) -> Iterator[str]:
    """The load itself; yields what went wrong."""
    before, begun = served.metrics(), time.monotonic()
    open_before, threads_before = served.handles, served.threads
    deadline = begun + 60 * load.minutes
    memory: list[int] = []
    draw, planted = random.Random(load.seed), 0
    with _clients(served, load, asked, seen) as crowd:
        next_error = begun + load.errors
        while (now := time.monotonic()) < deadline:
            memory.append(served.memory)
            if now >= next_error:
                served.fail_next_step()
                planted += 1
                next_error = now + load.errors * draw.uniform(0.7, 1.3)
            if len(memory) % 60 == 0:
                print(f"{(now - begun) / 60:4.1f} min: {dict(seen.counts)}, {memory[-1] / 2**20:.1f} MiB", flush=True)
            time.sleep(1)
    late = [client.name for client in crowd if client.is_alive()]
    after, seconds = served.wait_until_idle(), time.monotonic() - begun
    gained = {name: after[name] - before[name] for name in after}
    handles, threads = served.handles, served.threads
    _print_figures(load, seen, gained, seconds, planted, memory)
    print(f"| open files and sockets, threads | {open_before}, {threads_before} before; {handles}, {threads} after |")
    if late:
        yield f"hung: {late}"
    if handles > open_before + 4:
        yield f"{handles} files and sockets are open, and {open_before} were before"
    if not seen.counts["answered, equal"] or (planted and not gained["tailrace:requests_failed_total"]):
        yield "the load did not do what it is for"
    fifth = max(1, len(memory) // 5)
    early, end = statistics.median(memory[fifth : 2 * fifth] or memory), statistics.median(memory[-fifth:])
    if end > 1.03 * early + 2**22:
        yield f"memory grew from {early / 2**20:.1f} to {end / 2**20:.1f} MiB"


@contextmanager
def _clients(served: Served, load: Load, asked: Sequence[Question], seen: Seen, leaving: bool = True) -> Iterator[list[Client]]:
    """Clients that ask until the end of the block, and then read what they have asked for."""
    end = threading.Event()
    stopping = threading.Event()
    if not leaving:
        stopping.set()
    crowd = [Client(n, served, asked, seen, load.seed, end, stopping, leaving) for n in range(load.clients)]
    for client in crowd:
        client.start()
    try:
        yield crowd
    finally:
        end.set()
        deadline = time.monotonic() + PATIENCE
        for client in crowd:
            client.join(max(0, deadline - time.monotonic()))


def _freed(served: Served, load: Load, when: str) -> Iterator[str]:
    """Let clients go away all at once, and count the steps until nothing of theirs is computed any more."""
    body = json.dumps({"prompt": "ROMEO:", "max_tokens": load.context // 2, "temperature": 0})
    served.turn_slow(_SLOW)
    for stream in (True, False):
        waiting, running = 3, load.slots
        open_ones = []
        for _ in range(running + waiting):
            connection = http.client.HTTPConnection(served.host, timeout=PATIENCE)
            connection.request("POST", "/v1/completions", body.replace("{", f'{{"stream": {str(stream).lower()}, ', 1))
            open_ones.append(connection)
            _until(served, "vllm:num_requests_running", min(len(open_ones), running))
        _until(served, "vllm:num_requests_waiting", waiting)
        for connection in open_ones[running:]:
            connection.close()
        queued = _until(served, "vllm:num_requests_waiting", 0)
        steps = served.metrics()["tailrace:steps_total"]
        while (start := served.metrics()["tailrace:steps_total"]) == steps:
            time.sleep(0.002)
        for connection in open_ones[:running]:
            connection.close()
        found = served.wait_until_idle()
        needed = int(found["tailrace:steps_total"] - start)
        print(f"{when} the load, {'streams' if stream else 'whole answers'} left: slots free after {needed} steps", flush=True)
        # The one in which they went away; another one where it began before the server heard of it.
        if needed > 2:
            yield f"slots were free only after {needed} steps"
        if queued["vllm:num_requests_running"] != running:
            yield "clients that waited went away, and those that were served lost their places"
    served.turn_slow(0)


def _until(served: Served, name: str, value: float) -> dict[str, float]:
    deadline = time.monotonic() + PATIENCE
    while (found := served.metrics())[name] != value:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} is {found[name]:g}, not {value:g}, after {PATIENCE:g} s")
        time.sleep(0.01)
    return found


def _end(served: Served, load: Load, asked: Sequence[Question]) -> Iterator[str]:
    """SIGTERM in the middle: whoever was let in gets an answer or an error, and the server ends in time."""
    seen = Seen()
    served.turn_slow(_SLOW)
    with _clients(served, load, asked, seen, leaving=False) as crowd:
        _until(served, "vllm:num_requests_running", load.slots)
        time.sleep(2)
        begun = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        status = served.process.wait(PATIENCE)
        seconds = time.monotonic() - begun
    print(f"SIGTERM with {load.clients} clients: ended after {seconds:.1f} s with {status}; {dict(seen.counts)}")
    if status != 128 + signal.SIGTERM:
        yield f"the server ended with {status}"
    if seconds > _GRACE + 10:
        yield f"the server took {seconds:.1f} s to end"
    if late := [client.name for client in crowd if client.is_alive()]:
        yield f"hung at the end: {late}"
    if not seen.counts["told of the end"]:
        yield "nobody was in the middle of a stream at the end"
    yield from seen.wrong


def _print_figures(
    load: Load, seen: Seen, gained: dict[str, float], seconds: float, planted: int, memory: Sequence[int]
) -> None:
    steps = gained["tailrace:steps_total"]
    tokens = gained["vllm:generation_tokens_total"] + gained["llamacpp:prompt_tokens_total"]
    rows = [(what, f"{count:,}") for what, count in sorted(seen.counts.items())]
    rows += [
        ("device errors planted", f"{planted}"),
        ("wrong, lost or hung", f"{len(seen.wrong)}"),
        ("tokens generated a second", f"{gained['vllm:generation_tokens_total'] / seconds:,.1f}"),
        ("steps; tokens of prompts and answers in each", f"{steps:,.0f}; {tokens / steps:.2f}"),
        ("tokens of prompts reused", f"{gained['tailrace:reused_tokens_total'] / gained['vllm:prompt_tokens_total']:.0%}"),
        ("first token of a stream, median and 95 %", _spread(seen.first)),
        ("whole answer, median and 95 %", _spread(seen.whole)),
        (
            "memory at the start, middle and end",
            ", ".join(f"{memory[p] / 2**20:.1f}" for p in (0, len(memory) // 2, -1)) + " MiB",
        ),
    ]
    for what, value in rows:
        print(f"| {what} | {value} |")


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return "-"
    cuts = statistics.quantiles(values, n=20)
    return f"{cuts[9]:.2f} s, {cuts[18]:.2f} s"


def main() -> int:
    """Read the arguments; 1 if something went wrong."""
    parser = argparse.ArgumentParser(prog="python -m verification.load", description=__doc__)
    for name, kind, text in (
        ("model", str, "a model whose texts may be any"),
        ("minutes", float, "of load"),
        ("clients", int, "that ask at the same time"),
        ("slots", int, "of the server: 1, 2 or 4"),
        ("queue", int, "of the server"),
        ("context", int, "tokens"),
        ("seed", int, "of all that is drawn"),
        ("errors", float, "seconds from one error of the device to the next"),
    ):
        parser.add_argument(f"--{name}", type=kind, default=getattr(Load, name), help=f"{text} (%(default)s)")
    wrong = run(Load(**vars(parser.parse_args())))
    for what in wrong[:20]:
        print(f"WRONG: {what}")
    print(f"{len(wrong)} wrong" if wrong else "nothing lost, nothing hung, nothing wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
