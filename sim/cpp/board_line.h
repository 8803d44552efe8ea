// Both ends of a serial line, bit by bit: 8 data bits, no parity, 1 stop bit, a fixed number of clocks per bit.
#ifndef TAILRACE_BOARD_LINE_H
#define TAILRACE_BOARD_LINE_H

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

namespace tailrace {

// Drives a line.
class LineSender {
public:
    explicit LineSender(unsigned clocks_per_bit) : clocks_(clocks_per_bit) {}

    void put(const uint8_t* bytes, size_t count) { waiting_.insert(waiting_.end(), bytes, bytes + count); }

    // Whether the last stop bit is over.
    bool idle() const { return !bits_left_ && waiting_.empty(); }

    // The level of the line in the next cycle.
    bool step() {
        if (!bits_left_) {
            if (waiting_.empty()) return true;
            // The start bit goes first, the stop bit last.
            frame_ = 1u << 9 | unsigned(waiting_.front()) << 1;
            waiting_.pop_front();
            bits_left_ = 10;
            clock_ = 0;
        }
        const bool level = frame_ & 1;
        if (++clock_ == clocks_) {
            clock_ = 0;
            frame_ >>= 1;
            --bits_left_;
        }
        return level;
    }

private:
    const unsigned clocks_;
    std::deque<uint8_t> waiting_;
    unsigned frame_ = 0, bits_left_ = 0, clock_ = 0;
};

// Listens to a line.
class LineReceiver {
public:
    explicit LineReceiver(unsigned clocks_per_bit) : clocks_(clocks_per_bit) {}

    std::vector<uint8_t> bytes;
    // Bytes without a stop bit, which are dropped as a computer's UART drops them.
    uint64_t broken = 0;

    // Whether the line is high since the last stop bit.
    bool idle() const { return !receiving_; }

    void step(bool level) {
        if (!receiving_) {
            // After a missing stop bit, the line must be high before a byte can begin.
            held_low_ = held_low_ && !level;
            if (level || held_low_) return;
            receiving_ = true;
            // The first sample is in the middle of the start bit.
            wait_ = clocks_ / 2;
            bits_ = frame_ = 0;
        }
        if (wait_--) return;
        wait_ = clocks_ - 1;
        frame_ |= unsigned(level) << bits_;
        if (++bits_ < 10) return;
        receiving_ = false;
        // A start bit that does not last was none.
        if (frame_ & 1) return;
        held_low_ = !level;
        if (held_low_)
            ++broken;
        else
            bytes.push_back(static_cast<uint8_t>(frame_ >> 1));
    }

private:
    const unsigned clocks_;
    bool receiving_ = false, held_low_ = false;
    unsigned wait_ = 0, bits_ = 0, frame_ = 0;
};

}  // namespace tailrace

#endif
