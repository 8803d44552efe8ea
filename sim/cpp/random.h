// A stream of random decisions that depends on its seed alone.
#ifndef TAILRACE_RANDOM_H
#define TAILRACE_RANDOM_H

#include <cstdint>

namespace tailrace {

// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016), seeded by splitmix64.
class Chance {
public:
    // `threshold` of 2^32: always true; 0: never.
    Chance(uint64_t seed, uint64_t channel, uint64_t threshold) : threshold_(threshold) {
        uint64_t z = seed + (channel + 1) * 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        state_ = (z ^ (z >> 31)) | 1;
    }

    bool draw() { return threshold_ && next() < threshold_; }

    uint32_t next() {
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return static_cast<uint32_t>((state_ * 0x2545F4914F6CDD1Du) >> 32);
    }

private:
    uint64_t state_;
    uint64_t threshold_;
};

}  // namespace tailrace

#endif
