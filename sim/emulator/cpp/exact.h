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

// An integer times two to the power of `exponent`, 0 to 63.
struct Scaled {
    __int128 integer;
    int exponent;
};

inline Scaled operator+(const Scaled& a, const Scaled& b) {
    const int exponent = a.exponent < b.exponent ? a.exponent : b.exponent;
    return {(a.integer << (a.exponent - exponent)) + (b.integer << (b.exponent - exponent)), exponent};
}

// Terms of eight blocks: each an integer times two to the power of its shift, 0 to 63.
struct Terms {
    WideEight integers;
    Eight shifts;
    Eight unused;  // masks of those that are zero for sure, whose shift does not matter

    // Products of sums and weights.
    Terms(Eight sums, Eight weights, Eight shifts)
        : integers(widening_product(sums, weights)), shifts(shifts), unused((weights == 0) | (sums == 0)) {}

    Terms() = default;

    // Member by member: GCC 12 copies a whole structure in halves of a vector, and waits for them.
    Terms operator&(const Some& some) const {
        Terms these;
        these.integers.even = integers.even & some.even;
        these.integers.odd = integers.odd & some.odd;
        these.shifts = shifts;
        these.unused = unused | ~some.all;
        return these;
    }
};

// The exact sums of rows, one after the other: terms below 2**BITS, eight at a time.
//
// Shifts are mostly close together, also from row to row. So terms are summed in 64 bits, shifted relative to a base; where a
// shift does not fit the window above the base, and from time to time, these sums are added to the exact one.
template <int BITS>
class RowSum {
public:
    void add(const Terms& terms) {
        Eight above = terms.shifts - base_;
        if (__builtin_expect(any((UnsignedEight(above) > WINDOW) & ~terms.unused), false)) {
            move(terms);
            above = terms.shifts - base_;
            if (any((UnsignedEight(above) > WINDOW) & ~terms.unused)) return add_each(terms);
        }
        if (++added_ > MOST) flush();
        even_ += terms.integers.even << (Four(above) & 63);
        odd_ += terms.integers.odd << (Four(UnsignedFour(above) >> 32) & 63);
    }

    // The sum of the row; the next one begins.
    Scaled take() {
        Scaled sum{near(), base_};
        if (__builtin_expect(flushed_, false)) {
            flush();
            sum = {sum_.value(), 0};
            sum_ = {};
            flushed_ = false;
        }
        even_ = odd_ = Four{};
        added_ = 0;
        return sum;
    }

private:
    // Additions, and the largest shift above the base, for which 64 bits suffice, with all eight terms together.
    static constexpr int MOST = 16, WINDOW = 63 - 4 - 3 - BITS, ROOM = WINDOW / 4;
    static_assert(WINDOW >= 12);

    __attribute__((noinline)) void move(const Terms& terms) {
        flush();
        int32_t highest = 0;
        for (int i = 0; i < TOGETHER; ++i)
            if (!terms.unused[i] && terms.shifts[i] > highest) highest = terms.shifts[i];
        base_ = highest > WINDOW - ROOM ? highest - (WINDOW - ROOM) : 0;
    }

    __attribute__((noinline)) void add_each(const Terms& terms) {
        flushed_ = true;
        for (int i = 0; i < TOGETHER; ++i)
            if (!terms.unused[i]) sum_.add(i % 2 ? terms.integers.odd[i / 2] : terms.integers.even[i / 2], terms.shifts[i]);
    }

    int64_t near() const {
        const Four both = even_ + odd_;
        return both[0] + both[1] + both[2] + both[3];
    }

    void flush() {
        sum_.add(near(), base_);
        even_ = odd_ = Four{};
        added_ = 0;
        flushed_ = true;
    }

    Four even_{}, odd_{};
    int32_t base_ = 0;
    int added_ = 0;
    bool flushed_ = false;  // there is something in the exact sum
    ExactSum sum_;
};

// Bits of the float32 nearest to integer * 2**exponent, ties to even: +0 below 2**-126, infinity from 2**128 on.
inline uint32_t round_to_float32(int64_t integer, int exponent) {
    const uint32_t bits = bits_of(float(integer));
    const int biased = int(bits >> 23 & 0xFF) + exponent;
    if (integer == 0 || biased < 1) return 0;
    if (biased > 254) return (bits & SIGN) | INFINITE;
    return (bits & (SIGN | FRACTION)) | uint32_t(biased) << 23;
}

inline uint32_t round_to_float32(__int128 integer, int exponent) {
    if (integer == int64_t(integer)) return round_to_float32(int64_t(integer), exponent);
    // 63 bits, of which the last one says also whether there is anything below them: that is all that the rounding asks.
    const unsigned __int128 magnitude = integer < 0 ? -(unsigned __int128)integer : (unsigned __int128)integer;
    const uint64_t upper = uint64_t(magnitude >> 64);
    const int shift = 1 + (upper ? 64 - __builtin_clzll(upper) : 0);
    const bool below = magnitude & (((unsigned __int128)1 << shift) - 1);
    const int64_t leading = int64_t(magnitude >> shift) | below;
    return round_to_float32(integer < 0 ? -leading : leading, exponent + shift);
}

}  // namespace tailrace
