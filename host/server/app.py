"""The routes of the server."""

import asyncio
import hmac
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ..generation.answer import Answer
from ..generation.completion import Piece
from ..generation.engine import Engine
from ..generation.sequences import Holder
from .errors import ApiError, api_error, of_the_request
from .fields import Fields, wrong
from .information import Information
from .kv_transfer import HandedPrompt, KvFolder
from .metrics import metrics_text
from .page import page
from .predicted_steps import PredictedSteps
from .requests import AnswerRequest, chat_request, check_length, completion_request
from .responses import Reply, timings_of
from .scheduler import Scheduler
from .texts import prompt_of, text_of, tokenizer_of, tokens_of
from .tokens import TokensReply, TokensRequest, tokens_request

_log = logging.getLogger("tailrace.server")

#: Seconds without a part of a stream after which a comment says that more will come: proxies end what is silent.
KEEP_ALIVE = 15.0
#: Bytes of a request.
MOST_BYTES = 16 << 20
#: What can be asked without a key.
_OPEN = ("/health", "/v1/health", "/ready")


@dataclass(frozen=True)
class Settings:
    """How the server answers.

    Attributes
    ----------
    names : tuple of str
        What the model may be called; the first is what it is called in answers.
    queue : int
        Answers that may wait for a sequence.
    api_keys : tuple of str
        One of which a request must bring; none: no request must.
    origins : tuple of str
        Origins of web pages that may ask; ``*``: all.
    keep_alive : float
        Seconds of silence after which a stream says that it is still there.
    patience : float
        Seconds for which the server goes on with running answers when it is to end.
    webui : bool
        Whether there is a page at ``/``.
    kv_folder : Path or None
        Where prompts lie that were computed elsewhere; None: such prompts are refused.
    """

    names: tuple[str, ...]
    queue: int = 16
    api_keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    keep_alive: float = KEEP_ALIVE
    patience: float = 10.0
    webui: bool = True
    kv_folder: Path | None = None


