"""`tailrace run` with a schema or a grammar."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llguidance")

from click.testing import CliRunner

from tailrace.command.cli import main
from verification.unit.host.tiny_models import write_model

SCHEMA = '{"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": false}'


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1)


def run(model: Path, *options: Any) -> Any:
    return CliRunner().invoke(main, ["run", str(model), "-p", "ab", "-q", "-n", "40", "--device", "golden", *map(str, options)])


@pytest.mark.parametrize("from_file", [False, True])
def test_the_answer_fits(tiny: Path, tmp_path: Path, from_file: bool) -> None:
    file = tmp_path / "schema.json"
    file.write_text(SCHEMA)
    assert json.loads(run(tiny, "--json-schema", f"@{file}" if from_file else SCHEMA).stdout)["a"] in (1, 2)
    file.write_text('root ::= "xyz"')
    assert run(tiny, "--grammar", f"@{file}" if from_file else 'root ::= "xyz"').stdout == "xyz\n"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--json-schema", "{}", "--grammar", "x"), 2, "Error: --json-schema and --grammar both say what the answer may be: leave one of them out"),
        (("--json-schema", "["), 2, "Error: a JSON schema must be a JSON object: EOF while parsing a list at line 1 column 1"),
        (("--grammar", "root ::= x"), 2, "Error: the grammar is no GBNF: Rule 'x' not found"),
        (("--grammar", "@none"), 2, "Error: --grammar: none can't be read: [Errno 2] No such file or directory: 'none'"),
        (("--json-schema", '{"type": "x"}'), 1, "tailrace: the grammar can't be used: Invalid type: x"),
        (
            ("--grammar", 'root ::= "x"', "--tokens-per-doorbell", 2),
            2,
            "Error: --tokens-per-doorbell is for the best token, which the device chooses itself: leave temperature, penalties and grammars out",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(tiny: Path, options: tuple[Any, ...], code: int, message: str) -> None:
    result = run(tiny, *options)
    assert (result.exit_code, result.stdout, result.stderr.splitlines()[-1]) == (code, "", message)
