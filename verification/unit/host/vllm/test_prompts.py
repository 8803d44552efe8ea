"""The scheduler's side: which prompts are saved, when, from which blocks; and what becomes of the others."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

from tailrace.spec import handover as contract
from tailrace.vllm.folder import HandoverFolder
from tailrace.vllm.prompts import Prompts, Save
from verification.unit.host.vllm.fakes import Request, Status, new, output

TOKENS = list(range(10, 50))


@pytest.fixture
def folder(tmp_path: Path) -> HandoverFolder:
    return HandoverFolder(tmp_path, 600)


@pytest.fixture
def prompts(folder: HandoverFolder) -> Prompts:
    return Prompts(folder, {"tailrace_model": "tiny"})


def saved(folder: HandoverFolder, saves: list[Save]) -> str:
    """Pretend that the worker has written one."""
    (save,) = saves
    (folder.path / save.name).touch()
    return save.name


def test_a_prompt_in_one_step(folder: HandoverFolder, prompts: Prompts) -> None:
    request = Request("a/../../b", TOKENS)
    prompts.allocated(request)
    saves = prompts.step(output({request.request_id: 40}, (new(request, [4, 9, 2]),)))
    assert [(save.tokens, save.blocks) for save in saves] == [(tuple(TOKENS), (4, 9, 2))]
    # Nothing of what a client may choose is in the name.
    assert contract.is_name(saves[0].name)
    name = saved(folder, saves)
    assert prompts.finished(request) == {
        "do_remote_prefill": True,
        "do_remote_decode": False,
        "tailrace_file": name,
        "tailrace_tokens": 40,
        "tailrace_next_token": 7,
        "tailrace_model": "tiny",
    }
    assert prompts.finished(request) is None


def test_chunks_prefix_and_others(prompts: Prompts) -> None:
    """A prompt in chunks, one whose beginning vLLM has in its prefix cache, and one that nobody wants, in the same steps."""
    long, known, other = Request("long", TOKENS), Request("known", TOKENS), Request("other", TOKENS, None)
    for request in (long, known, other):
        prompts.allocated(request)
    first = output({"long": 16, "known": 8, "other": 40}, (new(long, [1]), new(known, [5, 6, 7], 32), new(other, [8, 9, 10])))
    assert [save.blocks for save in prompts.step(first)] == [(5, 6, 7)]
    assert prompts.step(output({"long": 16, "other": 1}, cached=(("long", [2], 16), ("other", None, 40)))) == []
    (save,) = prompts.step(output({"long": 8}, cached=(("long", [3], 32),)))
    assert save.blocks == (1, 2, 3)
    # Once: decode steps of the same request save nothing.
    assert prompts.step(output({"long": 1}, cached=(("long", None, 40),))) == []
    assert prompts.finished(other) is None


def test_a_preemption_in_the_middle(prompts: Prompts) -> None:
    request = Request("a", TOKENS)
    prompts.allocated(request)
    assert prompts.step(output({"a": 32}, (new(request, [1, 2]),))) == []
    # It begins again in other blocks, with some of them found again.
    prompts.allocated(request)
    assert prompts.step(output({"a": 16}, cached=(("a", [7, 8], 16),), resumed=("a",))) == []
    (save,) = prompts.step(output({"a": 8}, cached=(("a", [9], 32),)))
    assert save.blocks == (7, 8, 9)


def test_a_preemption_afterwards(folder: HandoverFolder, prompts: Prompts) -> None:
    """What is written stays written, also if vLLM has to compute the prompt again to go on by itself."""
    request = Request("a", TOKENS)
    prompts.allocated(request)
    name = saved(folder, prompts.step(output({"a": 40}, (new(request, [1, 2, 3]),))))
    prompts.allocated(request)
    assert prompts.step(output({"a": 42}, cached=(("a", [4, 5, 6], 0),), resumed=("a",))) == []
    answer = prompts.finished(request)
    assert answer is not None
    assert answer["tailrace_file"] == name


@pytest.mark.parametrize("status", [Status.FINISHED_ABORTED])
def test_an_abort(folder: HandoverFolder, prompts: Prompts, status: Status) -> None:
    """Before the prompt is complete, and after: nothing stays behind once the worker has heard of it."""
    early, late = Request("early", TOKENS, status=status), Request("late", TOKENS, status=status)
    for request in (early, late):
        prompts.allocated(request)
    name = saved(folder, prompts.step(output({"early": 8, "late": 40}, (new(early, [1]), new(late, [2, 3, 4])))))
    assert prompts.finished(early) is None
    assert prompts.finished(late) is None
    assert (prompts.unwanted(), prompts.unwanted()) == ([name], [])
    assert prompts.step(output({"early": 32}, cached=(("early", [5, 6], 8),))) == []


def test_a_file_that_could_not_be_written(prompts: Prompts) -> None:
    request = Request("a", TOKENS)
    prompts.allocated(request)
    prompts.step(output({"a": 40}, (new(request, [1, 2, 3]),)))
    assert prompts.finished(request) == {"tailrace_refused": "its keys and values were not written: vLLM's log says why"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"lora_request": SimpleNamespace(lora_name="pirate")}, "it uses the LoRA adapter 'pirate', which the decoder's model does not have"),
        ({"mm_features": ["an image"]}, "it has images, sound or video, which the decoder's model does not read"),
        ({"prompt_token_ids": None}, "it is given by embeddings, and the decoder needs its tokens"),
        ({"prompt_embeds": object()}, "it is given by embeddings, and the decoder needs its tokens"),
    ],
)  # fmt: skip
def test_requests_that_are_refused_by_name(prompts: Prompts, change: dict[str, Any], text: str) -> None:
    request = Request(**{"request_id": "a", "prompt_token_ids": TOKENS, **change})
    prompts.allocated(request)
    assert prompts.step(output({"a": 40}, (new(request, [1, 2, 3]),))) == []
    assert prompts.finished(request) == {"tailrace_refused": text}


def test_every_request(folder: HandoverFolder) -> None:
    prompts = Prompts(folder, {}, every_request=True)
    request = Request("a", TOKENS, None)
    prompts.allocated(request)
    assert len(prompts.step(output({"a": 40}, (new(request, [1, 2, 3]),)))) == 1
