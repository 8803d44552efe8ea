"""``tailrace serve``: a model behind OpenAI's interface."""

from pathlib import Path
from typing import Any

import click

from tailrace.spec.errors import MissingPackage, TailraceError

from ..command.cli_options import CONFIG, DRAFT, MEMORY, QUANTISE
from ..command.device_option import DeviceName, refuse_what_the_device_ignores
from ..command.finite_range import FiniteRange
from ..command.grouped_help import GroupedCommand
from ..command.terminal import Terminal
from ..command.without_effect import refuse
from ..loading import load

_GROUPS = {
    "Server": (
        "host",
        "port",
        "alias",
        "slots",
        "queue",
        "api_key",
        "api_key_file",
        "origin",
        "keep_alive",
        "patience",
        "webui",
        "speculate",
        "kv_folder",
    ),
    "Model and device": ("draft", "context", "device", "config", "memory", "quantise"),
}


@click.command(cls=GroupedCommand, groups=_GROUPS)
@click.argument("model")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0: all of this machine's.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0: any that is free.")
@click.option("--alias", multiple=True, metavar="NAME", help="What the model is called; may be given several times.")
@click.option(
    "-np", "--slots", type=click.Choice(["1", "2", "4", "8"]), default="4", show_default=True,
    help="Answers that are computed at a time, each with a KV cache of its own.",
)  # fmt: skip
@click.option("--queue", type=click.IntRange(min=0), default=16, show_default=True,
              help="Answers that may wait; more are refused with 429.")  # fmt: skip
@click.option("--api-key", multiple=True, metavar="KEY", help="Key that a request must bring; may be given several times.")
@click.option(
    "--api-key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with a key in each line."
)
@click.option("--origin", multiple=True, metavar="URL", help="Web pages of this origin may ask; *: of all.")
@click.option("--keep-alive", type=FiniteRange(min=0.01), default=15.0, show_default=True,
              help="Seconds of silence after which a stream says that it is still there.")  # fmt: skip
@click.option("--patience", type=FiniteRange(min=0), default=10.0, show_default=True,
              help="Seconds for which running answers may go on when the server is to end.")  # fmt: skip
@click.option("--speculate/--no-speculate", default=True, show_default=True,
              help="Verify tokens that an answer's text makes likely together; the answers are the same.")  # fmt: skip
@click.option("--webui/--no-webui", default=True, show_default=True, help="A page at / to chat with the model.")
@click.option("--kv-folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Folder in which vLLM hands prompts over, for requests with kv_transfer_params.")  # fmt: skip
@click.option(
    "-c", "--context", type=click.IntRange(min=1), help="Tokens of prompt and answer; without it 4096, or as trained."
)
@click.option("--device", type=DeviceName(), default="emulator", show_default=True, help="As for run.")
@CONFIG
@MEMORY
@QUANTISE
@DRAFT
def serve(model: str, **options: Any) -> None:
    """Serve a model: /v1/chat/completions, /v1/completions, /v1/models, /tokenize, /detokenize, /health, /metrics, /props.

    Whatever speaks to OpenAI's servers speaks to this one: give it http://HOST:PORT/v1 as its base URL.
    """
    context = click.get_current_context()
    refuse_what_the_device_ignores(context)
    if not options["speculate"]:
        refuse(context, ["draft"], "is for tokens that are verified together, and --no-speculate verifies none: leave one out")
    try:
        from .app import Server, Settings
        from .run import Listening
    except ImportError as error:
        raise MissingPackage(error.name or "starlette", "for tailrace serve", "serve") from None
    terminal = Terminal()
    keys = (*options["api_key"], *_keys_of(options["api_key_file"]))
    with terminal.phase(f"loading {model} into {options['device']}"):
        loaded = load(
            model,
            options["device"],
            config=options["config"],
            memory=options["memory"],
            context=options["context"],
            batch=int(options["slots"]),
            quantise=options["quantise"],
            draft=options["draft"] if options["speculate"] else False,
            progress=terminal.progress,
        )
    with loaded:
        loaded.engine.speculate = options["speculate"]
        settings = Settings(
            options["alias"] or (Path(model).name,),
            queue=options["queue"],
            api_keys=keys,
            origins=options["origin"],
            keep_alive=options["keep_alive"],
            patience=options["patience"],
            webui=options["webui"],
            kv_folder=options["kv_folder"],
        )
        name = settings.names[0]
        listening = Listening(Server(loaded.engine, settings), options["host"], options["port"])
        listening.run(lambda url: terminal.remark(f"{name} on {options['device']}, at {url}/v1; Ctrl-C ends the server"))


def _keys_of(path: Path | None) -> list[str]:
    if path is None:
        return []
    keys = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not keys:
        raise TailraceError(f"{path} has no key: write one in each line")
    return keys
