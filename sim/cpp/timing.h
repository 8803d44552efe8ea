// When a memory does things. What it holds is not of interest here.
#ifndef TAILRACE_TIMING_H
#define TAILRACE_TIMING_H

#include <algorithm>
#include <cstdint>
#include <deque>

namespace tailrace {

// A model of a memory's timing. Bursts of one direction are served in the order in which they were accepted.
//
// In every cycle, before anything else, `tick` is called. Then `read_beat_due`, `write_beat_due` and `response_due` say what
// the memory can do in this cycle, and the other functions tell the model what was done.
class MemoryTiming {
public:
    virtual ~MemoryTiming() = default;
    virtual void tick() = 0;

    // A read burst was accepted at the end of this cycle.
    virtual void read_accepted(uint64_t address, unsigned beats) = 0;
    // Whether the next read beat can be offered in this cycle.
    virtual bool read_beat_due() const = 0;
    // It is offered from this cycle on.
    virtual void read_beat_offered() = 0;

    // A write burst was accepted at the end of this cycle.
    virtual void write_accepted(uint64_t address, unsigned beats) = 0;
    // Whether a write beat can be taken in this cycle.
    virtual bool write_beat_due() const = 0;
    // One was taken at the end of this cycle.
    virtual void write_beat_taken() = 0;
    // Whether the next write response can be offered in this cycle.
    virtual bool response_due() const = 0;
    // It is offered from this cycle on.
    virtual void response_offered() = 0;
};

// Fixed latency, fixed bandwidth.
//
// The first beat of a read that is accepted in cycle t is due in cycle t + latency, a write's response `latency` cycles after
// the write's last beat. Each direction carries `numerator / denominator` beats per cycle.
class FixedTiming final : public MemoryTiming {
public:
    FixedTiming(uint64_t latency, uint64_t numerator, uint64_t denominator)
        : latency_(latency), read_rate_(numerator, denominator), write_rate_(numerator, denominator) {}

    void tick() override {
        ++now_;
        read_rate_.tick();
        write_rate_.tick();
    }

    void read_accepted(uint64_t, unsigned beats) override { reads_.push_back({now_ + latency_, beats}); }
    bool read_beat_due() const override { return !reads_.empty() && reads_.front().due <= now_ && read_rate_.available(); }
    void read_beat_offered() override {
        read_rate_.spend();
        if (--reads_.front().beats == 0) reads_.pop_front();
    }

    void write_accepted(uint64_t, unsigned beats) override { writes_.push_back(beats); }
    bool write_beat_due() const override { return !writes_.empty() && write_rate_.available(); }
    void write_beat_taken() override {
        write_rate_.spend();
        if (--writes_.front() == 0) {
            writes_.pop_front();
            responses_.push_back(now_ + latency_);
        }
    }
    bool response_due() const override { return !responses_.empty() && responses_.front() <= now_; }
    void response_offered() override { responses_.pop_front(); }

private:
    struct Read {
        uint64_t due;
        unsigned beats;
    };

    // A bucket that gains `numerator` a cycle and pays `denominator` a beat. It holds one beat and what rounding needs, so that the rate
    // is exact over any span and idle time is not saved up.
    class Rate {
    public:
        Rate(uint64_t numerator, uint64_t denominator)
            : numerator_(numerator), denominator_(denominator), level_(denominator) {}
        void tick() { level_ = std::min(level_ + numerator_, denominator_ + numerator_ - 1); }
        bool available() const { return level_ >= denominator_; }
        void spend() { level_ -= denominator_; }

    private:
        uint64_t numerator_, denominator_, level_;
    };

    uint64_t now_ = 0;
    uint64_t latency_;
    Rate read_rate_, write_rate_;
    std::deque<Read> reads_;
    std::deque<unsigned> writes_;
    std::deque<uint64_t> responses_;
};

}  // namespace tailrace

#endif
