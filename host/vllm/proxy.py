"""A proxy for OpenAI's clients: prefill in vLLM, decode in ``tailrace serve``.

``python -m tailrace.vllm.proxy --prefill http://127.0.0.1:8000 --decode http://127.0.0.1:8080`` listens at port 9000. It needs
the extra ``serve``, and runs with Tailrace's packages or with vLLM's.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import click
import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

#: What vLLM's connector is asked: it computes the prompt, and somebody else goes on.
_ASKED = {"do_remote_decode": True, "do_remote_prefill": False}
#: Fields that shape an answer and not its prompt: vLLM makes no more than one token, which nobody reads.
_OF_THE_ANSWER = (
    "stream", "stream_options", "max_completion_tokens", "min_tokens", "n", "best_of", "logprobs", "top_logprobs", "echo",
    "stop", "response_format", "logit_bias", "grammar", "json_schema", "structured_outputs", "guided_json", "guided_regex",
    "guided_choice", "guided_grammar", "prompt_logprobs",
)  # fmt: skip
#: Headers that are handed on.
_ASKING, _ANSWERING = ("authorization", "x-request-id"), ("content-type", "retry-after", "x-request-id", "cache-control")
_PATHS = ("/v1/chat/completions", "/v1/completions")


class Proxy:
    """The application.

    Parameters
    ----------
    prefill, decode : str
        URLs of ``vllm serve`` and ``tailrace serve``, without a path.
    client : httpx2.AsyncClient or None
        None: one of its own, which waits as long as an answer takes.
    """

    def __init__(self, prefill: str, decode: str, client: httpx2.AsyncClient | None = None) -> None:
        self._prefill, self._decode = prefill.rstrip("/"), decode.rstrip("/")
        self._client = client or httpx2.AsyncClient(timeout=httpx2.Timeout(None, connect=10.0))
        self._model: str | None = None
        routes = [
            *(Route(path, self._answer, methods=["POST"]) for path in _PATHS),
            Route("/health", self._health, methods=["GET"]),
            Route("/{path:path}", self._forward, methods=["GET", "POST"]),
        ]
        self.app = Starlette(routes=routes, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        await self._client.aclose()

    async def _health(self, request: Request) -> Response:
        states = {}
        for name, url in (("prefill", self._prefill), ("decode", self._decode)):
            try:
                states[name] = (await self._client.get(f"{url}/health")).status_code
            except httpx2.RequestError:
                states[name] = 503
        well = all(state == 200 for state in states.values())
        return JSONResponse({"status": "ok" if well else "error", **states}, 200 if well else 503)

    async def _forward(self, request: Request) -> Response:
        """Whatever else is asked, ``tailrace serve`` answers."""
        return await self._stream(request.method, request.url.path, await request.body(), _headers(request))

    async def _answer(self, request: Request) -> Response:
        raw = await request.body()
        try:
            body = json.loads(raw)
        except ValueError as error:
            return _failure(400, f"the body is no JSON: {error}")
        if not isinstance(body, dict):
            return _failure(400, "the body must be a JSON object")
        if _are_several(body.get("prompt")):
            return _failure(400, "prompt has several prompts, of which one at a time is handed over: send a request for each")
        headers = _headers(request)
        try:
            computed = await self._client.post(
                f"{self._prefill}{request.url.path}", json=_for_prefill(body, await self._name(headers)), headers=headers
            )
        except httpx2.HTTPError as error:
            return _failure(502, f"vLLM at {self._prefill} can't be reached ({error or type(error).__name__}): is it running?")
        if computed.status_code != 200:
            return Response(computed.content, computed.status_code, _kept(computed.headers))
        params = computed.json().get("kv_transfer_params")
        if not params:
            return _failure(502, f"vLLM at {self._prefill} has not handed the prompt over: start it with TailraceConnector")
        decoded = {name: value for name, value in body.items() if name != "prompt"}
        decoded["kv_transfer_params"] = params
        return await self._stream("POST", request.url.path, json.dumps(decoded).encode(), headers)

    async def _name(self, headers: Mapping[str, str]) -> str:
        """What vLLM calls its model: the two servers may have different names for it."""
        if self._model is None:
            models = await self._client.get(f"{self._prefill}/v1/models", headers=headers)
            models.raise_for_status()
            self._model = str(models.json()["data"][0]["id"])
        return self._model

    async def _stream(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Response:
        """Ask ``tailrace serve``, and hand on what comes, as it comes; a client that goes away ends it there, too."""
        given = {**headers, "content-type": "application/json"}
        asked = self._client.build_request(method, f"{self._decode}{path}", content=body, headers=given)
        try:
            response = await self._client.send(asked, stream=True)
        except httpx2.RequestError as error:
            return _failure(
                502, f"tailrace serve at {self._decode} can't be reached ({error or type(error).__name__}): is it running?"
            )
        return StreamingResponse(_parts(response), response.status_code, _kept(response.headers))


async def _parts(response: httpx2.Response) -> AsyncIterator[bytes]:
    """What comes, until its end or until nobody listens any more."""
    try:
        async for part in response.aiter_raw():
            yield part
    finally:
        await response.aclose()


def _for_prefill(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The same prompt, and no more of an answer than vLLM has to make."""
    kept = {name: value for name, value in body.items() if name not in _OF_THE_ANSWER}
    return {**kept, "model": model, "max_tokens": 1, "kv_transfer_params": _ASKED}


def _are_several(prompt: Any) -> bool:
    return isinstance(prompt, list) and len(prompt) > 1 and not all(isinstance(one, int) for one in prompt)


def _headers(request: Request) -> dict[str, str]:
    return {name: request.headers[name] for name in _ASKING if name in request.headers}


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in _ANSWERING if name in headers}


def _failure(status: int, message: str) -> Response:
    kind = "invalid_request_error" if status == 400 else "server_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": None}}, status)


@click.command()
@click.option("--prefill", required=True, metavar="URL", help="vllm serve, such as http://127.0.0.1:8000")
@click.option("--decode", required=True, metavar="URL", help="tailrace serve, such as http://127.0.0.1:8080")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(1, 65535), default=9000, show_default=True, help="Port to listen at.")
def main(prefill: str, decode: str, host: str, port: int) -> None:
    """Answer OpenAI's clients: vLLM computes prompts, tailrace serve goes on from there."""
    import uvicorn

    click.echo(f"prompts by {prefill}, answers by {decode}, at http://{host}:{port}/v1; Ctrl-C ends the proxy", err=True)
    uvicorn.run(Proxy(prefill, decode).app, host=host, port=port, log_level="warning")


if __name__ == "__main__":
    main()
