"""Options that several commands share."""

import click

from tailrace.spec.config import CONFIGS

#: What `--config` and `--memory` are when nothing is asked for: what the model needs.
_AUTO = "auto"

CONFIG = click.option(
    "--config",
    default=_AUTO,
    show_default=True,
    help=f"Build of the device: {', '.join(CONFIGS)}, with changes if need be, as in base,bus_width=256; auto: the smallest"
    " from base on that takes the model with its context, simulated with the widest bus; auto takes changes, too.",
)
MEMORY = click.option(
    "--memory", default=_AUTO, show_default=True, help="Memory of the device, such as 2GiB; auto: what is needed."
)
QUANTISE = click.option(
    "--quantise",
    metavar="FORMAT",
    help="Quantise F32, F16 and BF16 matrices, for example to Q8_0; without it they become three planes of 8 bits.",
)
DRAFT = click.option(
    "--draft",
    metavar="MODEL",
    help="A small model with the same tokens, on a device of its own, which drafts what may come next, so that the large one"
    " verifies several tokens together (llama.cpp's --model-draft); same answer.",
)
