"""Clients of others against `tailrace serve`.

``python -m verification.clients [NAME...]`` installs them, each into an environment of its own, has them speak to a server, and
fails if one of them does not get what the server answers by itself.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .catalogue import CLIENTS, PROGRAMS, Stage
from .environments import make, variables
from .stage import a_book, ask, count, serving, tokenizer_folder

#: Where environments are, unless it is said otherwise.
FOLDER = Path(os.environ.get("TAILRACE_CLIENTS", "build/clients"))
_QUESTION = "Name three rivers."
#: Seconds for one client; a machine may have other things to do.
_PATIENCE = 900


def run(name: str, folder: Path, stage: Stage) -> str:
    """Have one client speak to the server; returns what was seen.

    Raises
    ------
    AssertionError
        If it did not get what it should have.
    """
    return _run_program(name, folder, stage) if CLIENTS[name].program else _run_tool(name, folder, stage)


def _run_program(name: str, folder: Path, stage: Stage) -> str:
    body = {"messages": [{"role": "user", "content": _QUESTION}], "max_tokens": 8, "temperature": 0}
    expected = ask(stage.url, "/v1/chat/completions", body)["choices"][0]["message"]["content"]
    program = PROGRAMS / CLIENTS[name].program
    if CLIENTS[name].node:
        # Node looks for packages from where the program is.
        place = folder / name / program.name
        place.write_text(program.read_text())
        command = ["node", str(place)]
    else:
        command = [str(folder / name / "bin/python"), str(program)]
    said = _output([*command, f"{stage.url}/v1", stage.model, _QUESTION], name, folder, stage)
    told = json.loads(said.strip().splitlines()[-1])
    assert set(told["answers"]) == {expected}, f"{told['answers']}, and the server answers {expected!r}"
    return f"{told['seen']}; {len(told['answers'])} answers, each {expected!r}"


def _run_tool(name: str, folder: Path, stage: Stage) -> str:
    client = CLIENTS[name]
    assert client.command is not None
    before = {what: count(stage.url, what) for what in ("answers_finished", "requests_failed", "requests_cancelled")}
    program, *arguments = client.command(stage)
    said = _output([str(folder / name / "bin" / program), *arguments], name, folder, stage)
    gained = {what: count(stage.url, what) - number for what, number in before.items()}
    assert gained["answers_finished"] >= client.answers, f"{gained}, and the tool said: {said[-2000:]}"
    assert not gained["requests_failed"], f"{gained}"
    found = re.search(client.shows, said)
    assert found is not None, f"nothing like {client.shows!r} in: {said[-2000:]}"
    done = f"{gained['answers_finished']} answers, {gained['requests_cancelled']} cancelled"
    return "; ".join((done, *filter(None, (" ".join(found.groups()),))))


def _output(command: list[str], name: str, folder: Path, stage: Stage) -> str:
    done = subprocess.run(
        command,
        env=variables(folder, name, stage.hub),
        cwd=stage.work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
    )
    (folder / f"{name}.log").write_text(f"{command}\n{done.stdout}\n{done.stderr}")
    assert done.returncode == 0, f"ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}"
    return done.stdout


def run_all(names: list[str], folder: Path, model: str = "smollm2") -> dict[str, str]:
    """Have clients that are installed speak to a server; returns what was seen of each, or what went wrong."""
    seen: dict[str, str] = {}
    tokenizer, hub = tokenizer_folder(folder, model)
    with serving(model, folder / "server.log") as url, a_book() as book:
        for name in names:
            begun = time.monotonic()
            with tempfile.TemporaryDirectory() as work:
                stage = Stage(url, ask(url, "/v1/models")["data"][0]["id"], tokenizer, hub, book, Path(work))
                try:
                    seen[name] = run(name, folder, stage)
                except (AssertionError, subprocess.TimeoutExpired) as error:
                    seen[name] = f"FAILED: {error}"
            versions = ", ".join(CLIENTS[name].packages)
            print(f"{name} ({versions}), {time.monotonic() - begun:.0f} s: {seen[name]}", flush=True)
    return seen


def main() -> int:
    """Read the arguments; 1 if a client does not work."""
    parser = argparse.ArgumentParser(prog="python -m verification.clients", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CLIENTS)} (all but vllm)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where they are installed (%(default)s)")
    parser.add_argument("--model", default="smollm2", help="with a chat template (%(default)s)")
    parser.add_argument("--torch", default="torch==2.13.0", help="arguments for pip where PyTorch is needed (%(default)s)")
    options = parser.parse_args()
    names = options.names or [name for name in CLIENTS if name != "vllm"]
    if unknown := set(names) - set(CLIENTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}: choose from {', '.join(CLIENTS)}")
    folder = options.folder.resolve()
    for name in names:
        make(folder, name, options.torch)
    seen = run_all(names, folder, options.model)
    return 1 if any(text.startswith("FAILED") for text in seen.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
