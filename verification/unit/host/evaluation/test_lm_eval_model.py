"""The model class for lm_eval, through lm_eval itself; it is installed apart (requirements/eval.txt)."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tailrace
from tailrace.spec.errors import ConfigError, LimitError, ModelError
from verification.unit.host.tiny_models import write_model

pytestmark = pytest.mark.slow

lm_eval = pytest.importorskip(
    "lm_eval", reason="lm_eval is kept apart: pip install --no-deps --require-hashes -r requirements/eval.txt"
)
pytest.importorskip("torch")

from lm_eval.api.instance import Instance  # noqa: E402

from tailrace.evaluation.evaluate import Score, in_float32, on_device  # noqa: E402
from tailrace.evaluation.lm_eval_model import TailraceModel  # noqa: E402
from tailrace.models.fetch import resolve_model  # noqa: E402

TASKS = ("tailrace_choices", "tailrace_prose", "tailrace_needles_256")
SHAKESPEARE = resolve_model("shakespeare")


def scores(device: str, batch: int = 4, **options: Any) -> list[Score]:
    with tailrace.load(SHAKESPEARE, device, context=512, batch=batch) as lm:
        return on_device(lm, SHAKESPEARE, options.pop("tasks", TASKS), **options)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TailraceModel]:
    path = write_model(tmp_path_factory.mktemp("models") / "m.gguf")
    with tailrace.load(path, context=48, batch=2) as lm:
        yield TailraceModel(lm)


def requests(kind: Any, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, given, n) for n, given in enumerate(arguments)]


def test_devices_give_equal_scores() -> None:
    """Golden and the emulator, one text at a time and four: to the last bit."""
    expected = scores("golden", limit=2)
    assert {score.task for score in expected} == set(TASKS)
    assert scores("emulator", limit=2) == expected
    assert scores("emulator", batch=1, limit=2) == expected


def test_float32_is_near() -> None:
    """lm_eval's own class with the same weights: as near as the 8 bits of the cache say."""
    tasks = ("tailrace_choices", "tailrace_prose")
    mine, theirs = scores("emulator", tasks=tasks, limit=12), in_float32(SHAKESPEARE, tasks, context=512, limit=12)
    assert [(s.task, s.metric, s.samples) for s in mine] == [(s.task, s.metric, s.samples) for s in theirs]
    expected = {(score.task, score.metric): score.value for score in theirs}
    for score in mine:
        if score.metric == "bits_per_byte":
            # Measured: 1e-5.
            assert score.value == pytest.approx(expected[score.task, score.metric], abs=1e-3)
            assert 1.5 < score.value < 4
        if score.metric.startswith("acc"):
            # At most one question of twelve is as good as undecided.
            assert abs(score.value - expected[score.task, score.metric]) < 1.5 / 12


def test_likelihoods_and_answers(model: TailraceModel) -> None:
    """Those of the language model itself."""
    asked = [("ab cd", " ab"), ("ab cd", " cd ab"), ("", "cd")]
    found = model.loglikelihood(requests("loglikelihood", *asked), disable_tqdm=True)
    for (context, continuation), (logprob, _) in zip(asked, found, strict=True):
        tokens = model.tok_encode(context + continuation)
        start = len(model.tok_encode(context))
        if not context:
            tokens, start = [model.prefix_token_id, *tokens], 1
        judged = model.language_model.generate(tokens, max_tokens=1, prompt_logprobs=0).prompt_logprobs
        assert judged is not None
        assert logprob == pytest.approx(sum(one.logprob for one in judged[start:] if one is not None), abs=1e-12)
    prompts = [("ab cd", {"until": ["d"], "max_gen_toks": 6}), ("cd", {"until": [], "max_gen_toks": 3})]
    answers = model.generate_until(requests("generate_until", *prompts), disable_tqdm=True)
    assert answers[0] == model.language_model.generate("ab cd", max_tokens=6, stop=["d"]).text
    assert answers[1] == model.language_model.generate("cd", max_tokens=3).text


def test_what_is_too_long_loses_its_beginning(model: TailraceModel) -> None:
    long, short = "ab " * 40, "ab " * 15 + "ab"
    for cut, whole in (((long[:-1], " cd"), 0), ((short, " cd"), 1)):
        tokens = model.tok_encode("".join(cut))
        assert (len(tokens) > model.max_length) is (not whole)
        (logprob, _), = model.loglikelihood(requests("loglikelihood", cut), disable_tqdm=True)  # fmt: skip
        kept = tokens[-(model.max_length + 1) :]
        start = len(tokens) - len(model.tok_encode(cut[0]))
        with tailrace.load(model.language_model.engine.imported.model.path, context=49) as larger:
            judged = larger.generate(kept, max_tokens=1, prompt_logprobs=0).prompt_logprobs
        assert judged is not None
        assert logprob == pytest.approx(sum(one.logprob for one in judged[-start:] if one is not None), abs=1e-12)
    (rolled,) = model.loglikelihood_rolling(requests("loglikelihood_rolling", (long,)), disable_tqdm=True)
    assert rolled < 0


def test_what_is_refused(model: TailraceModel) -> None:
    def answer(**options: Any) -> None:
        model.generate_until(requests("generate_until", ("ab", options)), disable_tqdm=True)

    with pytest.raises(ConfigError, match=r"^a task asks for num_beams=3, and known are temperature, top_k, "):
        answer(num_beams=3, max_gen_toks=2)
    with pytest.raises(LimitError, match=r"^an answer of 48 tokens leaves no room for a prompt in a context of 48: load "):
        answer(max_gen_toks=48)
    with pytest.raises(LimitError, match=r"^a continuation has 49 tokens, and the context has room for 48: load the model"):
        model._loglikelihood_tokens([(None, [3], [4] * 49)])
    with pytest.raises(ConfigError, match=r"^there is no task 'nothing': choose from tailrace_choices, tailrace_needles,"):
        on_device(model.language_model, SHAKESPEARE, ["nothing"])


def test_chat_templates(model: TailraceModel, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "ab"}]
    text = model.apply_chat_template(turns)
    assert model.tok_encode(text) == model.language_model.tokenizer.encode_chat(turns)
    assert model.chat_template(True) == model.language_model.tokenizer.chat_template
    with tailrace.load(write_model(tmp_path / "m.gguf", chat_template=None), context=48) as plain:
        with pytest.raises(ModelError, match=r"^the model has no chat template: leave --apply_chat_template out$"):
            TailraceModel(plain).apply_chat_template(turns)


def test_lm_evals_own_command_line(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "tailrace.evaluation", "run", "--model", "tailrace", "--model_args",
        "model=shakespeare,context=512", "--tasks", "tailrace_choices,tailrace_needles_256", "--limit", "2", "--output_path",
        str(tmp_path / "found.json"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.glob("found*.json")
    found = json.loads(written.read_text())["results"]
    expected = {
        (s.task, s.metric): s.value for s in scores("emulator", tasks=("tailrace_choices", "tailrace_needles_256"), limit=2)
    }
    for (task, metric), value in expected.items():
        assert found[task][f"{metric},none"] == value


def test_the_command(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "tailrace", "eval", "shakespeare", "--tasks", "tailrace_choices", "--limit", "4", "--context", "512",
        "--compare", "float32", "-o", str(tmp_path / "found.json"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["device_name"] == "emulator"
    assert (
        [score["metric"] for score in found["device"]] == [score["metric"] for score in found["float32"]] == ["acc", "acc_norm"]
    )
    assert "difference" in done.stdout
