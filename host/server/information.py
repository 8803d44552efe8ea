"""What a server says of itself: its model, its sequences, its state."""

import time
from dataclasses import dataclass, field
from typing import Any

from .. import __version__
from ..generation.answer import Answer
from .scheduler import Scheduler


@dataclass
class Information:
    """What can be told of a server.

    Parameters
    ----------
    scheduler : Scheduler
    names : tuple of str
        What the model may be called.
    """

    scheduler: Scheduler
    names: tuple[str, ...]
    created: int = field(default_factory=lambda: int(time.time()))

    def health(self) -> tuple[int, dict[str, Any]]:
        """Status and body of ``/health``: a device that has failed again and again is not well."""
        load, batch = self.scheduler.load, self.scheduler.engine.decoder.batch
        if load.failures_in_a_row > 1:
            error = {"code": 503, "message": load.last_failure, "type": "unavailable_error"}
            return 503, {"status": "error", "error": error}
        return 200, {"status": "ok", "slots_idle": max(0, batch - load.running), "slots_processing": load.running}

    def models(self) -> dict[str, Any]:
        """The body of ``/v1/models``."""
        return {"object": "list", "data": [self.model(name) for name in self.names]}

    def model(self, name: str) -> dict[str, Any]:
        """One of these."""
        engine = self.scheduler.engine
        context = engine.decoder.limit
        return {
            "id": name,
            "object": "model",
            "created": self.created,
            "owned_by": "tailrace",
            "root": self.names[0],
            "max_model_len": context,
            "meta": {"n_ctx": context, "n_vocab": len(engine.tokenizer.vocabulary.tokens)},
        }

    def props(self) -> dict[str, Any]:
        """The body of ``/props``."""
        engine = self.scheduler.engine
        return {
            "default_generation_settings": {"n_ctx": engine.decoder.limit},
            "total_slots": engine.decoder.batch,
            "model_alias": self.names[0],
            "model_path": engine.imported.name,
            "chat_template": engine.tokenizer.chat_template or "",
            "device": engine.decoder.device.transport.name,
            "build_info": f"tailrace {__version__}",
        }

    def version(self) -> dict[str, Any]:
        """The body of ``/version``."""
        return {"version": __version__}

    def slots(self) -> list[dict[str, Any]]:
        """The body of ``/slots``: the sequences, by the names of llama-server."""
        engine, decoder = self.scheduler.engine, self.scheduler.engine.decoder
        idle = {"n_ctx": decoder.limit, "speculative": engine.speculates, "is_processing": False}
        found = [{"id": n, **idle} for n in range(decoder.batch)]
        for place, answer in self.scheduler.placed().items():
            found[place] |= _at_work(answer)
        return found


def _at_work(answer: Answer) -> dict[str, Any]:
    sampler, wish = answer.wish.sampler, answer.wish
    return {
        "is_processing": True,
        "n_prompt_tokens": answer.prompt_tokens,
        "n_prompt_tokens_cache": answer.reused or 0,
        "params": {
            "n_predict": -1 if wish.max_tokens is None else wish.max_tokens,
            "seed": sampler.seed,
            "temperature": sampler.temperature or 0.0,
            "top_k": sampler.top_k,
            "top_p": sampler.top_p,
            "min_p": sampler.min_p,
            "presence_penalty": sampler.presence_penalty,
            "frequency_penalty": sampler.frequency_penalty,
            "repeat_penalty": sampler.repetition_penalty,
            "stop": list(wish.stop),
            "ignore_eos": wish.ignore_ends,
            "speculative.n_max": None if wish.speculate else 0,
        },
        "next_token": {
            "has_next_token": answer.reason is None,
            "n_remain": answer.room,
            "n_decoded": len(answer.tokens) - answer.prompt_tokens,
        },
    }
