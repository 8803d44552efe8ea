"""Which prompts are to be handed over, and where their blocks are: what vLLM's scheduler tells, step by step.

Nothing here needs vLLM: its objects are read by their attributes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailrace.spec import handover as contract

from .folder import HandoverFolder

#: How vLLM's requests end whose prompt nobody will go on from.
_BROKEN_OFF = ("FINISHED_ABORTED", "FINISHED_IGNORED", "FINISHED_ERROR")


@dataclass(frozen=True)
class Save:
    """A prompt that will be computed when this step is over.

    Attributes
    ----------
    name : str
        Of the file.
    tokens, blocks : tuple of int
        Blocks have room for the tokens, or more.
    """

    name: str
    tokens: tuple[int, ...]
    blocks: tuple[int, ...]


@dataclass
class _Prompt:
    name: str
    tokens: tuple[int, ...]
    blocks: list[int]


class Prompts:
    """The scheduler's side of the connector.

    A prompt is saved once, at the end of the step that completes it: then all its blocks hold keys and values, whether they
    were computed in chunks, found in vLLM's prefix cache, or computed anew after a preemption.

    Parameters
    ----------
    folder : HandoverFolder
    facts : mapping
        What is told with each file.
    every_request : bool
        Hand over every prompt, and not only those of requests that ask for it.
    """

    def __init__(self, folder: HandoverFolder, facts: Mapping[str, Any], every_request: bool = False) -> None:
        self._folder, self._facts, self._every = folder, dict(facts), every_request
        # By the ids of requests: those that wait for blocks or chunks, names of files of those that are saved, and why not.
        self._pending: dict[str, _Prompt] = {}
        self._saved: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._unwanted: list[str] = []

    def allocated(self, request: Any) -> None:
        """Blocks were allocated for a request: new, or resumed after a preemption."""
        identity = request.request_id
        if identity in self._pending or identity in self._saved or identity in self._refused or not self._is_wanted(request):
            return
        if (reason := _refusal(request)) is not None:
            self._refused[identity] = reason
        else:
            self._pending[identity] = _Prompt(contract.new_name(), tuple(request.prompt_token_ids), [])

    def step(self, output: Any) -> list[Save]:
        """What is to be saved at the end of a step; `output`: vLLM's SchedulerOutput."""
        self._folder.sweep()
        saves: list[Save] = []
        for new in output.scheduled_new_reqs:
            if (prompt := self._pending.get(new.req_id)) is not None:
                prompt.blocks = list(new.block_ids[0])
                saves += self._completed(new.req_id, new.num_computed_tokens + output.num_scheduled_tokens[new.req_id])
        cached = output.scheduled_cached_reqs
        for n, identity in enumerate(cached.req_ids):
            if (prompt := self._pending.get(identity)) is not None:
                blocks = cached.new_block_ids[n]
                if identity in cached.resumed_req_ids:
                    # It was preempted, and begins again in other blocks.
                    prompt.blocks = []
                prompt.blocks += [] if blocks is None else blocks[0]
                saves += self._completed(identity, cached.num_computed_tokens[n] + output.num_scheduled_tokens[identity])
        return saves

    def unwanted(self) -> list[str]:
        """Files that nobody will ask for: the worker removes them, after the steps that have written them."""
        names, self._unwanted = self._unwanted, []
        return names

    def finished(self, request: Any) -> dict[str, Any] | None:
        """What a finished request is told (``kv_transfer_params``); None: it asked for nothing."""
        identity = request.request_id
        refused, waiting = self._refused.pop(identity, None), self._pending.pop(identity, None)
        name = self._saved.pop(identity, None)
        if refused is not None:
            return {contract.REFUSED: refused}
        if getattr(request.status, "name", None) in _BROKEN_OFF:
            if name is not None:
                # The step that writes it may still be at work.
                self._unwanted.append(name)
            return None
        if waiting is not None or (name is not None and not self._folder.has(name)):
            return {contract.REFUSED: "its keys and values were not written: vLLM's log says why"}
        if name is None:
            return None
        return {
            # As vLLM's own connectors say it to whoever decodes.
            "do_remote_prefill": True,
            "do_remote_decode": False,
            contract.FILE: name,
            contract.COUNT: len(request.prompt_token_ids),
            contract.NEXT: next(iter(request.output_token_ids), None),
            **self._facts,
        }

    def _is_wanted(self, request: Any) -> bool:
        return self._every or bool((request.kv_transfer_params or {}).get("do_remote_decode"))

    def _completed(self, identity: str, computed: int) -> Sequence[Save]:
        prompt = self._pending[identity]
        if computed < len(prompt.tokens):
            return ()
        del self._pending[identity]
        self._saved[identity] = prompt.name
        return (Save(prompt.name, prompt.tokens, tuple(prompt.blocks)),)


def _refusal(request: Any) -> str | None:
    """Why the prompt of a request can't be handed over."""
    if getattr(request, "lora_request", None) is not None:
        return f"it uses the LoRA adapter {request.lora_request.lora_name!r}, which the decoder's model does not have"
    if getattr(request, "mm_features", None):
        return "it has images, sound or video, which the decoder's model does not read"
    if getattr(request, "prompt_embeds", None) is not None or not request.prompt_token_ids:
        return "it is given by embeddings, and the decoder needs its tokens"
    return None
