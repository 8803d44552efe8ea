// The signals of one AXI4 master port of a core, whichever it is.
#ifndef TAILRACE_MEMORY_PORT_H
#define TAILRACE_MEMORY_PORT_H

#include "verilated.h"

namespace tailrace {

// Address, data and strobes have as many bits as the core was built with.
template <class Address, class Data, class Strobe>
struct MemoryPort {
    // What the memory drives.
    CData &arready, &rvalid, &rid, &rresp, &rlast;
    Data& rdata;
    CData &awready, &wready, &bvalid, &bid, &bresp;
    // What the core drives.
    const CData &arvalid, &arlen, &arsize, &arburst;
    const Address& araddr;
    const CData& rready;
    const CData &awvalid, &awlen, &awsize, &awburst;
    const Address& awaddr;
    const CData &wvalid, &wlast;
    const Data& wdata;
    const Strobe& wstrb;
    const CData& bready;

    static constexpr unsigned BYTES = sizeof(Data), STROBE_BYTES = sizeof(Strobe);
};

template <class A, class D, class S>
MemoryPort(CData&, CData&, CData&, CData&, CData&, D&, CData&, CData&, CData&, CData&, CData&, const CData&, const CData&, const CData&,
           const CData&, const A&, const CData&, const CData&, const CData&, const CData&, const CData&, const A&, const CData&,
           const CData&, const D&, const S&, const CData&) -> MemoryPort<A, D, S>;

// The port of a core whose signals begin with `name`.
#define TAILRACE_MEMORY_PORT(core, name)                                                                                     \
    tailrace::MemoryPort {                                                                                                   \
        (core).name##_arready, (core).name##_rvalid, (core).name##_rid, (core).name##_rresp, (core).name##_rlast,            \
            (core).name##_rdata, (core).name##_awready, (core).name##_wready, (core).name##_bvalid, (core).name##_bid,       \
            (core).name##_bresp, (core).name##_arvalid, (core).name##_arlen, (core).name##_arsize, (core).name##_arburst,    \
            (core).name##_araddr, (core).name##_rready, (core).name##_awvalid, (core).name##_awlen, (core).name##_awsize,    \
            (core).name##_awburst, (core).name##_awaddr, (core).name##_wvalid, (core).name##_wlast, (core).name##_wdata,     \
            (core).name##_wstrb, (core).name##_bready                                                                        \
    }

}  // namespace tailrace

#endif
