"""The simulated board: the gateware of a whole board, compiled to native code, with its serial port on a pseudo-terminal.

``python -m tailrace.sim.board`` serves one until Ctrl-C, for people without the board.
"""

import ctypes
import os
import pty
import select
import threading
import time
import tty
from contextlib import suppress
from pathlib import Path
from typing import Self

import click

from tailrace.hdl.boards import BOARDS
from tailrace.spec.config import CONFIGS, Config, parse_config
from tailrace.spec.errors import ConfigError, TailraceError

from .board_build import BOARD, build_board
from .serial_board import FaultRates, FaultyLine, check_one_port

#: Clock cycles that a bit takes on the wire. Few, so that a model is loaded soon: a real board's are 16 and more.
CLOCKS_PER_BIT = 4
#: Cycles for which time goes on after the last byte on the wire.
LINGER = 200_000
#: Seconds that a host should wait for a response: the simulation is some hundred times slower than a board.
PATIENCE = 10.0
#: Cycles after which the host is looked at again: while bytes are on their way to the board, and while it may send some.
_LONG_SLICE, _SLICE = 5_000, 500
#: Bytes that are moved at a time.
_ROOM = 4096


class SimulatedBoard:
    """A board in a thread, behind a pseudo-terminal.

    Time goes on while bytes are on their way and for `LINGER` cycles after the last one, then it stands still until the next
    one comes: a board that nobody talks to takes no processor time.

    Parameters
    ----------
    config : Config
        The build of its core.
    clocks_per_bit : int
        Cycles that a bit takes on the wire; 4 to 64.
    board : str
        Whose memory it has: a module of `tailrace.hdl.boards`.
    library : Path, optional
        A shared object from `tailrace.sim.board_build` to open in place of the one for `config`.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    ToolError
        If the simulation can't be built.
    """

    def __init__(
        self, config: Config, *, clocks_per_bit: int = CLOCKS_PER_BIT, board: str = BOARD, library: Path | None = None
    ) -> None:
        self._handle: int | None = None
        self._master = self._slave = -1
        self._pulled: list[int] = []
        self._gone = threading.Event()
        if not 4 <= clocks_per_bit <= 64:
            raise ConfigError(f"clocks_per_bit must be between 4 and 64, not {clocks_per_bit}")
        check_one_port(config)
        self._clocks_per_bit = clocks_per_bit
        self._library = _load(library or build_board(config, clocks_per_bit, board))
        self._handle = self._library.board_open(clocks_per_bit)
        self._buffer = ctypes.create_string_buffer(_ROOM)
        self._lock = threading.Lock()
        self._seconds, self._served_cycles = 0.0, 0
        self.inject(FaultRates())
        self._stopping = False
        self._bell, self._rope = os.pipe()
        self.plug()
        self._thread = threading.Thread(target=self._serve, name="simulated board", daemon=True)
        self._thread.start()

    @property
    def port(self) -> str:
        """Device file of the pseudo-terminal; empty while it is unplugged."""
        with self._lock:
            return os.ttyname(self._slave) if self._slave >= 0 else ""

    @property
    def cycles(self) -> int:
        """Clock cycles since the board was switched on."""
        with self._lock:
            return int(self._library.board_cycles(self._open()))

    @property
    def cycles_per_second(self) -> float:
        """Speed of the simulation while time went on, in cycles per second of wall-clock time; 0 before it did."""
        with self._lock:
            return self._served_cycles / self._seconds if self._seconds else 0.0

    @property
    def broken_bytes(self) -> int:
        """Bytes that the board sent without a stop bit; they were dropped, as a computer's UART does."""
        with self._lock:
            return int(self._library.board_broken(self._open()))

    def inject(self, rates: FaultRates, seed: int = 1) -> None:
        """Let bytes go wrong on the wire from now on, in both directions, in place of what was asked for before."""
        with self._lock:
            self._to_board, self._to_host = FaultyLine(rates, [seed, 0]), FaultyLine(rates, [seed, 1])

    def reset(self, cycles: int = 16) -> None:
        """Press the reset button for `cycles` cycles: the board forgets its session, and what it was doing."""
        with self._lock:
            self._library.board_reset(self._open(), cycles)

    def unplug(self) -> None:
        """Pull the cable: the port vanishes. The board goes on."""
        with self._lock:
            self._pulled += [end for end in (self._master, self._slave) if end >= 0]
            self._master = self._slave = -1
            self._gone.clear()
        self._wake()
        while self._thread.is_alive() and not self._gone.wait(0.1):
            pass

    def plug(self) -> None:
        """Plug the cable in again; `port` has another name then. Does nothing if it is."""
        with self._lock:
            if self._master < 0:
                # This end of the port stays open, so that a host may come and go.
                self._master, self._slave = pty.openpty()
                tty.setraw(self._slave)
                os.set_blocking(self._master, False)
        self._wake()

    def close(self) -> None:
        """Switch the board off. Closing twice is harmless."""
        if self._handle is None:
            return
        self.unplug()
        self._stopping = True
        self._wake()
        self._thread.join()
        with self._lock:
            handle, self._handle = self._handle, None
            if handle is None:
                return
            self._library.board_close(handle)
        os.close(self._bell)
        os.close(self._rope)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wake(self) -> None:
        os.write(self._rope, b".")

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError("the board is switched off")
        return self._handle

    def _serve(self) -> None:
        busy = False
        while not self._stopping:
            self._await(busy)
            with self._lock:
                # Only here: while somebody waits for a byte of a port, closing it does not make it vanish.
                while self._pulled:
                    os.close(self._pulled.pop())
                self._gone.set()
                if self._master >= 0:
                    with suppress(BlockingIOError):
                        self._put(os.read(self._master, _ROOM))
                receiving = bool(self._library.board_busy(self._handle))
                busy = receiving or self._library.board_quiet(self._handle) < LINGER
                if busy:
                    self._advance(_LONG_SLICE if receiving else _SLICE)

    def _await(self, busy: bool) -> None:
        """Wait until a byte comes or somebody rings, unless the board is busy."""
        listened = [end for end in (self._bell, self._master) if end >= 0]
        ready = select.select(listened, [], [], 0 if busy else None)[0]
        if self._bell in ready:
            os.read(self._bell, _ROOM)

    def _put(self, data: bytes) -> None:
        data = self._to_board.carry(data)
        self._library.board_put(self._handle, data, len(data))

    def _advance(self, cycles: int) -> None:
        before, start = self._library.board_cycles(self._handle), time.perf_counter()
        self._library.board_run(self._handle, cycles, 2 * 10 * self._clocks_per_bit)
        self._seconds += time.perf_counter() - start
        self._served_cycles += self._library.board_cycles(self._handle) - before
        while count := self._library.board_take(self._handle, self._buffer, _ROOM):
            data = self._to_host.carry(self._buffer.raw[:count])
            if self._master >= 0:
                # What nobody reads is lost, as on a real port.
                with suppress(BlockingIOError):
                    os.write(self._master, data)


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path.absolute()))
    word, handle, data = ctypes.c_uint64, ctypes.c_void_p, ctypes.c_char_p
    signatures: dict[str, tuple[object, list[object]]] = {
        "board_open": (handle, [word]),
        "board_close": (None, [handle]),
        "board_reset": (None, [handle, word]),
        "board_put": (None, [handle, data, word]),
        "board_run": (None, [handle, word, word]),
        "board_take": (word, [handle, data, word]),
        "board_cycles": (word, [handle]),
        "board_quiet": (word, [handle]),
        "board_busy": (ctypes.c_int, [handle]),
        "board_broken": (word, [handle]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@click.command()
@click.option(
    "--config", default="tiny", show_default=True, help=f"Build of the core: {', '.join(CONFIGS)}, with changes if need be."
)
@click.option("--board", "name", type=click.Choice(BOARDS), default=BOARD, show_default=True, help="Board whose memory it has.")
@click.option("--clocks-per-bit", default=CLOCKS_PER_BIT, show_default=True, help="Clock cycles that a bit takes on the wire.")
def main(config: str, name: str, clocks_per_bit: int) -> None:
    """Simulate a board, with its serial port on a pseudo-terminal, until Ctrl-C."""
    try:
        with SimulatedBoard(parse_config(config), clocks_per_bit=clocks_per_bit, board=name) as board:
            click.echo(f"The board's serial port is {board.port}. In another terminal:")
            click.echo(f"    tailrace doctor --device serial:{board.port},patience={PATIENCE:g}")
            click.echo("Ctrl-C switches the board off.")
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
            click.echo(f"\n{board.cycles:,} cycles, {board.cycles_per_second:,.0f} per second")
    except TailraceError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
