"""What stands in for vLLM: its base classes, attention backends, scheduler's output and requests, by their attributes alone."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

import torch


class Backend:
    """An attention backend that writes its cache; `layer` is what vLLM's attention layer is.

    Parameters
    ----------
    layout : str
        ``interleaved``: as GPU backends do, key and value of a slot side by side. ``transposed``: as the CPU backend does, keys of a
        block transposed, and then its values. ``packed``: pairs of tokens side by side, as AMX wants them.
    """

    def __init__(self, layout: str, size: int) -> None:
        self.layout, self.size = layout, size

    def do_kv_cache_update(self, layer: Any, key: Any, value: Any, cache: Any, slots: Any) -> None:
        tokens = cache.shape[2]
        for n, slot in enumerate(slots.tolist()):
            block, place = divmod(slot, tokens)
            if self.layout == "interleaved":
                cache[block, :, place, : self.size], cache[block, :, place, self.size :] = key[n], value[n]
                continue
            rows = cache[block].view(cache.shape[1], 2 * tokens * self.size)
            keys = rows[:, : tokens * self.size]
            values = rows[:, tokens * self.size :].view(-1, tokens, self.size)
            values[:, place] = value[n]
            if self.layout == "transposed":
                keys.view(-1, self.size, tokens)[:, :, place] = key[n]
            elif self.layout == "packed":
                keys.view(-1, tokens // 2, self.size, 2)[:, place // 2, :, place % 2] = key[n]


class Rounding(Backend):
    """A backend that stores fewer bits than it is given."""

    def do_kv_cache_update(self, layer: Any, key: Any, value: Any, cache: Any, slots: Any) -> None:
        super().do_kv_cache_update(layer, (key / 2).round() * 2, value, cache, slots)


class Status(Enum):
    RUNNING = 1
    FINISHED_STOPPED = 2
    FINISHED_LENGTH_CAPPED = 3
    FINISHED_ABORTED = 4


@dataclass
class Request:
    request_id: str
    prompt_token_ids: list[int] | None
    kv_transfer_params: dict[str, Any] | None = field(default_factory=lambda: {"do_remote_decode": True})
    output_token_ids: list[int] = field(default_factory=lambda: [7])
    status: Status = Status.FINISHED_LENGTH_CAPPED
    lora_request: Any = None
    mm_features: list[Any] = field(default_factory=list)
    prompt_embeds: Any = None


def new(request: Request, blocks: list[int], computed: int = 0) -> Any:
    return SimpleNamespace(req_id=request.request_id, block_ids=(blocks,), num_computed_tokens=computed)


def output(
    scheduled: dict[str, int], new: tuple[Any, ...] = (), cached: tuple[Any, ...] = (), resumed: tuple[str, ...] = ()
) -> Any:
    """A step of the scheduler; `cached`: (request id, new blocks or None, computed tokens)."""
    return SimpleNamespace(
        num_scheduled_tokens=scheduled,
        scheduled_new_reqs=list(new),
        scheduled_cached_reqs=SimpleNamespace(
            req_ids=[one[0] for one in cached],
            new_block_ids=[None if one[1] is None else (one[1],) for one in cached],
            num_computed_tokens=[one[2] for one in cached],
            resumed_req_ids=set(resumed),
        ),
    )


class FullAttentionSpec:
    def __init__(self, **changes: Any) -> None:
        self.num_kv_heads, self.head_size = 2, 32
        self.sliding_window: int | None = None
        self.attention_chunk_size: int | None = None
        self.__dict__.update(changes)


class MambaSpec:
    pass


def cache_config(*specs: Any) -> Any:
    return SimpleNamespace(kv_cache_groups=[SimpleNamespace(kv_cache_spec=spec) for spec in specs or (FullAttentionSpec(),)])


def vllm_config(
    folder: Any,
    model: dict[str, Any] | None = None,
    parallel: dict[str, int] | None = None,
    role: str = "kv_producer",
    **extra: Any,
) -> Any:
    """A configuration of vLLM's for a llama of two layers; what else is given becomes its extra configuration."""
    rope = {"rope_theta": 10000.0, "rope_type": "default"}
    text = SimpleNamespace(model_type="llama", vocab_size=288, num_hidden_layers=2, rope_parameters=rope)
    facts = {
        "use_mla": False,
        "served_model_name": "tiny",
        "model": "folder/tiny",
        "dtype": torch.float32,
        "hf_text_config": text,
    }
    given = {} if folder is None else {"folder": str(folder)}
    return SimpleNamespace(
        model_config=SimpleNamespace(**{**facts, **(model or {})}),
        parallel_config=SimpleNamespace(**{"tensor_parallel_size": 1, **(parallel or {})}),
        cache_config=SimpleNamespace(block_size=16),
        speculative_config=None,
        compilation_config=SimpleNamespace(static_forward_context={}),
        kv_transfer_config=SimpleNamespace(kv_role=role, kv_connector_extra_config={**given, **extra}),
    )


class _Base:
    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any) -> None:
        self._vllm_config, self._role, self._kv_cache_config = vllm_config, role, kv_cache_config
        self._kv_transfer_config = vllm_config.kv_transfer_config
        self._metadata: Any = None

    def bind_connector_metadata(self, metadata: Any) -> None:
        self._metadata = metadata

    def _get_connector_metadata(self) -> Any:
        assert self._metadata is not None
        return self._metadata


class _Metadata:
    pass


class _Hybrid:
    pass


@contextmanager
def fake_vllm() -> Iterator[Any]:
    """The connector's module, with these classes in place of vLLM's."""
    names = ("vllm", "vllm.distributed", "vllm.distributed.kv_transfer", "vllm.distributed.kv_transfer.kv_connector")
    first, second = f"{names[-1]}.v1", f"{names[-1]}.v1.base"
    made = {name: ModuleType(name) for name in (*names, first, second)}
    made["vllm"].__version__ = "0.fake"  # type: ignore[attr-defined]
    made[first].__dict__.update(KVConnectorRole=Enum("KVConnectorRole", "SCHEDULER WORKER"), SupportsHMA=_Hybrid)
    made[second].__dict__.update(KVConnectorBase_V1=_Base, KVConnectorMetadata=_Metadata)
    before = {name: sys.modules.get(name) for name in (*made, "tailrace.vllm.connector")}
    sys.modules.update(made)
    sys.modules.pop("tailrace.vllm.connector", None)
    try:
        from importlib import import_module

        yield import_module("tailrace.vllm.connector")
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
