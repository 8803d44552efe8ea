// An AXI4 slave: the part of device memory behind one of the core's master ports.
#ifndef TAILRACE_AXI_MEMORY_H
#define TAILRACE_AXI_MEMORY_H

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "memory_port.h"
#include "random.h"
#include "timing.h"

namespace tailrace {

enum Response : unsigned { OKAY = 0, SLVERR = 2, DECERR = 3 };
enum Channel : unsigned { AR, R, AW, W, B, CHANNELS };

// Numbers of streams of random decisions that belong to a port; those of the control port lie among the first port's.
constexpr unsigned STREAMS_OF_A_PORT = 32;

struct FaultyRange {
    uint64_t first, last;
};

// Which bytes of the device's memory a port reaches. Memory is striped over N ports by what they transfer in a cycle: stripe n of N is
// what lies at `(beat * N + n) * BUS`, at the port's own address `beat * BUS`. Stripe 0 of 1 is all of it.
struct Stripe {
    unsigned number, of;
};

// In every cycle `drive` sets the slave's outputs from its state alone, and `sample` looks at the settled port just before the rising
// edge. `number` is that of the core's port: each has random stalls of its own.
template <class Port>
class AxiMemory {
    static constexpr unsigned BUS = Port::BYTES;

public:
    AxiMemory(Port port, unsigned number, Stripe stripe, uint8_t* bytes, uint64_t size, std::unique_ptr<MemoryTiming> timing,
              uint64_t seed, const uint64_t* stalls)
        : port_(port), stripe_(stripe), bytes_(bytes), share_(size / stripe.of), timing_(std::move(timing)) {
        for (unsigned channel = 0; channel < CHANNELS; ++channel)
            stalls_.emplace_back(seed, channel + STREAMS_OF_A_PORT * number, stalls[channel]);
    }

    std::vector<FaultyRange> faulty_reads, faulty_writes;
    bool frozen = false;
    uint64_t read_beats = 0, write_beats = 0, read_bursts = 0, write_bursts = 0;

    // The first AXI rule that the core broke; empty if none.
    const std::string& violation() const { return violation_; }

    // What was on its way is lost, as in a memory controller that is reset with the core.
    void reset(std::unique_ptr<MemoryTiming> timing) {
        timing_ = std::move(timing);
        reads_.clear();
        writes_.clear();
        responses_.clear();
        ar_held_.valid = aw_held_.valid = w_held_ = false;
        r_valid_ = b_valid_ = false;
    }

    void drive() {
        timing_->tick();
        // Drawn for every channel in every cycle, needed or not: when a channel is stalled depends on the seed and the cycle alone.
        bool open[CHANNELS];
        for (unsigned channel = 0; channel < CHANNELS; ++channel) open[channel] = !stalls_[channel].draw() && !frozen;
        ar_ready_ = open[AR];
        aw_ready_ = open[AW];
        w_ready_ = open[W] && timing_->write_beat_due();
        if (!r_valid_ && open[R] && timing_->read_beat_due()) offer_read();
        if (!b_valid_ && open[B] && timing_->response_due()) {
            timing_->response_offered();
            port_.bresp = responses_.front();
            port_.bid = 0;
            responses_.pop_front();
            b_valid_ = true;
        }
        port_.arready = ar_ready_;
        port_.rvalid = r_valid_;
        port_.awready = aw_ready_;
        port_.wready = w_ready_;
        port_.bvalid = b_valid_;
    }

    void sample() {
        check_stable();
        if (r_valid_ && port_.rready) {
            r_valid_ = false;
            ++read_beats;
        }
        if (b_valid_ && port_.bready) b_valid_ = false;
        if (w_ready_ && port_.wvalid) take_write();
        if (ar_ready_ && port_.arvalid) {
            check_burst("AR", port_.araddr, port_.arlen, port_.arsize, port_.arburst);
            const unsigned beats = port_.arlen + 1u;
            reads_.push_back({port_.araddr, beats, OKAY});
            timing_->read_accepted(port_.araddr, beats);
            ++read_bursts;
        }
        if (aw_ready_ && port_.awvalid) {
            check_burst("AW", port_.awaddr, port_.awlen, port_.awsize, port_.awburst);
            const unsigned beats = port_.awlen + 1u;
            writes_.push_back({port_.awaddr, beats, OKAY});
            timing_->write_accepted(port_.awaddr, beats);
            ++write_bursts;
        }
    }

private:
    struct Burst {
        uint64_t address;
        unsigned beats;
        unsigned response;
    };
    struct Held {
        bool valid = false;
        uint64_t address = 0;
        unsigned length = 0;
    };

    Port port_;
    Stripe stripe_;
    uint8_t* bytes_;
    // Bytes of memory behind this port.
    uint64_t share_;
    std::unique_ptr<MemoryTiming> timing_;
    std::vector<Chance> stalls_;
    std::deque<Burst> reads_, writes_;
    std::deque<unsigned> responses_;
    bool ar_ready_ = false, aw_ready_ = false, w_ready_ = false, r_valid_ = false, b_valid_ = false;
    Held ar_held_, aw_held_;
    bool w_held_ = false;
    uint8_t w_data_[BUS], w_strobe_[Port::STROBE_BYTES];
    std::string violation_;

