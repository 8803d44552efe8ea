"""Runs the server until it is told to end."""

import asyncio
import logging
import socket
from collections.abc import Callable

import uvicorn

from tailrace.spec.errors import TailraceError

from .app import Server


class Listening:
    """A server at an address.

    Parameters
    ----------
    server : Server
    host : str
    port : int
        0: any that is free.

    Attributes
    ----------
    url : str
        Where it is.

    Raises
    ------
    TailraceError
        If the place is taken, or not this machine's.
    """

    def __init__(self, server: Server, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except (OSError, OverflowError) as error:
            self._socket.close()
            server.close()
            raise TailraceError(
                f"{host}:{port} can't be listened at ({error}): choose another with --host and --port"
            ) from None
        name = f"[{host}]" if family == socket.AF_INET6 else host
        self.url = f"http://{name}:{self._socket.getsockname()[1]}"
        self._server = server
        # Running answers are ended by the server itself; what is still open then has nothing more to come.
        seconds = int(server.settings.patience) + 5
        config = uvicorn.Config(server.app, log_level="warning", timeout_graceful_shutdown=seconds, server_header=False)
        self._running = _Running(config, server.close)

    def run(self, ready: Callable[[str], None]) -> None:
        """Serve until SIGINT, SIGTERM or `stop`.

        Parameters
        ----------
        ready : callable
            Told the URL, once the server answers.
        """
        logging.getLogger("tailrace.server").setLevel(logging.INFO)
        self._running.ready = lambda: ready(self.url)
        try:
            self._running.run(sockets=[self._socket])
        except KeyboardInterrupt:
            # The usual way to end a server, which it has obeyed.
            pass
        finally:
            self._socket.close()
            self._server.close()

    def stop(self) -> None:
        """End it; from any thread."""
        self._running.should_exit = True


class _Running(uvicorn.Server):
    """Says when it answers; and has answers ended before connections are waited for."""

    def __init__(self, config: uvicorn.Config, close: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready: Callable[[], None] = lambda: None
        self._close = close

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        closing = asyncio.create_task(asyncio.to_thread(self._close))
        await super().shutdown(sockets)
        await closing
