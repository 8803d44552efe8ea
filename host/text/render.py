"""A process that renders a chat template within limits: a request in JSON comes in, its text or what is wrong goes out."""

import json
import signal
import sys
from typing import Any


def render(template: str, variables: dict[str, Any], characters: int) -> str:
    """Render a template, with what templates expect that are made for transformers.

    Parameters
    ----------
    template : str
    variables : dict of str to object
    characters : int
        The text's longest length.
    """
    from datetime import datetime

    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}`` marks what the model writes; here its content is all that matters."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            # A scope of its own, as in transformers.
            return jinja2.nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

        def _content(self, caller: Any) -> Any:
            return caller()

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def to_json(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation])
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    pieces, length = [], 0
    for piece in environment.from_string(template).generate(**variables):
        pieces.append(piece)
        length += len(piece)
        if length > characters:
            raise ValueError(f"it makes more than {characters:,} characters")
    return "".join(pieces)


def _limit(seconds: int, memory: int) -> None:
    import resource

    # Ctrl-C is for the one that waits for this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def main() -> None:
    """Read a request from standard input, and answer on standard output."""
    request = json.load(sys.stdin)
    limits = request["limits"]
    sys.path[:] = request["path"]
    _limit(limits["seconds"], limits["memory"])
    answer: dict[str, str]
    try:
        answer = {"text": render(request["template"], request["variables"], limits["characters"])}
    except MemoryError:
        answer = {"error": f"it needs more than {limits['memory'] >> 20} MiB of memory"}
    except RecursionError:
        answer = {"error": "it calls itself too deeply"}
    except Exception as error:  # whatever a template does, it is the template that can't be used
        answer = {"error": str(error) or type(error).__name__}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
