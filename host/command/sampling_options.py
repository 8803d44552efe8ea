"""The options that say how an answer's tokens are chosen, and where it ends. `tailrace.generation.sampling` checks them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tailrace.spec.errors import ConfigError

from .without_effect import refuse

if TYPE_CHECKING:
    from ..generation.answer import Wish
    from ..text.grammar import Grammar

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--temperature", type=float, help="Draw tokens; without it, or with 0, the best one is taken."),
    click.option("--top-k", type=int, default=0, help="Draw from so many of the likeliest tokens only; 0: from all."),
    click.option(
        "--top-p", type=float, default=1.0, help="Draw from the likeliest tokens that reach this probability together."
    ),
    click.option("--min-p", type=float, default=0.0, help="Draw from tokens at least so many times as likely as the best one."),
    click.option("--repetition-penalty", type=float, default=1.0, help="Above 1: rather no token of prompt or answer again."),
    click.option("--presence-penalty", type=float, default=0.0, help="Subtracted from the logits of tokens in the answer."),
    click.option("--frequency-penalty", type=float, default=0.0, help="The same, as many times as they are in it."),
    click.option(
        "--seed", type=int, help="Draw the same tokens again: the closing table names the seed. Without it another one."
    ),
    click.option(
        "--speculate/--no-speculate", default=True, help="Verify tokens that the text makes likely together; same answer."
    ),
    click.option("--stop", multiple=True, metavar="TEXT", help="End the answer before this text; may be given several times."),
)
#: Their names, in the order of help.
SAMPLING = (
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "seed",
    "speculate", "stop",
)  # fmt: skip


def sampling_options(command: _Command) -> _Command:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_choice(context: click.Context, grammar: "Grammar | None" = None) -> "Wish":
    """Check these options of a command, and that they go with the others.

    Parameters
    ----------
    context : click.Context
    grammar : Grammar or None
        What the answer may be.

    Returns
    -------
    Wish
        How the answer is to be made.

    Raises
    ------
    click.UsageError
        If one is out of range, or would change nothing.
    """
    from ..generation.answer import Wish
    from ..generation.sampling import Sampler

    options = {name: context.params[name] for name in SAMPLING}
    stop, speculate = options.pop("stop"), options.pop("speculate")
    try:
        wish = Wish(Sampler(**options), context.params["new_tokens"], stop, grammar=grammar, speculate=speculate)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    if wish.sampler.temperature is None:
        refuse(context, ["seed"], "is for tokens that are drawn, and nothing is drawn without a temperature: give one")
    if not wish.speculate:
        refuse(context, ["draft"], "is for tokens that are verified together, and --no-speculate verifies none: leave one out")
    if context.params["tokens_per_doorbell"] > 1:
        why = "is for tokens that the host verifies, and with --tokens-per-doorbell the device goes on by itself: leave one out"
        refuse(context, ["draft"], why)
    if wish.needs_logits and context.params["tokens_per_doorbell"] > 1:
        why = "is for the best token, which the device chooses itself: leave temperature, penalties and grammars out"
        refuse(context, ["tokens_per_doorbell"], why)
    return wish
