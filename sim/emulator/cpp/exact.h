// Exact sums, and their one rounding to float32: tailrace.spec.numerics.
#pragma once
#include <cstdint>

#include "float32.h"
#include "simd.h"

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

// The exact sums of rows, one after the other: terms below 2**BITS, eight at a time.
//
// Shifts are mostly close together, also from row to row. So terms are summed in 64 bits, shifted relative to a base; where a
// shift does not fit the window above the base, and from time to time, these sums are added to the exact one.
template <int BITS>
class RowSum {
public:
    // Add terms times two to the power of their shifts, 0 to 63. Of a term that is zero for sure the shift does not matter:
    // those with a zero in `weights` or `sums`.
    void add(const WideEight& terms, Eight shifts, Eight weights, Eight sums) {
        const Eight unused = (weights == 0) | (sums == 0);
        Eight above = shifts - base_;
        if (__builtin_expect(any((UnsignedEight(above) > WINDOW) & ~unused), false)) {
            move(shifts, unused);
            above = shifts - base_;
            if (any((UnsignedEight(above) > WINDOW) & ~unused)) return add_each(terms, shifts, unused);
        }
        if (++added_ > MOST) flush();
        even_ += terms.even << (Four(above) & 63);
        odd_ += terms.odd << (Four(UnsignedFour(above) >> 32) & 63);
    }

    // The sum of the row; the next one begins.
    __int128 take() {
        flush();
        const __int128 value = sum_.value();
        sum_ = {};
        return value;
    }

private:
    // Additions, and the largest shift above the base, for which 64 bits suffice, with all eight terms together.
    static constexpr int MOST = 16, WINDOW = 63 - 4 - 3 - BITS, ROOM = WINDOW / 4;
    static_assert(WINDOW >= 12);

    __attribute__((noinline)) void move(Eight shifts, Eight unused) {
        flush();
        int32_t highest = 0;
        for (int i = 0; i < TOGETHER; ++i)
            if (!unused[i] && shifts[i] > highest) highest = shifts[i];
        base_ = highest > WINDOW - ROOM ? highest - (WINDOW - ROOM) : 0;
    }

    __attribute__((noinline)) void add_each(const WideEight& terms, Eight shifts, Eight unused) {
        for (int i = 0; i < TOGETHER; ++i)
            if (!unused[i]) sum_.add(i % 2 ? terms.odd[i / 2] : terms.even[i / 2], shifts[i]);
    }

    void flush() {
        const Four both = even_ + odd_;
        sum_.add(both[0] + both[1] + both[2] + both[3], base_);
        even_ = odd_ = Four{};
        added_ = 0;
    }

    Four even_{}, odd_{};
    int32_t base_ = 0;
    int added_ = 0;
    ExactSum sum_;
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
