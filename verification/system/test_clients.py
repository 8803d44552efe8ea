"""Other people's clients speak to the server; see `verification.clients`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

from verification.clients.__main__ import FOLDER, run
from verification.clients.catalogue import CLIENTS, Stage
from verification.clients.environments import is_ready
from verification.clients.stage import a_book, serving, tokenizer_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, Path, str]]:
    pytest.importorskip("transformers")
    tokenizer, hub = tokenizer_folder(FOLDER.resolve(), "smollm2")
    with serving("smollm2", tmp_path_factory.mktemp("server") / "log") as url, a_book() as book:
        yield url, tokenizer, hub, book


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_gets_what_the_server_answers(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if not is_ready(FOLDER, name):
        pytest.skip(f"{name} is not installed: python -m verification.clients {name} does it")
    url, tokenizer, hub, book = request.getfixturevalue("place")
    assert run(name, FOLDER.resolve(), Stage(url, "smollm2", tokenizer, hub, book, tmp_path))
