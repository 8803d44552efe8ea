// Exact sums, and their one rounding to float32: tailrace.spec.numerics.
#pragma once
#include <cstdint>

#include "float32.h"

namespace tailrace {

// A sum of integers times powers of two from 2**0 to 2**61, in 128 bits, of which 120 are ever used.
class ExactSum {
public:
    // Add term * 2**shift; shift is 0 to 63.
    void add(int64_t term, int shift) {
        const uint64_t low = uint64_t(term) << shift;
        const int64_t high = (term >> 1) >> (63 - shift);
        value_ += __int128((unsigned __int128)(uint64_t(high)) << 64 | low);
    }

    __int128 value() const { return value_; }

private:
    __int128 value_ = 0;
};

// Bits of the float32 nearest to integer * 2**exponent, ties to even: +0 below 2**-126, infinity from 2**128 on.
inline uint32_t round_to_float32(__int128 integer, int exponent) {
    if (integer == 0) return 0;
    const uint32_t sign = integer < 0 ? SIGN : 0;
    const unsigned __int128 magnitude = integer < 0 ? -(unsigned __int128)integer : (unsigned __int128)integer;
    const uint64_t upper = uint64_t(magnitude >> 64);
    const int length = upper ? 128 - __builtin_clzll(upper) : 64 - __builtin_clzll(uint64_t(magnitude));
    int shift = length - 24;
    uint32_t significand;
    if (shift > 0) {
        significand = uint32_t(magnitude >> shift);
        const unsigned __int128 rest = magnitude & (((unsigned __int128)1 << shift) - 1), half = (unsigned __int128)1 << (shift - 1);
        significand += rest > half || (rest == half && (significand & 1));
        if (significand == 1u << 24) {
            significand >>= 1;
            ++shift;
        }
    } else {
        significand = uint32_t(magnitude) << -shift;
    }
    const int biased = exponent + shift + 23 + 127;
    if (biased < 1) return 0;
    if (biased > 254) return sign | INFINITE;
    return sign | uint32_t(biased) << 23 | (significand & FRACTION);
}

}  // namespace tailrace
