// An AXI4 slave: device memory behind the core's master port.
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

#include "random.h"
#include "timing.h"

namespace tailrace {

enum Response : unsigned { OKAY = 0, SLVERR = 2, DECERR = 3 };
enum Channel : unsigned { AR, R, AW, W, B, CHANNELS };

struct FaultyRange {
    uint64_t first, last;
};

// Works on any Verilated class with the ports `m00_axi_*`. In every cycle `drive` sets the slave's outputs from its state alone, and
// `sample` looks at the settled port just before the rising edge.
template <class Core>
class AxiMemory {
    static constexpr unsigned BUS = sizeof(Core::m00_axi_rdata);

public:
    AxiMemory(uint8_t* bytes, uint64_t size, std::unique_ptr<MemoryTiming> timing, uint64_t seed, const uint64_t* stalls)
        : bytes_(bytes), size_(size), timing_(std::move(timing)) {
        for (unsigned channel = 0; channel < CHANNELS; ++channel) stalls_.emplace_back(seed, channel, stalls[channel]);
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

    void drive(Core& core) {
        timing_->tick();
        // Drawn for every channel in every cycle, needed or not: when a channel is stalled depends on the seed and the cycle alone.
        bool open[CHANNELS];
        for (unsigned channel = 0; channel < CHANNELS; ++channel) open[channel] = !stalls_[channel].draw() && !frozen;
        ar_ready_ = open[AR];
        aw_ready_ = open[AW];
        w_ready_ = open[W] && timing_->write_beat_due();
        if (!r_valid_ && open[R] && timing_->read_beat_due()) offer_read(core);
        if (!b_valid_ && open[B] && timing_->response_due()) {
            timing_->response_offered();
            core.m00_axi_bresp = responses_.front();
            core.m00_axi_bid = 0;
            responses_.pop_front();
            b_valid_ = true;
        }
        core.m00_axi_arready = ar_ready_;
        core.m00_axi_rvalid = r_valid_;
        core.m00_axi_awready = aw_ready_;
        core.m00_axi_wready = w_ready_;
        core.m00_axi_bvalid = b_valid_;
    }

    void sample(const Core& core) {
        check_stable(core);
        if (r_valid_ && core.m00_axi_rready) {
            r_valid_ = false;
            ++read_beats;
        }
        if (b_valid_ && core.m00_axi_bready) b_valid_ = false;
        if (w_ready_ && core.m00_axi_wvalid) take_write(core);
        if (ar_ready_ && core.m00_axi_arvalid) {
            check_burst("AR", core.m00_axi_araddr, core.m00_axi_arlen, core.m00_axi_arsize, core.m00_axi_arburst);
            const unsigned beats = core.m00_axi_arlen + 1u;
            reads_.push_back({core.m00_axi_araddr, beats, OKAY});
            timing_->read_accepted(core.m00_axi_araddr, beats);
            ++read_bursts;
        }
        if (aw_ready_ && core.m00_axi_awvalid) {
            check_burst("AW", core.m00_axi_awaddr, core.m00_axi_awlen, core.m00_axi_awsize, core.m00_axi_awburst);
            const unsigned beats = core.m00_axi_awlen + 1u;
            writes_.push_back({core.m00_axi_awaddr, beats, OKAY});
            timing_->write_accepted(core.m00_axi_awaddr, beats);
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

    uint8_t* bytes_;
    uint64_t size_;
    std::unique_ptr<MemoryTiming> timing_;
    std::vector<Chance> stalls_;
    std::deque<Burst> reads_, writes_;
    std::deque<unsigned> responses_;
    bool ar_ready_ = false, aw_ready_ = false, w_ready_ = false, r_valid_ = false, b_valid_ = false;
    Held ar_held_, aw_held_;
    bool w_held_ = false;
    uint8_t w_data_[BUS], w_strobe_[sizeof(Core::m00_axi_wstrb)];
    std::string violation_;

    bool inside(uint64_t address) const { return address < size_ && size_ - address >= BUS; }

    static bool faulty(const std::vector<FaultyRange>& ranges, uint64_t address) {
        for (const FaultyRange& range : ranges)
            if (address <= range.last && range.first <= address + (BUS - 1)) return true;
        return false;
    }

    unsigned answer(const std::vector<FaultyRange>& ranges, uint64_t address) const {
        if (!inside(address)) return DECERR;
        return faulty(ranges, address) ? SLVERR : OKAY;
    }

    void offer_read(Core& core) {
        timing_->read_beat_offered();
        Burst& burst = reads_.front();
        const unsigned response = answer(faulty_reads, burst.address);
        if (response == OKAY) {
            std::memcpy(&core.m00_axi_rdata, bytes_ + burst.address, BUS);
        } else {
            // Not zero, so that a core that uses the data of a failed beat shows it.
            std::memset(&core.m00_axi_rdata, 0xDB, BUS);
        }
        core.m00_axi_rid = 0;
        core.m00_axi_rresp = response;
        core.m00_axi_rlast = burst.beats == 1;
        burst.address += BUS;
        if (--burst.beats == 0) reads_.pop_front();
        r_valid_ = true;
    }

    void take_write(const Core& core) {
        timing_->write_beat_taken();
        Burst& burst = writes_.front();
        const unsigned response = answer(faulty_writes, burst.address);
        burst.response = std::max(burst.response, response);
        if (response == OKAY) store(core, bytes_ + burst.address);
        burst.address += BUS;
        --burst.beats;
        if (bool(core.m00_axi_wlast) != (burst.beats == 0)) {
            violate("WLAST is %u with %u beats of the burst to come", unsigned(core.m00_axi_wlast), burst.beats);
        }
        if (burst.beats == 0) {
            responses_.push_back(burst.response);
            writes_.pop_front();
        }
        ++write_beats;
    }

    static void store(const Core& core, uint8_t* target) {
        uint8_t data[BUS], strobe[(BUS + 7) / 8];
        std::memcpy(data, &core.m00_axi_wdata, BUS);
        std::memcpy(strobe, &core.m00_axi_wstrb, sizeof strobe);
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
    void check_stable(const Core& core) {
        check_stable("AR", ar_held_, ar_ready_, core.m00_axi_arvalid, core.m00_axi_araddr, core.m00_axi_arlen);
        check_stable("AW", aw_held_, aw_ready_, core.m00_axi_awvalid, core.m00_axi_awaddr, core.m00_axi_awlen);
        if (w_held_) {
            if (!core.m00_axi_wvalid) {
                violate("WVALID fell before WREADY");
            } else if (std::memcmp(w_data_, &core.m00_axi_wdata, BUS) || std::memcmp(w_strobe_, &core.m00_axi_wstrb, sizeof w_strobe_)) {
                violate("W changed while it waited for WREADY");
            }
        }
        w_held_ = core.m00_axi_wvalid && !w_ready_;
        if (w_held_) {
            std::memcpy(w_data_, &core.m00_axi_wdata, BUS);
            std::memcpy(w_strobe_, &core.m00_axi_wstrb, sizeof w_strobe_);
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
