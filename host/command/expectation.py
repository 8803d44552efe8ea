"""What an answer is expected to take on the gateware, without drafts and with those that it had."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tailrace.spec.config import Config
from tailrace.spec.errors import ConfigError

from ..device.decoder import Decoder
from ..device.stated_config import stated_config
from ..image.predicted_cycles import PredictedCycles
from ..image.programs import Kind
from ..transports.facts import config_of

#: How often a program was run at a position, as of `Decoder.steps`.
Steps = Mapping[tuple[str, int], int]


@dataclass(frozen=True)
class Expectation:
    """Predicted cycles for a token of an answer, its part of folds included.

    Attributes
    ----------
    plain : float
        With a pass for each token.
    taken : float
        Of the passes that there were, with the rows that they had.
    drafting : float
        Of the passes of a draft model, which has a device of its own.
    """

    plain: float
    taken: float
    drafting: float = 0.0

    @property
    def in_all(self) -> float:
        """With drafts, and the time in which the draft model was waited for."""
        return self.taken + self.drafting


def expected(
    decoders: Sequence[Decoder], steps: Sequence[Steps], positions: range, kind: Kind, *, memory: str, latency: int,
    bandwidth: float,
) -> Expectation | None:  # fmt: skip
    """Predict what an answer's tokens take: nobody waits long for that behind an answer, so each program is predicted once.

    Parameters
    ----------
    decoders : sequence of Decoder
        That of the model, and of the draft model if there is one.
    steps : sequence of mapping
        What each of them has done for the answer.
    positions : range
        Of the tokens that were taken for it.
    kind : str
        What a pass gives.
    memory, latency, bandwidth
        The memory behind the core, as for `tailrace.sim.verilated.VerilatedDevice`.

    Returns
    -------
    Expectation or None
        None: nobody knows the device's build, or nothing was taken.
    """
    configs = [_build_of(decoder) for decoder in decoders]
    if not positions or any(config is None for config in configs):
        return None
    cycles = [
        PredictedCycles(decoder.programs, config, memory=memory, latency=latency, bandwidth=bandwidth)
        for decoder, config in zip(decoders, configs, strict=True)
        if config is not None
    ]
    programs = decoders[0].programs
    folds = {step: count for step, count in steps[0].items() if not programs.loaded[step[0]].rows}
    alone = programs.name_of(kind, range(programs.image.request.batch), fills=False)
    plain = cycles[0].estimate({(alone, position): 1 for position in positions}) + cycles[0].estimate(folds)
    taken, *drafting = (
        of.estimate({step: count for step, count in done.items() if decoder.programs.loaded[step[0]].kind != "prompt"})
        for decoder, of, done in zip(decoders, cycles, steps, strict=True)
    )
    return Expectation(*(total / len(positions) for total in (plain, taken, sum(drafting))))


def _build_of(decoder: Decoder) -> Config | None:
    """The build of a device; of hardware the one that it states."""
    transport = decoder.device.transport
    try:
        return config_of(transport) or stated_config(transport, decoder.device.geometry)
    except ConfigError:
        return None