    // Where in the device's memory a beat of this port lies.
    uint64_t place(uint64_t address) const { return address * stripe_.of + stripe_.number * BUS; }

    bool inside(uint64_t address) const { return address < share_ && share_ - address >= BUS; }

    static bool faulty(const std::vector<FaultyRange>& ranges, uint64_t address) {
        for (const FaultyRange& range : ranges)
            if (address <= range.last && range.first <= address + (BUS - 1)) return true;
        return false;
    }

    unsigned answer(const std::vector<FaultyRange>& ranges, uint64_t address) const {
        if (!inside(address)) return DECERR;
        return faulty(ranges, place(address)) ? SLVERR : OKAY;
    }

    void offer_read() {
        timing_->read_beat_offered();
        Burst& burst = reads_.front();
        const unsigned response = answer(faulty_reads, burst.address);
        if (response == OKAY) {
            std::memcpy(&port_.rdata, bytes_ + place(burst.address), BUS);
        } else {
            // Not zero, so that a core that uses the data of a failed beat shows it.
            std::memset(&port_.rdata, 0xDB, BUS);
        }
        port_.rid = 0;
        port_.rresp = response;
        port_.rlast = burst.beats == 1;
        burst.address += BUS;
        if (--burst.beats == 0) reads_.pop_front();
        r_valid_ = true;
    }

    void take_write() {
        timing_->write_beat_taken();
        Burst& burst = writes_.front();
        const unsigned response = answer(faulty_writes, burst.address);
        burst.response = std::max(burst.response, response);
        if (response == OKAY) store(bytes_ + place(burst.address));
        burst.address += BUS;
        --burst.beats;
        if (bool(port_.wlast) != (burst.beats == 0)) {
            violate("WLAST is %u with %u beats of the burst to come", unsigned(port_.wlast), burst.beats);
        }
        if (burst.beats == 0) {
            responses_.push_back(burst.response);
            writes_.pop_front();
        }
        ++write_beats;
    }

    void store(uint8_t* target) const {
        uint8_t data[BUS], strobe[(BUS + 7) / 8];
        std::memcpy(data, &port_.wdata, BUS);
        std::memcpy(strobe, &port_.wstrb, sizeof strobe);
        for (unsigned i = 0; i < BUS; ++i)
            if (strobe[i / 8] >> (i % 8) & 1) target[i] = data[i];
    }

    // The rules of IHI 0022 that a master's addresses must keep.
    void check_burst(const char* channel, uint64_t address, unsigned length, unsigned size, unsigned burst) {
        const uint64_t last = address + uint64_t(length) * BUS + (BUS - 1);
        if (burst != 1) violate("%s asks for burst type %u; only INCR (1) is expected", channel, burst);
        if (1u << size != BUS) violate("%s asks for beats of %u bytes on a bus of %u", channel, 1u << size, BUS);
        if (address % BUS) violate("%s address %#llx is not aligned to the bus", channel, (unsigned long long)address);
        if (address >> 12 != last >> 12) {
            violate("%s burst of %u beats at %#llx crosses a 4 KiB boundary", channel, length + 1, (unsigned long long)address);
        }
    }

    // Once valid, a channel's payload must stay until it is taken (IHI 0022 A3.2.1).
    void check_stable() {
        check_stable("AR", ar_held_, ar_ready_, port_.arvalid, port_.araddr, port_.arlen);
        check_stable("AW", aw_held_, aw_ready_, port_.awvalid, port_.awaddr, port_.awlen);
        if (w_held_) {
            if (!port_.wvalid) {
                violate("WVALID fell before WREADY");
            } else if (std::memcmp(w_data_, &port_.wdata, BUS) || std::memcmp(w_strobe_, &port_.wstrb, sizeof w_strobe_)) {
                violate("W changed while it waited for WREADY");
            }
        }
        w_held_ = port_.wvalid && !w_ready_;
        if (w_held_) {
            std::memcpy(w_data_, &port_.wdata, BUS);
            std::memcpy(w_strobe_, &port_.wstrb, sizeof w_strobe_);
        }
    }

    void check_stable(const char* channel, Held& held, bool ready, bool valid, uint64_t address, unsigned length) {
        if (held.valid) {
            if (!valid) {
                violate("%sVALID fell before %sREADY", channel, channel);
            } else if (held.address != address || held.length != length) {
                violate("%s changed while it waited for %sREADY", channel, channel);
            }
        }
        held.valid = valid && !ready;
        held.address = address;
        held.length = length;
    }

    __attribute__((format(printf, 2, 3))) void violate(const char* format, ...) {
        if (!violation_.empty()) return;
        char text[200];
        va_list arguments;
        va_start(arguments, format);
        std::vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        violation_ = text;
    }
};

}  // namespace tailrace

#endif
