"""A process that renders chat templates within limits: requests in JSON come in, texts or what is wrong go out."""

import json
import math
import signal
import sys
import time
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


def _limit_processor_time(seconds: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + seconds, resource.RLIM_INFINITY))


def _answer(request: dict[str, Any]) -> dict[str, str]:
    try:
        return {"text": render(request["template"], request["variables"], request["characters"])}
    except MemoryError:
        return {"limit": "memory"}
    except RecursionError:
        return {"limit": "depth"}
    except Exception as error:  # whatever a template does, it is the template that can't be used
        return {"error": str(error) or type(error).__name__}


def main() -> None:
    """Answer requests, a line each, until there are no more. The argument is the path of modules."""
    import resource

    # Ctrl-C is for the one that waits for this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:] = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        request = json.loads(line)
        _limit_processor_time(request["seconds"])
        resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))
        print(json.dumps(_answer(request)), flush=True)


if __name__ == "__main__":
    main()
