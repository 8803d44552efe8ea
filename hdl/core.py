"""The co-processor: everything between the host's registers and the memory bus."""

from typing import Any

from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tailrace.spec.config import Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.registers import ADDRESS_BITS

from .axi.lite import AxiLite
from .axi.read_channels import ReadChannels
from .axi.signature import AxiRead, AxiWrite, ReadKind, beat_write_layout, read_beat_layout, read_request_layout
from .axi.unit_reads import UnitReads
from .axi.write_channels import WriteChannels
from .control.command_fetch import CommandFetch
from .control.counters import Counters
from .control.probe import ProbeSignature
from .control.registers import ControlRegisters
from .control.run_checker import RunChecker
from .control.sequencer import Sequencer
from .control.watchdog import Watchdog
from .datapath import Datapath
from .merge import StreamMerge
from .stream_register import StreamRegister


class Core(wiring.Component):
    """Registers, sequencer, masters and datapath.

    Commands, vectors, parameters and weights are read in one stream, in the order in which they are used, and each beat carries
    what it is for. The sequencer asks for reads ahead of their use; the datapath takes them when it can.

    Parameters
    ----------
    config : Config
    gated : bool
        Whether the vector unit's clock stands still while it has nothing to do.
    memory_bytes : int or None
        Where memory ends, if it does not itself refuse what lies behind (`RunChecker`).

    Attributes
    ----------
    control : AxiLite, in
        The registers of `spec.registers`.
    read : AxiRead for each channel, out
    write : AxiWrite for each channel, out
    interrupt : out
    failed : out
        The last run ended with an error.
    probe : ProbeSignature, out
        For timelines of simulations.
    """

    def __init__(self, config: Config, gated: bool = False, memory_bytes: int | None = None) -> None:
        self._config, self._gated, self._memory_bytes = config, gated, memory_bytes
        super().__init__(
            {
                "control": In(AxiLite(ADDRESS_BITS)),
                "read": Out(AxiRead(config.address_width, config.bus_width)).array(config.channels),
                "write": Out(AxiWrite(config.address_width, config.bus_width)).array(config.channels),
                "interrupt": Out(1),
                "failed": Out(1),
                "probe": Out(ProbeSignature()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        m.submodules.registers = registers = ControlRegisters(config)
        m.submodules.counters = counters = Counters()
        m.submodules.watchdog = watchdog = Watchdog()
        m.submodules.run_checker = run_checker = RunChecker(config, self._memory_bytes)
        m.submodules.sequencer = sequencer = Sequencer(config)
        m.submodules.reader = reader = ReadChannels(config)
        m.submodules.writer = writer = WriteChannels(config)
        # What lies between the masters starts every run from reset: after an error nothing of it is left.
        clear = ResetInserter(sequencer.flush)
        fetch = CommandFetch(config)
        merge = StreamMerge(read_request_layout(config.address_width))
        m.submodules.fetch = clear(fetch)
        m.submodules.merge = clear(merge)
        # Behind the block RAM of the reader's FIFO, before the three that take beats.
        beats = StreamRegister(read_beat_layout(config.beat_width))
        m.submodules.beats = clear(beats)
        stores = StreamRegister(beat_write_layout(config.address_width, config.beat_width))
        m.submodules.stores = clear(stores)
        # The datapath's reset has a long way to go: it comes a cycle later, long before the next operation.
        flush = Signal(init=1)
        m.d.sync += flush.eq(sequencer.flush)
        m.submodules.datapath = datapath = Datapath(config, self._gated)

        # What the sequencer waits for comes to it in registers.
        written = writer.idle & ~stores.o.valid
        m.d.sync += [sequencer.writes_done.eq(written), sequencer.drained.eq(datapath.idle & written)]

        connect(m, flipped(self.control), registers.axi)
        connect(m, registers.counter, counters.read)
        for n in range(config.channels):
            connect(m, reader.axi[n], flipped(self.read[n]))
            connect(m, writer.axi[n], flipped(self.write[n]))
            m.d.comb += [
                run_checker.base[n].eq(registers.base[n]),
                reader.first_page[n].eq(run_checker.first_page[n]),
                writer.first_page[n].eq(run_checker.first_page[n]),
            ]
        connect(m, fetch.o, sequencer.i)
        connect(m, sequencer.o, datapath.operation)
        connect(m, datapath.value, sequencer.value)
        connect(m, datapath.store, stores.i)
        connect(m, stores.o, writer.i)
        m.d.comb += [
            self.interrupt.eq(registers.interrupt),
            self.failed.eq(sequencer.error.code != ErrorCode.NONE),
            run_checker.address.eq(registers.queue_address),
            run_checker.length.eq(registers.queue_length),
            run_checker.limit.eq(registers.limit),
            *(master.last_page.eq(run_checker.last_page) for master in (reader, writer)),
            sequencer.start.eq(registers.start),
            sequencer.code.eq(run_checker.code),
            sequencer.length.eq(registers.queue_length),
            registers.loading.eq(sequencer.loading),
            registers.argument_place.eq(sequencer.argument_place),
            sequencer.argument.eq(registers.argument),
            registers.done.eq(sequencer.done),
            registers.error.eq(sequencer.error),
            fetch.start.eq(sequencer.fetch_start),
            fetch.index.eq(sequencer.fetch_index),
            fetch.address.eq(registers.queue_address),
            fetch.length.eq(registers.queue_length),
            reader.flush.eq(sequencer.flush),
            writer.flush.eq(sequencer.flush),
            datapath.flush.eq(flush),
            sequencer.quiet.eq(reader.idle & writer.idle),
            sequencer.vector_unfinished.eq(datapath.vector_unfinished),
            sequencer.expired.eq(watchdog.expired),
            sequencer.expired_command.eq(datapath.command),
            sequencer.read_error.eq(reader.error),
            sequencer.write_error.eq(writer.error),
        ]

        # The next command is asked for before the data of this one: it must be there when this one ends.
        connect(m, fetch.request, merge.first)
        connect(m, sequencer.request, merge.i)
        targets = {ReadKind.COMMAND: fetch.i, ReadKind.VECTOR: datapath.vector}
        if config.beat_units == 1:
            connect(m, merge.o, reader.i)
            source, targets = beats.o, targets | {ReadKind.WEIGHT: datapath.weights}
        else:
            units = UnitReads(config)
            m.submodules.units = clear(units)
            connect(m, merge.o, units.i)
            connect(m, units.request, reader.i)
            connect(m, beats.o, units.beats)
            connect(m, units.weights, datapath.weights)
            source = units.units
        connect(m, reader.o, beats.i)

        m.d.comb += [target.payload.eq(source.payload.data) for target in targets.values()]
        with m.Switch(source.payload.kind):
            for kind, target in targets.items():
                with m.Case(kind):
                    m.d.comb += [target.valid.eq(source.valid), source.ready.eq(target.ready)]

        streams = [
            channel
            for read, write in zip(self.read, self.write, strict=True)
            for channel in (read.ar, read.r, write.aw, write.w, write.b)
        ]
        transferred = Signal()
        m.d.sync += transferred.eq(Cat(channel.valid & channel.ready for channel in streams).any())
        m.d.comb += [
            watchdog.running.eq(sequencer.running),
            watchdog.limit.eq(registers.watchdog_cycles),
            watchdog.progress.eq(transferred | sequencer.aborting),
            counters.clear.eq(registers.start),
            counters.running.eq(sequencer.running),
            counters.beat.eq(reader.beat),
            counters.beat_kind.eq(reader.beat_kind),
            counters.waiting.eq(reader.waiting),
            counters.blocked.eq(reader.blocked),
            counters.fence.eq(sequencer.fence),
            counters.drain.eq(sequencer.drain),
            counters.command.eq(sequencer.command),
            counters.write_beat.eq(writer.beat),
            counters.matrix_busy.eq(datapath.matrix_busy),
            counters.vector_busy.eq(datapath.vector_busy),
        ]

        m.d.comb += [
            self.probe.running.eq(sequencer.running),
            self.probe.fetch.eq(sequencer.command),
            self.probe.fetch_index.eq(sequencer.o.payload.index),
            self.probe.use.eq(counters.use),
            self.probe.level.eq(reader.level),
            self.probe.matrix_start.eq(datapath.probe.matrix_start),
            self.probe.matrix_finish.eq(datapath.probe.matrix_finish),
            self.probe.matrix_index.eq(datapath.probe.matrix_index),
            self.probe.vector_start.eq(datapath.probe.vector_start),
            self.probe.vector_finish.eq(datapath.probe.vector_finish),
            self.probe.vector_index.eq(datapath.probe.vector_index),
        ]
        return m