class Server:
    """The application: routes, and the scheduler behind them.

    Parameters
    ----------
    engine : Engine
        Is the server's from now on, until `close`.
    settings : Settings
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings
        self.scheduler = Scheduler(engine, settings.queue)
        information = self.information = Information(self.scheduler, settings.names)
        self._predicted = PredictedSteps(engine.decoder)
        self._kv_folder = KvFolder(settings.kv_folder, engine.imported)
        self._aborts: dict[str, Callable[[], None]] = {}
        routes = [
            *(Route(path, self._health, methods=["GET"]) for path in _OPEN),
            Route("/v1/models", self._told(information.models), methods=["GET"]),
            Route("/v1/models/{name:path}", self._to(self._model), methods=["GET"]),
            Route("/v1/chat/completions", self._to(self._chat), methods=["POST"]),
            Route("/v1/completions", self._to(self._complete), methods=["POST"]),
            Route("/inference/v1/generate", self._to(self._generate), methods=["POST"]),
            Route("/inference/v1/abort_requests", self._to(self._abort), methods=["POST"]),
            Route("/tokenize", self._made(tokens_of), methods=["POST"]),
            Route("/detokenize", self._made(text_of), methods=["POST"]),
            Route("/apply-template", self._made(prompt_of), methods=["POST"]),
            Route("/tokenizer_info", self._made(tokenizer_of), methods=["GET"]),
            Route("/metrics", self._to(self._metrics), methods=["GET"]),
            Route("/props", self._told(information.props), methods=["GET"]),
            Route("/trace", self._to(self._trace), methods=["GET"]),
            Route("/slots", self._to(self._slots), methods=["GET"]),
            Route("/version", self._told(information.version), methods=["GET"]),
        ]
        if settings.webui:
            routes.append(Route("/", self._page, methods=["GET"]))
        middleware = []
        if settings.origins:
            allowed = list(settings.origins)
            middleware.append(Middleware(CORSMiddleware, allow_origins=allowed, allow_methods=["*"], allow_headers=["*"]))
        self.app = Starlette(
            routes=routes,
            middleware=middleware,
            exception_handlers={HTTPException: self._refused, Exception: self._failed},
        )

    def close(self) -> None:
        """End: running answers may finish for a while. The engine is not closed."""
        self.scheduler.close(self.settings.patience)

    async def _refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        what = {404: f"there is no {request.url.path} here", 405: f"{request.method} is not for {request.url.path}"}
        return _failure(ApiError(error.status_code, what.get(error.status_code, str(error.detail))))

    async def _failed(self, request: Request, error: Exception) -> Response:
        return _failure(api_error(error))

    async def _guarded(self, request: Request, handle: Callable[[Any], Awaitable[Response]]) -> Response:
        """Answer a request with a body, and turn whatever goes wrong into OpenAI's shape."""
        identity = request.headers.get("x-request-id") or secrets.token_hex(16)
        try:
            self._check_key(request)
            response = await handle(await _body(request))
        except ClientDisconnect:
            response = Response(status_code=499)
        except Exception as error:
            told = api_error(error)
            if not isinstance(error, ApiError):
                _log.exception("request %s failed", identity)
            response = _failure(told)
        response.headers["x-request-id"] = identity
        return response

    def _check_key(self, request: Request) -> None:
        if not self.settings.api_keys or request.url.path in _OPEN:
            return
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        given = key.strip().encode() if scheme.lower() == "bearer" else b""
        if not any(hmac.compare_digest(given, known.encode()) for known in self.settings.api_keys):
            raise ApiError(
                401,
                "this server wants an API key: send it as Authorization: Bearer KEY",
                "authentication_error",
                code="invalid_api_key",
            )

    def _check_model(self, name: str | None) -> None:
        if name is not None and name not in self.settings.names:
            raise ApiError(
                404,
                f"there is no model {name!r} here: ask for {' or '.join(map(repr, self.settings.names))}",
                param="model",
                code="model_not_found",
            )

    # What can be asked

    def _to(self, handle: Callable[[Request, Any], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that answers a request with what it is handed."""

        async def endpoint(request: Request) -> Response:
            return await self._guarded(request, lambda body: handle(request, body))

        return endpoint

    def _told(self, tell: Callable[[], Any]) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that tells something."""

        async def handle(request: Request, body: Any) -> Response:
            return JSONResponse(tell())

        return self._to(handle)

    def _made(self, make: Callable[[Engine, Fields], Awaitable[dict[str, Any]]]) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that makes something of a request's fields."""

        async def handle(request: Request, body: Any) -> Response:
            fields = Fields(body)
            self._check_model(fields.text("model"))
            return JSONResponse(await make(self.engine, fields))

        return self._to(handle)

    async def _page(self, request: Request) -> Response:
        return page()

    async def _health(self, request: Request) -> Response:
        status, body = self.information.health()
        return JSONResponse(body, status)

    async def _model(self, request: Request, body: Any) -> Response:
        self._check_model(request.path_params["name"])
        return JSONResponse(self.information.model(request.path_params["name"]))

    async def _slots(self, request: Request, body: Any) -> Response:
        slots = self.information.slots()
        if request.query_params.get("fail_on_no_slot") and all(slot["is_processing"] for slot in slots):
            raise ApiError(503, "no sequence is free: try again in a moment", "unavailable_error", code="no_slot_available")
        return JSONResponse(slots)

    async def _metrics(self, request: Request, body: Any) -> Response:
        # A prediction takes a while, in which streams go on.
        text = await run_in_threadpool(metrics_text, self.scheduler, self.settings.names[0], self._predicted)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _trace(self, request: Request, body: Any) -> Response:
        found = await run_in_threadpool(self._predicted.trace)
        if found is None:
            raise ApiError(404, "there is no step to tell of: none was taken, or the device does not say of what build it is")
        return JSONResponse(found, headers={"content-disposition": 'attachment; filename="tailrace-step.json"'})

    # Answers

    async def _chat(self, request: Request, body: Any) -> Response:
        return await self._read_and_answer(request, chat_request, body)

    async def _complete(self, request: Request, body: Any) -> Response:
        return await self._read_and_answer(request, completion_request, body)

    async def _generate(self, request: Request, body: Any) -> Response:
        return await self._read_and_answer(request, tokens_request, body)

    async def _abort(self, request: Request, body: Any) -> Response:
        names = Fields(body).get("request_ids")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise wrong("request_ids", f"must be a list of texts, not {names!r}")
        for name in names:
            if (ended := self._aborts.get(name)) is not None:
                ended()
        return Response(status_code=200)

    def _read(self, read: Callable[..., AnswerRequest], body: Any) -> tuple[AnswerRequest, HandedPrompt | None]:
        body, handed = self._kv_folder.split(body)
        wanted = read(body, self.engine.tokenizer, self._check_model)
        if handed is not None:
            handed.check(wanted)
        return wanted, handed

    async def _read_and_answer(self, request: Request, read: Callable[..., AnswerRequest], body: Any) -> Response:
        with of_the_request():
            # A long prompt takes its time, in which others are answered.
            wanted, handed = await asyncio.to_thread(self._read, read, body)
        return await self._answer(request, wanted, handed)

    async def _answer(self, request: Request, wanted: AnswerRequest, handed: HandedPrompt | None) -> Response:
        # A grammar takes its time, in which others are answered.
        answers = await asyncio.to_thread(self._prepared, wanted, handed)
        reply = self._reply(wanted)
        pieces: asyncio.Queue[Piece | BaseException] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(piece: Piece | BaseException) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        ticket = self.scheduler.submit(answers, tell)
        cancel = ticket.cancel
        if handed is not None:
            handed.discard()
        if isinstance(wanted, TokensRequest):
            cancel = self._abortable(wanted.identity, answers, pieces, cancel)
        if wanted.stream:
            parts = self._parts(reply, answers, pieces, cancel, wanted.include_usage)
            return StreamingResponse(parts, media_type="text/event-stream", headers={"cache-control": "no-cache"})
        gone = asyncio.create_task(_gone(request))
        try:
            await self._all(answers, pieces, gone)
        finally:
            gone.cancel()
            cancel()
        return JSONResponse(reply.whole(answers))

    def _prepared(self, wanted: AnswerRequest, handed: HandedPrompt | None) -> list[Answer]:
        """The answers that are wanted, none of them begun."""
        answers: list[Answer] = []
        for prompt in wanted.prompts:
            check_length(len(prompt), self.engine.decoder.limit)
            for wish in wanted.wishes:
                with of_the_request():
                    holder = Holder() if handed is None else handed.holder()
                    answers.append(self.engine.answer(len(answers), prompt, holder, wish))
        return answers

    def _reply(self, wanted: AnswerRequest) -> Reply | TokensReply:
        name, each = self.settings.names[0], len(wanted.wishes)
        if isinstance(wanted, TokensRequest):
            return TokensReply(wanted.identity, name, each)
        return Reply(name, self.engine.tokenizer, wanted.is_chat, each, wanted.echo, wanted.tools)

    def _abortable(
        self, identity: str, answers: Sequence[Answer], pieces: "asyncio.Queue[Any]", cancel: Callable[[], None]
    ) -> Callable[[], None]:
        """Let others abort a request by its identity, and return what ends that."""

        def abort() -> None:
            cancel()
            for answer in answers:
                if answer.reason is None:
                    pieces.put_nowait(Piece("", (), None, "closed", answer.index))

        def end() -> None:
            if self._aborts.get(identity) is abort:
                del self._aborts[identity]
            cancel()

        self._aborts[identity] = abort
        return end

    async def _all(self, answers: Sequence[Answer], pieces: "asyncio.Queue[Any]", gone: "asyncio.Task[None]") -> None:
        """Wait until all answers are finished, or the client has gone away."""
        left = len(answers)
        while left:
            coming = asyncio.create_task(pieces.get())
            await asyncio.wait((coming, gone), return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                raise ClientDisconnect
            piece = coming.result()
            if isinstance(piece, BaseException):
                raise piece
            left -= piece.finish_reason is not None

    async def _parts(
        self,
        reply: Reply | TokensReply,
        answers: Sequence[Answer],
        pieces: "asyncio.Queue[Any]",
        cancel: Callable[[], None],
        include_usage: bool,
    ) -> AsyncIterator[str]:
        """The parts of a stream. Whoever goes away ends it, and the answers with it."""
        left, offsets = len(answers), [0] * len(answers)
        beginning = reply.beginning(answers)
        try:
            while left:
                try:
                    piece = await asyncio.wait_for(pieces.get(), self.settings.keep_alive)
                except TimeoutError:
                    yield ": the answer is being computed\n\n"
                    continue
                if isinstance(piece, BaseException):
                    yield _event(api_error(piece).body)
                    return
                # Not before: clients take the first part for the end of the prompt.
                if beginning is not None:
                    yield _event(beginning)
                    beginning = None
                left -= piece.finish_reason is not None
                part = reply.part(piece, offsets[piece.index])
                yield _event({**part, "timings": timings_of(answers)} if not left and isinstance(reply, Reply) else part)
                offsets[piece.index] += len(piece.text)
            if include_usage:
                yield _event(reply.end(answers))
            yield "data: [DONE]\n\n"
        finally:
            cancel()


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _failure(error: ApiError) -> Response:
    return JSONResponse(error.body, error.status, headers=error.headers)


async def _body(request: Request) -> Any:
    """The JSON of a request."""
    if request.method in ("GET", "HEAD"):
        return {}
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > MOST_BYTES:
            raise ApiError(413, f"the request has more than {MOST_BYTES >> 20} MiB: send less")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is no JSON: {error}") from None


async def _gone(request: Request) -> None:
    """Return when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
