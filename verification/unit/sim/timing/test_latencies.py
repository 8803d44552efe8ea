"""The latencies that predictions are made with are those that the gateware's components state."""

import pytest

from tailrace.hdl.axi.read_master import REQUESTS_IN_FLIGHT, ReadMaster
from tailrace.hdl.axi.write_master import BEATS_QUEUED, WRITES_IN_FLIGHT
from tailrace.hdl.control.command_fetch import AHEAD
from tailrace.hdl.control.dispatcher import QUEUE_DEPTH, Dispatcher
from tailrace.hdl.control.interpreter import Interpreter
from tailrace.hdl.datapath import PARAMETER_BEATS
from tailrace.hdl.fifo import StreamFifo
from tailrace.hdl.float.add import FloatAdd
from tailrace.hdl.float.maximum import Maximum
from tailrace.hdl.float.total import Total
from tailrace.hdl.gemv.command import maxima_gap
from tailrace.hdl.gemv.engine import GemvEngine
from tailrace.hdl.slots.block_quantiser import BlockQuantiser
from tailrace.hdl.slots.loader import VectorLoader
from tailrace.hdl.stream_register import StreamRegister
from tailrace.hdl.vector.append import Append
from tailrace.hdl.vector.elementwise import Elementwise
from tailrace.hdl.vector.pipeline import ElementwisePipeline
from tailrace.hdl.vector.store import Store
from tailrace.sim.timing import latencies
from tailrace.spec.config import BUS_WIDTHS, VECTOR_WIDTHS, Config
from tailrace.spec.isa import REGISTERS


def test_as_the_components_have_them() -> None:
    parameters = StreamFifo(8, PARAMETER_BEATS)
    stated = {
        "READ_REQUEST": ReadMaster.request_latency,
        "READ_BEAT": ReadMaster.beat_latency,
        "REQUESTS_IN_FLIGHT": REQUESTS_IN_FLIGHT,
        "BEATS_REGISTER": StreamRegister.latency,
        "COMMANDS_AHEAD": AHEAD,
        # The last of a command's cycles belongs to the next one's first.
        "ISSUE": Interpreter.command_cycles - 1,
        "SET": Interpreter.set_cycles,
        "QUEUE_DEPTH": QUEUE_DEPTH,
        "DISPATCH": Dispatcher.latency,
        "MATRIX_LATENCY": GemvEngine.latency,
        "ELEMENTWISE": Elementwise.identity_overhead,
        "FUNCTION": ElementwisePipeline.function_latency,
        "TAIL": ElementwisePipeline.tail_latency,
        "RESUMED_TOTAL": FloatAdd.latency + 2,
        "QUANTISE": BlockQuantiser.overhead,
        "APPEND": Append.overhead,
        "STORE": Store.overhead,
        "PARAMETER_BEATS": PARAMETER_BEATS,
        "PARAMETER_LATENCY": parameters.latency + StreamRegister.latency,
        "WRITES_QUEUED": BEATS_QUEUED,
        "WRITES_IN_FLIGHT": WRITES_IN_FLIGHT,
    }
    assert stated == {name: getattr(latencies, name) for name in stated}


@pytest.mark.parametrize("bus_width", BUS_WIDTHS)
def test_as_they_depend_on_the_bus(bus_width: int) -> None:
    config = Config("x", bus_width)
    assert latencies.MAXIMA_GAP[config.lanes] == maxima_gap(config)
    assert latencies.LOAD == VectorLoader(config).commit_latency


@pytest.mark.parametrize("width", [width for width in VECTOR_WIDTHS if width])
def test_as_they_depend_on_the_vector_unit(width: int) -> None:
    assert latencies.TOTAL[width] == Total(width).latency
    assert latencies.RESERVED.get(width) == (Total(width).reserved if Total(width).overlaps else None)
    assert latencies.MAXIMUM[width] == Maximum(width).latency


def test_a_run_starts_when_its_registers_are_set() -> None:
    """A register a cycle, one to begin, and one to let go of the reset."""
    assert latencies.RUN_START == REGISTERS + 2
