"""A small core with the co-processor's ports that measures the memory which it is connected to.

It reads or writes bursts as fast as the memory lets it, and keeps in registers what it saw.
"""

from amaranth.hdl import ClockDomain, ClockSignal, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

# Registers: byte offsets on `s_axi_control`. Writing START runs the probe.
START, ADDRESS, BURSTS, BEATS, MODE = 0x00, 0x10, 0x14, 0x18, 0x1C
CHECKSUM, FIRST, SPAN, SLAVE_ERRORS, DECODE_ERRORS, RECEIVED, RESPONSE_DELAY, RESPONSES = range(0x20, 0x40, 4)

# Values of MODE.
READ, WRITE, WITHDRAW = 0, 1, 2


class Prober(wiring.Component):
    """The probe.

    MODE `READ`: reads BURSTS bursts of BEATS beats from ADDRESS on. CHECKSUM is the exclusive or of all 32-bit words, FIRST the cycles
    from the acceptance of the first burst to its first beat, SPAN the cycles from the first beat to the last, both inclusive.
    MODE `WRITE`: writes them; every byte of beat n is n. SPAN counts likewise, RESPONSE_DELAY the cycles from the last beat to its response,
    RESPONSES is the exclusive or of all of them. MODE `WITHDRAW`: breaks the rule that ARVALID stays until ARREADY.
    """

    def __init__(self, bus_width: int, address_width: int = 40) -> None:
        self._bus_width = bus_width
        address = {"addr": address_width, "len": 8, "size": 3, "burst": 2, "lock": 1, "cache": 4, "prot": 3, "qos": 4}
        ports = {"ap_clk": In(1), "ap_rst_n": In(1), "interrupt": Out(1)}
        for name, width in {"awaddr": 12, "awprot": 3, "awvalid": 1, "wdata": 32, "wstrb": 4, "wvalid": 1, "bready": 1,
                            "araddr": 12, "arprot": 3, "arvalid": 1, "rready": 1}.items():  # fmt: skip
            ports[f"s_axi_control_{name}"] = In(width)
        for name, width in {
            "awready": 1,
            "wready": 1,
            "bresp": 2,
            "bvalid": 1,
            "arready": 1,
            "rdata": 32,
            "rresp": 2,
            "rvalid": 1,
        }.items():
            ports[f"s_axi_control_{name}"] = Out(width)
        for channel in ("aw", "ar"):
            ports |= {f"m00_axi_{channel}{name}": Out(width) for name, width in {"id": 1, **address, "valid": 1}.items()}
            ports[f"m00_axi_{channel}ready"] = In(1)
        ports |= {
            f"m00_axi_w{n}": Out(w) for n, w in {"data": bus_width, "strb": bus_width // 8, "last": 1, "valid": 1}.items()
        }
        ports |= {f"m00_axi_{n}": Out(1) for n in ("bready", "rready")}
        ports |= {f"m00_axi_{n}": In(w) for n, w in {"wready": 1, "bid": 1, "bresp": 2, "bvalid": 1}.items()}
        ports |= {f"m00_axi_r{n}": In(w) for n, w in {"id": 1, "data": bus_width, "resp": 2, "last": 1, "valid": 1}.items()}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        m.d.comb += [ClockSignal().eq(self.ap_clk), ResetSignal().eq(~self.ap_rst_n)]
        address, bursts, beats, mode = Signal(32), Signal(16), Signal(8, init=1), Signal(2)
        start = self._control(m, address, bursts, beats, mode)

        bus_bytes = self._bus_width // 8
        requests, left, next_address = Signal(16), Signal(24), Signal(32)
        write_left, in_burst, pattern, responses_left = Signal(24), Signal(8), Signal(8), Signal(16)
        with m.If(start):
            m.d.sync += [requests.eq(bursts), left.eq(bursts * beats), next_address.eq(address), self.checksum.eq(0)]
            m.d.sync += [
                self.slave_errors.eq(0),
                self.decode_errors.eq(0),
                self.received.eq(0),
                self.responses.eq(0),
                pattern.eq(0),
            ]
            m.d.sync += [
                write_left.eq(bursts * beats),
                in_burst.eq(beats),
                responses_left.eq(bursts),
                self.span.eq(0),
                self.first.eq(0),
            ]
            m.d.sync += [self.response_delay.eq(0), self.interrupt.eq(0)]

        reading, writing = mode != WRITE, mode == WRITE
        withdrawn = Signal()
        m.d.sync += withdrawn.eq(~withdrawn)
        for channel, active in (("ar", reading & ~((mode == WITHDRAW) & withdrawn)), ("aw", writing)):
            port = {n: getattr(self, f"m00_axi_{channel}{n}") for n in ("addr", "len", "size", "burst", "valid", "ready")}
            m.d.comb += [port["addr"].eq(next_address), port["len"].eq(beats - 1), port["size"].eq(bus_bytes.bit_length() - 1)]
            m.d.comb += [port["burst"].eq(1), port["valid"].eq(active & (requests != 0))]
            with m.If(port["valid"] & port["ready"]):
                m.d.sync += [requests.eq(requests - 1), next_address.eq(next_address + beats * bus_bytes)]

        waiting, taken = Signal(), Signal()
        with m.If(self.m00_axi_arvalid & self.m00_axi_arready & (self.received == 0)):
            m.d.sync += waiting.eq(1)
        with m.If(waiting):
            m.d.sync += self.first.eq(self.first + 1)
        with m.If(self.m00_axi_rvalid):
            m.d.sync += waiting.eq(0)
        m.d.comb += [self.m00_axi_rready.eq(1), self.m00_axi_bready.eq(1)]
        m.d.comb += taken.eq((self.m00_axi_rvalid & self.m00_axi_rready) | (self.m00_axi_wvalid & self.m00_axi_wready))
        with m.If(taken):
            m.d.sync += [self.received.eq(self.received + 1), left.eq(left - 1)]
        with m.If(taken | ((self.received != 0) & (left != 0))):
            m.d.sync += self.span.eq(self.span + 1)
        with m.If(self.m00_axi_rvalid):
            words = [self.m00_axi_rdata.word_select(i, 32) for i in range(self._bus_width // 32)]
            folded = words[0]
            for word in words[1:]:
                folded = folded ^ word
            m.d.sync += self.checksum.eq(self.checksum ^ folded)
            m.d.sync += self.slave_errors.eq(self.slave_errors + (self.m00_axi_rresp == 2))
            m.d.sync += self.decode_errors.eq(self.decode_errors + (self.m00_axi_rresp == 3))
            with m.If(left == 1):
                m.d.sync += self.interrupt.eq(1)

        m.d.comb += [self.m00_axi_wvalid.eq(writing & (write_left != 0)), self.m00_axi_wdata.eq(pattern.replicate(bus_bytes))]
        m.d.comb += [self.m00_axi_wstrb.eq(-1), self.m00_axi_wlast.eq(in_burst == 1)]
        with m.If(self.m00_axi_wvalid & self.m00_axi_wready):
            m.d.sync += [write_left.eq(write_left - 1), pattern.eq(pattern + 1), in_burst.eq(in_burst - 1)]
            with m.If(in_burst == 1):
                m.d.sync += in_burst.eq(beats)
        with m.If(writing & (left == 0) & (responses_left == 1)):
            m.d.sync += self.response_delay.eq(self.response_delay + 1)
        with m.If(self.m00_axi_bvalid & (responses_left != 0)):
            m.d.sync += [responses_left.eq(responses_left - 1), self.responses.eq(self.responses ^ self.m00_axi_bresp)]
            with m.If(responses_left == 1):
                m.d.sync += self.interrupt.eq(1)
        return m

    def _control(self, m: Module, address: Signal, bursts: Signal, beats: Signal, mode: Signal) -> Signal:
        """The registers; returns a strobe for START."""
        for name in ("checksum", "first", "span", "slave_errors", "decode_errors", "received", "response_delay", "responses"):
            setattr(self, name, Signal(32, name=name))
        start, aw_held, w_held, offset, value = Signal(), Signal(), Signal(), Signal(12), Signal(32)
        m.d.comb += [self.s_axi_control_awready.eq(~aw_held), self.s_axi_control_wready.eq(~w_held)]
        with m.If(self.s_axi_control_awvalid & ~aw_held):
            m.d.sync += [aw_held.eq(1), offset.eq(self.s_axi_control_awaddr)]
        with m.If(self.s_axi_control_wvalid & ~w_held):
            m.d.sync += [w_held.eq(1), value.eq(self.s_axi_control_wdata)]
        with m.If(aw_held & w_held & ~self.s_axi_control_bvalid):
            m.d.sync += self.s_axi_control_bvalid.eq(1)
            with m.Switch(offset):
                for number, target in ((ADDRESS, address), (BURSTS, bursts), (BEATS, beats), (MODE, mode)):
                    with m.Case(number):
                        m.d.sync += target.eq(value)
                with m.Case(START):
                    m.d.comb += start.eq(1)
                with m.Default():
                    m.d.sync += self.s_axi_control_bresp.eq(2)
        with m.If(self.s_axi_control_bvalid & self.s_axi_control_bready):
            m.d.sync += [self.s_axi_control_bvalid.eq(0), self.s_axi_control_bresp.eq(0), aw_held.eq(0), w_held.eq(0)]

        m.d.comb += self.s_axi_control_arready.eq(~self.s_axi_control_rvalid)
        results = (self.checksum, self.first, self.span, self.slave_errors, self.decode_errors, self.received)
        with m.If(self.s_axi_control_arvalid & self.s_axi_control_arready):
            m.d.sync += self.s_axi_control_rvalid.eq(1)
            with m.Switch(self.s_axi_control_araddr):
                for i, result in enumerate((*results, self.response_delay, self.responses)):
                    with m.Case(CHECKSUM + 4 * i):
                        m.d.sync += self.s_axi_control_rdata.eq(result)
        with m.If(self.s_axi_control_rvalid & self.s_axi_control_rready):
            m.d.sync += self.s_axi_control_rvalid.eq(0)
        return start
