"""Chat templates: Jinja programs that come with a model and turn a conversation into its prompt."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tailrace.spec.errors import ModelError


def render_chat(template: str, messages: Sequence[Mapping[str, str]], tokens: Mapping[str, str]) -> str:
    """The prompt for a conversation, up to where the model is to answer.

    Parameters
    ----------
    template : str
        As the GGUF file has it. It is run in a sandbox.
    messages : sequence of mapping
        Each with a ``role`` and its ``content``.
    tokens : mapping of str to str
        Texts of special tokens, by names such as ``bos_token``.

    Raises
    ------
    ModelError
        If the template has an error, or refuses the conversation.
    """
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}`` marks what the model writes; here its content is all that matters."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def to_json(value: Any, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=False, **{k: v for k, v in options.items() if k != "ensure_ascii"})

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation])
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    try:
        return environment.from_string(template).render(messages=list(messages), add_generation_prompt=True, **tokens)
    except (jinja2.TemplateError, TypeError, ValueError, LookupError) as error:
        raise ModelError(
            f"the model's chat template can't be used: {error}. Give --raw to continue the prompt as it is."
        ) from error
