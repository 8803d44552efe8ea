"""The page at `/`, in a browser: what a person sees and does."""

import json
import re
import shutil
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("playwright.sync_api", reason="the page is tried with playwright, which is not installed")

from playwright import sync_api as api

import tailrace
from tailrace import LanguageModel
from tailrace.server.page import page as page_response
from verification.unit.host.server.client import Client, before_each_step, serving
from verification.unit.host.tiny_models import write_model

#: Long enough for a machine that has other things to do.
PATIENCE = 60_000
MARKUP = "<img src=x onerror=\"document.title='hit'\"><script>document.title='hit'</script>"


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    model = write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1)
    with tailrace.load(model, context=64, batch=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium: install one (Debian: apt-get install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield page
    context.close()
    assert failures == []


def visit(page: Any, client: Client) -> None:
    page.goto(f"http://{client.host}/")
    shows(page, "#name", "tiny")


def shows(page: Any, selector: str, text: Any) -> None:
    """Wait until an element says this. The policy lets nothing be evaluated in the page, so its own waiting is of no use."""
    api.expect(page.locator(selector).last).to_have_text(text, timeout=PATIENCE)


def say(page: Any, text: str) -> None:
    page.fill("#prompt", text)
    page.keyboard.press("Enter")


def said(page: Any) -> str:
    """The last answer, when it is there."""
    page.wait_for_selector("#send:not([hidden])")
    return str(page.locator(".message.assistant .said").last.inner_text())


def wait_for(page: Any, condition: Callable[[], bool]) -> None:
    """Wait as playwright waits: a plain sleep would keep the page's routes, which this thread serves, from going on."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < deadline
        page.wait_for_timeout(10)


def without_end(page: Any, **fields: Any) -> None:
    """Have the page's requests ask for answers that don't end by themselves."""

    def longer(route: Any) -> None:
        body = {**json.loads(route.request.post_data), "logit_bias": {"2": -1e5}, **fields}
        route.continue_(post_data=json.dumps(body))

    page.route("**/v1/chat/completions", longer)


def test_a_chat_is_streamed_kept_and_repeated(lm: LanguageModel, page: Any) -> None:
    """An answer appears while it is computed; after a reload it is still there; its seed gives it again."""
    go_on = threading.Event()
    steps: list[int] = []

    def slowly() -> None:
        steps.append(1)
        # Each answer takes so long that the page is seen while it comes.
        time.sleep(0.05)
        if len(steps) > 12:
            go_on.wait(PATIENCE / 1000)

    without_end(page, max_tokens=20)
    with before_each_step(lm, slowly), serving(lm) as client:
        visit(page, client)
        assert page.locator("#about").inner_text() == f"64 tokens of context · on {lm.decoder.device.transport.name}"
        say(page, "ab")
        page.wait_for_selector(".said.cursor, .said .cursor:not(.waiting)")
        part = page.locator(".message.assistant .said").inner_text()
        assert page.locator("#stop").is_visible()
        go_on.set()
        whole = said(page)
        assert len(whole) > len(part) > 0
        assert page.locator(".facts").inner_text().startswith("20 tokens · ")
        page.reload()
        assert said(page) == whole
        assert page.locator("#chats .open").all_inner_texts() == ["ab"]
        seed = page.locator(".under button", has_text="seed").inner_text().split()[1]
        page.click(".under >> text=Regenerate")
        page.wait_for_selector("#stop:not([hidden])")
        assert said(page) != whole
        page.click("#settings")
        page.get_by_label("Seed").fill(seed)
        page.click("#done")
        page.click(".under >> text=Regenerate")
        page.wait_for_selector("#stop:not([hidden])")
        assert said(page) == whole


@pytest.mark.parametrize("how", ["#stop", "Escape"])
def test_a_stop_frees_the_sequence(lm: LanguageModel, page: Any, how: str) -> None:
    without_end(page)
    with before_each_step(lm, lambda: time.sleep(0.2)), serving(lm) as client:
        visit(page, client)
        say(page, "ab")
        wait_for(page, lambda: client.server.scheduler.load.generated_tokens > 1)
        page.keyboard.press(how) if how == "Escape" else page.click(how)
        said(page)
        wait_for(page, lambda: client.server.scheduler.load.running == 0)
        assert client.server.scheduler.load.cancelled == 1
        assert page.locator(".facts").inner_text() == "stopped"


def test_markup_is_text(lm: LanguageModel, page: Any) -> None:
    """What people and models write is never anything but text, whatever Markdown is round it."""
    answers = [MARKUP, f"**{MARKUP}**\n\n* {MARKUP}\n\n```html\n{MARKUP}\n```\n\n| {MARKUP} | b |\n|---|---|\n| {MARKUP} | c |"]
    with serving(lm) as client:

        def answer(route: Any) -> None:
            event = {"choices": [{"index": 0, "delta": {"content": answers.pop(0)}, "finish_reason": "stop"}]}
            route.fulfill(content_type="text/event-stream", body=f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n")

        page.route("**/v1/chat/completions", answer)
        visit(page, client)
        for _ in range(2):
            say(page, MARKUP)
            page.wait_for_selector("#stop", state="hidden")
            assert MARKUP in said(page)
        page.reload()
        page.wait_for_selector(".message.assistant pre")
        assert page.locator("#messages img, #messages script, #chats img, #chats script").count() == 0
        assert page.locator(".message.user").first.inner_text() == MARKUP
        assert page.locator(".block code").inner_text() == MARKUP
        assert page.locator("td").all_inner_texts() == [MARKUP, "c"]
        assert page.title() != "hit"
        # Not even by the page's own script.
        refused = page.evaluate(
            "() => { try { document.body.innerHTML = 'x'; return ''; } catch (error) { return error.name; } }"
        )
        assert refused == "TypeError"


def test_errors_are_said_in_words(lm: LanguageModel, page: Any) -> None:
    failing: list[bool] = []

    def fail() -> None:
        if failing:
            raise tailrace.TailraceError("the device stopped")

    def error() -> str:
        said(page)
        return str(page.locator(".error").last.inner_text())

    with before_each_step(lm, fail):
        with serving(lm, queue=0) as client:
            visit(page, client)
            say(page, "a" * 80)
            assert "tokens, and the model has room for 64. Begin a new chat, or shorten the message." in error()
            page.click("#new")
            failing.append(True)
            say(page, "ab")
            assert error() == "The device failed: the device stopped. Try again; if it fails again, look at the server's log."
            page.click(".under >> text=Try again")
            shows(page, "#condition", "the device stopped")
            failing.clear()
            client.server.scheduler.queue = -2
            page.click(".under >> text=Try again")
            shows(page, ".error", "The server is busy: every slot is taken, and its queue is full. Try again in 1 s.")
        page.click(".under >> text=Try again")
        shows(page, ".error", "The server can't be reached. It may have been stopped: start it again, and try again.")
        shows(page, "#condition", "the server can't be reached")


def test_a_server_that_goes_in_the_middle(lm: LanguageModel, page: Any) -> None:
    without_end(page)
    with before_each_step(lm, lambda: time.sleep(0.2)):
        with serving(lm) as client:
            visit(page, client)
            say(page, "ab")
            wait_for(page, lambda: client.server.scheduler.load.generated_tokens > 1)
        said(page)
        assert page.locator(".error").inner_text() == "The server is being shut down. Try again when it is back."


def test_a_key_is_asked_for(lm: LanguageModel, page: Any) -> None:
    with serving(lm, api_keys=("secret",)) as client:
        page.goto(f"http://{client.host}/")
        page.wait_for_selector("#keybar:not([hidden])")
        assert page.locator("#condition").inner_text() == "wants an API key"
        page.get_by_label("API key").fill("secret")
        page.keyboard.press("Enter")
        shows(page, "#name", "tiny")
        assert page.locator("#keybar").is_hidden()
        say(page, "ab")
        said(page)
        assert page.locator(".error").count() == 0


def test_live_counters(lm: LanguageModel, page: Any) -> None:
    without_end(page)
    with before_each_step(lm, lambda: time.sleep(0.2)), serving(lm) as client:
        visit(page, client)
        shows(page, "#slots b", "0/2")
        say(page, "ab")
        shows(page, "#slots b", "1/2")
        shows(page, "#rate b", re.compile("[1-9]"))
        page.keyboard.press("Escape")
        said(page)


def test_the_last_step_is_saved_as_a_trace(lm: LanguageModel, page: Any) -> None:
    with serving(lm) as client:
        visit(page, client)
        say(page, "ab")
        said(page)
        button = page.get_by_role("button", name="trace")
        api.expect(button).to_be_visible()
        with page.expect_download() as download:
            button.click()
        assert download.value.suggested_filename == "tailrace-step.json"
        trace = json.loads(download.value.path().read_text())
        assert any(event["ph"] == "X" for event in trace["traceEvents"])
        shows(page, "#announce", "The trace is saved: open it at ui.perfetto.dev.")


def test_a_small_screen(lm: LanguageModel, page: Any) -> None:
    """Nothing is wider than a telephone, and the chats come out when they are asked for."""
    page.set_viewport_size({"width": 360, "height": 640})
    with serving(lm) as client:
        visit(page, client)
        say(page, "a b " * 10)
        said(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert not page.locator("#new").is_visible()
        page.get_by_label("Show the chats").click()
        page.click("#new")
        page.wait_for_selector("#shade", state="hidden")
        assert page.locator("#empty").is_visible()


def test_everything_has_a_name(lm: LanguageModel, page: Any) -> None:
    """What can be pressed or filled in has a label, for those who don't see it."""
    with serving(lm) as client:
        visit(page, client)
        page.click("#settings")
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, input, textarea")].filter(one => {
                const label = one.getAttribute("aria-label") || one.labels?.[0]?.textContent || one.textContent;
                return !label.trim();
            }).map(one => one.outerHTML)"""
        )
        assert nameless == []


def test_the_policy_and_the_switch(lm: LanguageModel) -> None:
    """The page loads nothing from elsewhere and can't be framed; who wants no page has none."""
    with serving(lm) as client:
        with urllib.request.urlopen(f"http://{client.host}/") as response:
            headers, text = response.headers, response.read().decode()
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["script-src"].startswith("'sha256-")
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    links = [word for word in text.replace('"', " ").replace("'", " ").split() if "://" in word]
    assert set(links) == {"http://www.w3.org/2000/svg"}
    assert text.encode() == page_response().body
    with serving(lm, webui=False) as client:
        assert client.ask("/")[:2][0] == 404
