// Drives a DRAM's timing as the simulated memory does, and notes when it answers.

#include <cstdint>
#include <deque>

#include "dram.h"

namespace {

struct Request {
    uint64_t cycle;  // accepted in this cycle at the earliest
    uint64_t address, beats, write;
};

}  // namespace

// Reads and writes are accepted in their order, one of each kind in a cycle, while fewer than `window` beats of reads are on their
// way. `read_cycles` gets the cycle of each read beat, `response_cycles` that of each write's response. Returns the cycle in which all
// was done; `limit` if it was not.
extern "C" uint64_t drive(const uint64_t* parameters, uint64_t beat_bytes, uint64_t window, const Request* requests, uint64_t count,
                          uint64_t* read_cycles, uint64_t* response_cycles, uint64_t limit) {
    const auto& dram = *reinterpret_cast<const tailrace::DramParameters*>(parameters);
    tailrace::DramTiming timing(dram, beat_bytes);
    std::deque<Request> reads, writes;
    for (uint64_t i = 0; i < count; ++i) (requests[i].write ? writes : reads).push_back(requests[i]);
    uint64_t reading = 0, writing = 0, responses = 0;
    for (uint64_t cycle = 0; cycle < limit; ++cycle) {
        if (reads.empty() && writes.empty() && reading == 0 && writing == 0 && responses == 0) return cycle;
        timing.tick();
        const bool take = timing.write_beat_due();
        if (timing.read_beat_due()) {
            timing.read_beat_offered();
            *read_cycles++ = cycle;
            --reading;
        }
        if (timing.response_due()) {
            timing.response_offered();
            *response_cycles++ = cycle;
            --responses;
        }
        if (take) {
            timing.write_beat_taken();
            --writing;
        }
        if (!reads.empty() && reads.front().cycle <= cycle && reading + reads.front().beats <= window) {
            timing.read_accepted(reads.front().address, static_cast<unsigned>(reads.front().beats));
            reading += reads.front().beats;
            reads.pop_front();
        }
        if (!writes.empty() && writes.front().cycle <= cycle) {
            timing.write_accepted(writes.front().address, static_cast<unsigned>(writes.front().beats));
            writing += writes.front().beats;
            ++responses;
            writes.pop_front();
        }
    }
    return limit;
}

extern "C" uint64_t parameters() { return sizeof(tailrace::DramParameters) / sizeof(uint64_t); }
