"""The KV connector that vLLM loads: each prompt that a request wants to hand over becomes a file.

vLLM takes it with ``kv_connector="TailraceConnector"``, ``kv_connector_module_path="tailrace.vllm.connector"``,
``kv_role="kv_producer"``, and ``kv_connector_extra_config`` with ``folder``, and if wanted ``keep_seconds`` (600) and
``every_request`` (false).
"""

import logging
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import vllm
from vllm.distributed.kv_transfer.kv_connector.v1 import KVConnectorRole, SupportsHMA
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, KVConnectorMetadata

from tailrace.spec import handover as contract
from tailrace.spec.errors import ConfigError, ModelError

from .folder import HandoverFolder
from .layout import Layout, check_layout, measure_layout
from .model import handed_model, layer_numbers
from .prompts import Prompts, Save

_log = logging.getLogger("vllm.tailrace")

_OPTIONS: dict[str, Any] = {"folder": None, "keep_seconds": 600, "every_request": False}


@dataclass
class Saves(KVConnectorMetadata):
    """What the scheduler tells the worker: the prompts that a step completes, and files that nobody wants any more."""

    saves: list[Save] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)


class TailraceConnector(KVConnectorBase_V1, SupportsHMA):
    """Hands prompts over to Tailrace, in files of a folder.

    Raises
    ------
    ConfigError
        If an option is wrong.
    ModelError
        If the prompts of vLLM's model can't be handed over.
    """

    def __init__(self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any) -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        options = self._options()
        self._folder = HandoverFolder(Path(options["folder"]), options["keep_seconds"])
        self._model = handed_model(vllm_config, kv_cache_config, vllm.__version__)
        kind = str(vllm_config.model_config.dtype).removeprefix("torch.")
        facts = {contract.TYPE: kind, contract.MODEL: self._model.name}
        self._prompts = Prompts(self._folder, facts, options["every_request"])
        self._block_size = vllm_config.cache_config.block_size
        self._caches: dict[int, tuple[torch.Tensor, Layout]] = {}

    def _options(self) -> dict[str, Any]:
        if self._kv_transfer_config.kv_role != "kv_producer":
            raise ConfigError(
                f"TailraceConnector hands over what vLLM computes: its kv_role is kv_producer, not"
                f" {self._kv_transfer_config.kv_role}"
            )
        given = self._kv_transfer_config.kv_connector_extra_config
        if unknown := sorted(given.keys() - _OPTIONS.keys()):
            raise ConfigError(f"kv_connector_extra_config has {unknown[0]!r}: {', '.join(_OPTIONS)} are known")
        options = {**_OPTIONS, **given}
        if not isinstance(options["folder"], str) or not options["folder"]:
            raise ConfigError(
                'kv_connector_extra_config lacks the folder: give {"folder": "/dev/shm/handover"}, and the same to tailrace'
                " serve"
                " --kv-folder"
            )
        if not isinstance(options["keep_seconds"], int | float) or not options["keep_seconds"] > 0:
            raise ConfigError(f"keep_seconds is a number of seconds above 0, not {options['keep_seconds']!r}")
        if not isinstance(options["every_request"], bool):
            raise ConfigError(f"every_request is true or false, not {options['every_request']!r}")
        return options

    # The scheduler's side

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int, bool]:
        """Nothing is loaded: this connector only gives."""
        return 0, False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Note a request that wants its prompt handed over."""
        self._prompts.allocated(request)

    def build_connector_meta(self, scheduler_output: Any) -> Saves:
        """Tell the worker which prompts this step completes."""
        return Saves(self._prompts.step(scheduler_output), self._prompts.unwanted())

    def request_finished(self, request: Any, block_ids: Any) -> tuple[bool, dict[str, Any] | None]:
        """Tell the client where its prompt is; blocks may be freed at once."""
        return False, self._prompts.finished(request)

    def request_finished_all_groups(self, request: Any, block_ids: Any) -> tuple[bool, dict[str, Any] | None]:
        """As `request_finished`, with the hybrid memory allocator."""
        return self.request_finished(request, block_ids)

    # The worker's side

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Take the caches, and find out how the attention backend lays them out."""
        model, forward = self._model, self._vllm_config.compilation_config.static_forward_context
        layouts: dict[Any, Layout] = {}
        for name, number in layer_numbers(list(kv_caches), model.layers, model.name).items():
            cache, layer = kv_caches[name], forward[name]
            if not hasattr(layer.impl, "do_kv_cache_update"):
                raise ModelError(
                    f"the attention backend {type(layer.impl).__name__} does not say how it writes its cache, so that nothing"
                    " can be handed over: choose another one with --attention-backend"
                )
            write = partial(_write, layer, cache)
            kind = (cache.shape, cache.stride(), cache.dtype, type(layer.impl))
            if kind not in layouts:
                layouts[kind] = measure_layout(cache, model.kv_heads, model.head_size, write)
            check_layout(layouts[kind], cache, model.kv_heads, model.head_size, write)
            self._caches[number] = cache, layouts[kind]
        _log.info("prompts of %s are handed over in %s", model.name, self._folder.path)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Nothing is loaded."""

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing is loaded."""

    def save_kv_layer(self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any) -> None:
        """Nothing yet: whole prompts are saved when their last step is over."""

    def wait_for_save(self) -> None:
        """Write the prompts that this step has completed; they are there before their requests are answered."""
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, Saves)
        for name in metadata.unwanted:
            self._folder.discard(name)
        for save in metadata.saves:
            start = time.perf_counter()
            try:
                size = self._write(save)
            except OSError as error:
                # The client is told, by the scheduler's side; others go on.
                _log.error("a prompt of %d tokens can't be handed over: %s", len(save.tokens), error)
            else:
                seconds = time.perf_counter() - start
                _log.info("handed over %d tokens, %d bytes, in %.1f ms", len(save.tokens), size, 1000 * seconds)

    def _write(self, save: Save) -> int:
        tensors = {contract.TOKENS: torch.tensor(save.tokens, dtype=torch.int64)}
        if self._model.frequencies is not None:
            tensors[contract.FREQUENCIES] = self._model.frequencies
        for number in sorted(self._caches):
            cache, layout = self._caches[number]
            blocks = _cache_blocks(save, self._block_size, cache)
            parts = layout.unpack(cache, blocks, len(save.tokens))
            tensors.update(zip(contract.tensor_names(number), (part.cpu() for part in parts), strict=True))
        self._folder.write(save.name, tensors, self._model.metadata)
        return sum(tensor.nbytes for tensor in tensors.values())


def _write(layer: Any, cache: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor) -> None:
    layer.impl.do_kv_cache_update(layer, keys, values, cache, slots)


def _cache_blocks(save: Save, block_size: int, cache: torch.Tensor) -> torch.Tensor:
    """Blocks of the cache that hold a prompt: a backend may cut each of the scheduler's blocks into several."""
    tokens = cache.shape[2]
    parts = block_size // tokens
    blocks = torch.tensor(save.blocks, dtype=torch.int64, device=cache.device)
    whole = (blocks[:, None] * parts + torch.arange(parts, device=cache.device)).flatten()
    return whole[: -(-len(save.tokens) // tokens)]
