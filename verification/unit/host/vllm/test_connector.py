"""The connector, loaded with classes that stand in for vLLM's: from the scheduler's steps to a file that a model takes."""

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch

import tailrace
from tailrace import ConfigError, LanguageModel, ModelError
from tailrace.generation.handover import read_handover
from tailrace.spec import handover as contract
from verification.unit.host.generation.handover_files import tensors_of
from verification.unit.host.tiny_models import write_model
from verification.unit.host.vllm.fakes import Backend, Request, Status, cache_config, fake_vllm, new, output, vllm_config

PROMPT = [int(token) for token in np.random.default_rng(5).integers(3, 280, 37)]
NAMES = ["model.layers.0.self_attn.attn", "model.layers.1.self_attn.attn"]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    path = write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", heads=4, kv_heads=2)
    with tailrace.load(path, context=64) as opened:
        yield opened


class Worker:
    """A worker of vLLM's with its connector; `block` tokens of a block of the cache, of 16 for the scheduler."""

    def __init__(self, module: Any, folder: Path, layout: str, block: int = 16, **extra: Any) -> None:
        config = vllm_config(folder, **extra)
        self.backend = Backend(layout, 32)
        self.caches = {name: torch.zeros((40, 2, block, 64)) for name in NAMES}
        for name in NAMES:
            config.compilation_config.static_forward_context[name] = SimpleNamespace(impl=self.backend)
        self.scheduler = module.TailraceConnector(config, module.KVConnectorRole.SCHEDULER, cache_config())
        self.worker = module.TailraceConnector(config, module.KVConnectorRole.WORKER, cache_config())
        self.worker.register_kv_caches(self.caches)
        self.block = block

    def compute(self, tensors: dict[str, Any], blocks: list[int]) -> None:
        """Keys and values of a prompt into blocks of the scheduler's."""
        place = torch.arange(len(PROMPT))
        slots = torch.tensor(blocks)[place // 16] * 16 + place % 16
        for n, name in enumerate(NAMES):
            keys, values = (tensors[part].transpose(0, 1) for part in contract.tensor_names(n))
            self.backend.do_kv_cache_update(None, keys, values, self.caches[name], slots)

    def step(self, given: Any) -> None:
        self.worker.bind_connector_metadata(self.scheduler.build_connector_meta(given))
        self.worker.start_load_kv(None)
        for name in NAMES:
            self.worker.wait_for_layer_load(name)
            self.worker.save_kv_layer(name, self.caches[name], None)
        self.worker.wait_for_save()


@pytest.mark.parametrize("layout", ["interleaved", "transposed", "packed"])
@pytest.mark.parametrize("block", [16, 8])
def test_from_the_scheduler_to_the_decoder(tmp_path: Path, lm: LanguageModel, layout: str, block: int) -> None:
    """Also where the backend cuts the scheduler's blocks."""
    imported = lm.engine.imported
    with fake_vllm() as module:
        worker = Worker(module, tmp_path, layout, block)
        request = Request("a", PROMPT)
        assert worker.scheduler.get_num_new_matched_tokens(request, 0) == (0, False)
        worker.scheduler.update_state_after_alloc(request, None, 0)
        tensors = tensors_of(imported, PROMPT)
        worker.compute(tensors, [3, 12, 7])
        worker.step(output({"a": 20}, (new(request, [3, 12]),)))
        assert not list(tmp_path.iterdir())
        worker.step(output({"a": 17}, cached=(("a", [7], 20),)))
        keep_blocks, params = worker.scheduler.request_finished_all_groups(request, ([3, 12, 7],))
    assert not keep_blocks
    assert params is not None
    assert params["tailrace_dtype"] == "float32"
    path = tmp_path / params["tailrace_file"]
    handover = read_handover(path, imported)
    assert handover.tokens == tuple(PROMPT)
    assert (handover.writer, handover.model) == ("vllm 0.fake", "tiny")
    assert handover.size == 2 * 2 * 2 * 37 * 32 * 4
    from safetensors.torch import load_file

    written = load_file(path)
    assert written.keys() == tensors.keys()
    # Powers of a processor may differ in the last bit, between one number and many of them.
    torch.testing.assert_close(written.pop(contract.FREQUENCIES), tensors[contract.FREQUENCIES], rtol=1e-14, atol=0)
    assert all(torch.equal(written[name], tensors[name]) for name in written)


def test_an_abort_while_the_file_is_written(tmp_path: Path, lm: LanguageModel) -> None:
    """vLLM may hear of it when the step is scheduled, and not yet over: the next one removes the file."""
    with fake_vllm() as module:
        worker = Worker(module, tmp_path, "interleaved")
        request = Request("a", PROMPT, status=Status.FINISHED_ABORTED)
        worker.scheduler.update_state_after_alloc(request, None, 0)
        saves = worker.scheduler.build_connector_meta(output({"a": 37}, (new(request, [1, 2, 3]),)))
        assert worker.scheduler.request_finished(request, [1, 2, 3]) == (False, None)
        worker.worker.bind_connector_metadata(saves)
        worker.worker.wait_for_save()
        assert len(list(tmp_path.iterdir())) == 1
        worker.step(output({}))
        assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full(tmp_path: Path, lm: LanguageModel, monkeypatch: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The one is told, the others go on."""
    with fake_vllm() as module:
        worker = Worker(module, tmp_path, "interleaved")
        request = Request("a", PROMPT)
        worker.scheduler.update_state_after_alloc(request, None, 0)

        def full(*arguments: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(worker.worker._folder, "write", full)
        with caplog.at_level(logging.ERROR, "vllm.tailrace"):
            worker.step(output({"a": 37}, (new(request, [1, 2, 3]),)))
        assert "a prompt of 37 tokens can't be handed over: [Errno 28] No space left on device" in caplog.text
        assert worker.scheduler.request_finished(request, [1, 2, 3]) == (
            False,
            {"tailrace_refused": "its keys and values were not written: vLLM's log says why"},
        )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"role": "kv_both"}, "TailraceConnector hands over what vLLM computes: its kv_role is kv_producer, not kv_both"),
        ({"folder": None}, 'kv_connector_extra_config lacks the folder: give {"folder": "/dev/shm/handover"}, and the same to tailrace serve --kv-folder'),
        ({"fodler": "x"}, "kv_connector_extra_config has 'fodler': folder, keep_seconds, every_request are known"),
        ({"keep_seconds": 0}, "keep_seconds is a number of seconds above 0, not 0"),
        ({"every_request": 1}, "every_request is true or false, not 1"),
    ],
)  # fmt: skip
def test_options_that_are_wrong(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    with fake_vllm() as module:
        config = vllm_config(**{"folder": tmp_path, **options})
        with pytest.raises(ConfigError) as refused:
            module.TailraceConnector(config, module.KVConnectorRole.SCHEDULER, cache_config())
    assert str(refused.value) == text


def test_a_backend_that_does_not_say_how_it_writes(tmp_path: Path) -> None:
    with fake_vllm() as module:
        config = vllm_config(tmp_path)
        config.compilation_config.static_forward_context.update(dict.fromkeys(NAMES, SimpleNamespace(impl=object())))
        worker = module.TailraceConnector(config, module.KVConnectorRole.WORKER, cache_config())
        with pytest.raises(ModelError, match="the attention backend object does not say how it writes its cache"):
            worker.register_kv_caches({name: torch.zeros((8, 2, 16, 64)) for name in NAMES})
