"""What clients need round them: a server with a model, its tokenizer as files, a text."""

import http.client
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tailrace.models.fetch import resolve_model

#: Tokens of prompt and answer.
CONTEXT = 1024
#: A name for the only version of a model in a cache that has no others.
_VERSION = "0" * 40


def ask(url: str, path: str, body: Any = None) -> Any:
    """The JSON or the text of an answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)
    try:
        connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        text = response.read().decode()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status}: {text}")
        return json.loads(text) if "json" in response.headers["content-type"] else text
    finally:
        connection.close()


def count(url: str, name: str) -> int:
    """A figure of ``/metrics``."""
    found = re.search(rf"^tailrace:{name}_total\{{.*\}} (\S+)$", ask(url, "/metrics"), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


@contextmanager
def serving(model: str, log: Path) -> Iterator[str]:
    """Serve a model on the emulator until the end of the block; gives the URL."""
    command = [sys.executable, "-m", "tailrace", "serve", model, "--port", "0", "-c", str(CONTEXT)]
    with log.open("w") as said, subprocess.Popen(command, stderr=said) as process:
        try:
            while not (found := re.search(r"at (http://\S+)/v1;", log.read_text())):
                if process.poll() is not None:
                    raise RuntimeError(f"the server ended with {process.returncode}: see {log}")
                time.sleep(0.1)
            yield found[1]
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def a_book() -> Iterator[str]:
    """Serve a text of some thousand words; gives its URL."""

    class Book(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = b"The river runs down to the sea, and the sea is deep and wide. " * 400
            self.send_response(200)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Book) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/book.txt"
        finally:
            server.shutdown()


def tokenizer_folder(folder: Path, model: str) -> tuple[Path, Path]:
    """The tokenizer of a GGUF file as Hugging Face has them: a folder, and a cache of the hub with that."""
    place, hub = folder / "tokenizer" / Path(model).stem, folder / "hub"
    if not (place / "config.json").is_file():
        from transformers import AutoConfig, AutoTokenizer

        path = resolve_model(model, None)
        for kind in (AutoTokenizer, AutoConfig):
            kind.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(place)
    home = hub / "hub" / f"models--tailrace--{Path(model).stem}"
    shutil.copytree(place, home / "snapshots" / _VERSION, dirs_exist_ok=True)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / "main").write_text(_VERSION)
    return place, hub
