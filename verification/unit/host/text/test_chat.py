"""Chat templates: what they can use, and what they can't do to this machine."""

import os
import re
import threading
import time

import pytest

from tailrace.spec.errors import ModelError, TailraceError
from tailrace.text import chat
from tailrace.text.chat import render_chat

MESSAGES = [{"role": "user", "content": "Hi"}]


def render(template: str, **variables: object) -> str:
    return render_chat(template, MESSAGES, {"bos_token": "<s>", "add_generation_prompt": True, **variables})


def test_chat_templates() -> None:
    assert render("{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m['content'] }}\n{% endfor %}") == "<s>user: Hi\n"
    assert render("{%- if add_generation_prompt %}\n  go\n{% endif %}") == "  go\n"
    assert render("{% for m in messages %}{% break %}{% endfor %}{{ messages | tojson }}").startswith('[{"role": ')
    assert render("{% generation %}{{ messages[0].content }}{% endgeneration %}") == "Hi"
    assert re.fullmatch(r"\d{4}", render("{{ strftime_now('%Y') }}"))
    assert render("{{ x | tojson(indent=1) }}{{ tools is none }}", x={"é": "<"}) == '{\n "é": "<"\n}True'
    assert render("\u00fc{{ messages[0].content }}🎉") == "üHi🎉"


def refusal(reason: str) -> str:
    return f"^{re.escape(f'the model{chr(39)}s chat template can{chr(39)}t be used: {reason}. Give --raw to continue the prompt as it is.')}$"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('no system role') }}", "no system role"),
        ("{% if %}", "Expected an expression, got 'end of statement block'"),
        ("{{ messages.__class__.__mro__ }}", "access to attribute '__class__' of 'list' object is unsafe"),
        ("{{ 1 // 0 }}", "integer division or modulo by zero"),
        ("{{ 'a' * 10 ** 10 }}", "it needs more than 512 MiB of memory"),
        ("{{ '%1000000000d' % 1 }}", "it needs more than 512 MiB of memory"),
        ("{{ 'x' | center(10 ** 10) }}", "it needs more than 512 MiB of memory"),
        ("{% for i in range(99999) %}{{ 'a' * 99 }}{% endfor %}", "it makes more than 4,194,304 characters"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "it calls itself too deeply"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "it calls itself too deeply"),
        ("{{ range(10 ** 9) }}", "Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000)"),
        (r"{{ '\ud83d' }}", "it makes halves of characters"),
    ],
)
def test_templates_that_fail(template: str, reason: str) -> None:
    with pytest.raises(ModelError, match=refusal(reason)):
        render(template)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 10 ** (10 ** 8) }}",
    ],
    ids=["loops", "power"],
)
def test_templates_that_do_not_end(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "CPU_SECONDS", 1)
    start = os.times().children_user
    with pytest.raises(ModelError, match=refusal("it took more than 1 seconds of processor time")):
        render(template)
    assert os.times().children_user - start < 3


def test_templates_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in a template waits, but a machine that is too busy may."""
    monkeypatch.setattr(chat, "SECONDS", 0.01)
    start = time.monotonic()
    with pytest.raises(ModelError, match=refusal("it ran for too long")):
        render("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")
    assert time.monotonic() - start < 10


def test_conversations_that_are_no_json() -> None:
    with pytest.raises(
        TailraceError, match="^the conversation can't be given to the chat template: Object of type set is not JSON"
    ):
        render_chat("x", [{"role": "user", "content": {1}}], {})


def test_one_process_serves_many() -> None:
    render("x")
    process = chat._RENDERER._process
    assert process is not None
    with pytest.raises(ModelError):
        render("{% if %}")
    texts: dict[int, str] = {}
    threads = [threading.Thread(target=lambda i=i: texts.update({i: render(f"{i} {{{{ '🎉' * 30000 }}}}")})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {i: f"{i} " + "🎉" * 30000 for i in range(4)}
    assert chat._RENDERER._process is process
    # What a template did to its process is not for the next one.
    with pytest.raises(ModelError):
        render("{{ 'a' * 10 ** 10 }}")
    assert render("{{ x | length }}", x="a" * 1_000_000) == "1000000"
    assert chat._RENDERER._process is not process


def test_processor_time_is_counted_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "CPU_SECONDS", 1)
    for _ in range(4):
        assert render("{% for i in range(60) %}{% for j in range(9999) %}{% endfor %}{% endfor %}x") == "x"


def test_a_process_that_is_killed_is_started_again() -> None:
    render("x")
    assert chat._RENDERER._process is not None
    chat._RENDERER._process.kill()
    assert render("{{ messages[0].content }}") == "Hi"
