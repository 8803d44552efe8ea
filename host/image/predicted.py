"""How many cycles a decode step of a laid-out model is predicted to take."""

from fractions import Fraction

from tailrace.firmware.decode import pass_arguments
from tailrace.sim.timing.prediction import LATENCY, Prediction, predict
from tailrace.spec.config import Config

from .programs import Programs


def predict_step(
    programs: Programs,
    config: Config,
    position: int,
    *,
    program: str = "logits",
    memory: str = "ideal",
    latency: int = LATENCY,
    bandwidth: float | Fraction = 1.0,
    exact: bool = False,
) -> Prediction:
    """Predict a pass of a program, each sequence's first row at the same position; nothing is simulated.

    Parameters
    ----------
    programs : Programs
    config : Config
        The build that they are for.
    position : int
        Of the first row, which is the number of tokens in each cache.
    program : str
        Name of one of them; the one of the chunks that its rows see is taken in its place.
    memory, latency, bandwidth
        The memory behind the core, as for `tailrace.sim.verilated.VerilatedDevice`.
    exact : bool
        Whether every layer is worked out, and all operations are told.

    Raises
    ------
    ConfigError
        If there is no such memory.
    """
    positions = programs.positions(program, position)
    loaded = programs.loaded[programs.at(program, positions)]
    return predict(
        loaded.program.commands,
        config,
        arguments=pass_arguments(range(len(positions)), positions),
        address=loaded.address,
        memory=memory,
        latency=latency,
        bandwidth=bandwidth,
        exact=exact,
    )
