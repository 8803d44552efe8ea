// The host's side of the AXI4-Lite port `s_axi_control`: one access at a time.
#ifndef TAILRACE_CONTROL_PORT_H
#define TAILRACE_CONTROL_PORT_H

#include <cstdint>

#include "random.h"

namespace tailrace {

template <class Core>
class ControlPort {
public:
    // With a probability of stalls, address, data and the readiness for answers come up to three cycles late, each by itself.
    ControlPort(uint64_t seed, uint64_t threshold) : late_(seed, 16, threshold) {}

    void begin_read(uint32_t offset) {
        writing_ = false;
        begin(offset, 0);
    }
    void begin_write(uint32_t offset, uint32_t value) {
        writing_ = true;
        begin(offset, value);
    }
    void abandon() { address_sent_ = data_sent_ = answered_ = true; }

    bool done() const { return answered_; }
    uint32_t value() const { return value_; }
    unsigned response() const { return response_; }

    void drive(Core& core) {
        if (answered_) {
            core.s_axi_control_awvalid = core.s_axi_control_wvalid = core.s_axi_control_arvalid = 0;
            core.s_axi_control_bready = core.s_axi_control_rready = 0;
            return;
        }
        const bool address = !address_sent_ && elapsed_ >= address_delay_;
        core.s_axi_control_awaddr = core.s_axi_control_araddr = offset_;
        core.s_axi_control_awprot = core.s_axi_control_arprot = 0;
        core.s_axi_control_wdata = value_;
        core.s_axi_control_wstrb = 0xF;
        core.s_axi_control_awvalid = writing_ && address;
        core.s_axi_control_arvalid = !writing_ && address;
        core.s_axi_control_wvalid = writing_ && !data_sent_ && elapsed_ >= data_delay_;
        core.s_axi_control_bready = writing_ && elapsed_ >= answer_delay_;
        core.s_axi_control_rready = !writing_ && elapsed_ >= answer_delay_;
    }

    void sample(const Core& core) {
        if (answered_) return;
        ++elapsed_;
        if (writing_) {
            if (core.s_axi_control_awvalid && core.s_axi_control_awready) address_sent_ = true;
            if (core.s_axi_control_wvalid && core.s_axi_control_wready) data_sent_ = true;
            if (core.s_axi_control_bvalid && core.s_axi_control_bready) finish(core.s_axi_control_bresp);
        } else {
            if (core.s_axi_control_arvalid && core.s_axi_control_arready) address_sent_ = true;
            if (core.s_axi_control_rvalid && core.s_axi_control_rready) {
                value_ = core.s_axi_control_rdata;
                finish(core.s_axi_control_rresp);
            }
        }
    }

private:
    Chance late_;
    bool writing_ = false, address_sent_ = true, data_sent_ = true, answered_ = true;
    uint32_t offset_ = 0, value_ = 0;
    unsigned response_ = 0, elapsed_ = 0, address_delay_ = 0, data_delay_ = 0, answer_delay_ = 0;

    unsigned delay() { return late_.draw() ? late_.next() % 4 : 0; }

    void begin(uint32_t offset, uint32_t value) {
        offset_ = offset;
        value_ = value;
        address_sent_ = answered_ = false;
        data_sent_ = !writing_;
        elapsed_ = 0;
        address_delay_ = delay();
        data_delay_ = delay();
        answer_delay_ = delay();
    }

    void finish(unsigned response) {
        response_ = response;
        answered_ = true;
    }
};

}  // namespace tailrace

#endif
