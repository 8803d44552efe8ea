"""Prompts that were computed elsewhere (``kv_transfer_params``): taken from a folder, and compared with what a request asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailrace.spec import handover as contract
from tailrace.spec.errors import MissingPackage, TailraceError

from ..generation.handover import Handover, read_handover
from ..generation.sequences import Holder
from ..gguf.describe import ImportedModel
from .errors import ApiError
from .requests import AnswerRequest

_FIELD = "kv_transfer_params"


@dataclass(frozen=True)
class HandedPrompt:
    """A prompt from the folder.

    Attributes
    ----------
    path : Path
    handover : Handover
    """

    path: Path
    handover: Handover

    def holder(self) -> Holder:
        """Somebody who has it; each answer to the prompt has its own."""
        return self.handover.holder()

    def check(self, wanted: AnswerRequest) -> None:
        """Check that a request asks for what was computed.

        Raises
        ------
        ApiError
            If it has another prompt, or several, or wants the prompt judged.
        """
        if len(wanted.prompts) != 1:
            raise _unusable(
                f"holds one prompt, and {len(wanted.prompts)} were given: send one request for each", "invalid_value"
            )
        if any(wish.prompt_logprobs is not None for wish in wanted.wishes):
            raise _unusable("can't go with echo and logprobs: the prompt would have to be computed again", "invalid_value")
        held, given = self.handover.tokens, wanted.prompts[0]
        if given[: len(held)] == held:
            return
        place = next((n for n, (one, other) in enumerate(zip(held, given)) if one != other), min(len(held), len(given)))
        raise _unusable(
            f"holds a prompt of {len(held)} tokens, and the request's of {len(given)} tokens differs from it at token {place}:"
            " send the same prompt (as a list of tokens, if the two servers' tokenizers or templates differ)"
        )

    def discard(self) -> None:
        """Remove the file: it has been used."""
        self.path.unlink(missing_ok=True)


class KvFolder:
    """The folder in which prompts are handed over.

    Parameters
    ----------
    path : Path or None
        None: the server takes none.
    imported : ImportedModel
        For which they are read.
    """

    def __init__(self, path: Path | None, imported: ImportedModel) -> None:
        self._path, self._imported = path, imported

    def split(self, body: Any) -> tuple[Any, HandedPrompt | None]:
        """A request's body without the field, and the prompt that the field leads to; None: there is none.

        A request for a completion may leave its prompt out: the file has it.

        Raises
        ------
        ApiError
            If there is a field, and no prompt can be taken from it.
        """
        if not isinstance(body, dict) or body.get(_FIELD) is None:
            return body, None
        rest = {name: value for name, value in body.items() if name != _FIELD}
        handed = self._taken(body[_FIELD])
        if not any(name in rest for name in ("prompt", "messages", "token_ids")):
            rest["token_ids" if "sampling_params" in rest else "prompt"] = list(handed.handover.tokens)
        return rest, handed

    def _taken(self, params: Any) -> HandedPrompt:
        if not isinstance(params, Mapping):
            raise _unusable(f"must be an object, not {params!r}", "invalid_value")
        if (reason := params.get(contract.REFUSED)) is not None:
            raise _unusable(f"brings no prompt, because the prefill did not hand it over: {reason}")
        if params.get("do_remote_decode"):
            raise _unusable(
                "asks for a prefill (do_remote_decode), and this server decodes: ask vLLM first", "unsupported_parameter"
            )
        if self._path is None:
            raise _unusable("is not taken by this server: start it with --kv-folder", "unsupported_parameter")
        name = params.get(contract.FILE)
        if not isinstance(name, str) or not contract.is_name(name):
            raise _unusable(
                f"must have the name of a hand-over file as {contract.FILE}, as vLLM's answer has it, not {name!r}",
                "invalid_value",
            )
        path = self._path / name
        if path.is_symlink():
            raise _unusable(f"leads to {name}, which is a link: only files in the folder are read", "invalid_value")
        try:
            return HandedPrompt(path, read_handover(path, self._imported))
        except MissingPackage:
            raise
        except TailraceError as error:
            raise _unusable(f"can't be used: {error}") from error


def _unusable(what: str, code: str = "kv_transfer_failed") -> ApiError:
    return ApiError(400, f"{_FIELD} {what}", param=_FIELD, code=code)
