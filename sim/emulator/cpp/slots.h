// The vector slots: block floating point, with absolute exponents, and four base exponents for each slot.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "float32.h"
#include "simd.h"

namespace tailrace {

constexpr int SETS = 4;

// A vector as a product reads it: the exponents relative to the base, and mantissas of 0 where a block lies below it. Behind its
// end it begins again, by as many blocks as a product takes together, so that these may be of two rows.
struct Vector {
    int base;
    std::vector<int32_t> exponents;
    std::vector<int16_t> mantissas;
    std::vector<int32_t> sums[2];  // of the mantissas of either half of each block
};

class Slots {
public:
    Slots(int slots, int depth)
        : depth_(depth), mantissas_(size_t(slots) * depth * BLOCK), exponents_(size_t(slots) * depth), bases_(slots * SETS) {}

    int count() const { return int(bases_.size()) / SETS; }

    void write(int slot, int64_t block, int exponent, const int16_t* mantissas) {
        const size_t place = size_t(slot) * depth_ + block % depth_;
        exponents_[place] = exponent;
        std::copy(mantissas, mantissas + BLOCK, &mantissas_[place * BLOCK]);
    }

    void set_base(int slot, int set, int base, bool join) {
        int& old = bases_[slot * SETS + set];
        old = join ? std::max(old, base) : base;
    }

    // Each block comes `times` times, one after the other; `blocks` counts them all.
    Vector read(int slot, int set, int64_t first, int64_t blocks, int64_t times) const {
        const int64_t whole = blocks + TOGETHER;
        Vector vector{bases_[slot * SETS + set], std::vector<int32_t>(whole), std::vector<int16_t>(whole * BLOCK),
                      {std::vector<int32_t>(whole), std::vector<int32_t>(whole)}};
        for (int64_t b = 0; b < blocks; ++b) {
            const size_t place = size_t(slot) * depth_ + (first + b / times) % depth_;
            const int difference = exponents_[place] - vector.base;
            vector.exponents[b] = difference & contract::EXPONENT_MAX;
            if (difference < 0) continue;
            const int16_t* mantissas = &mantissas_[place * BLOCK];
            std::copy_n(mantissas, BLOCK, &vector.mantissas[b * BLOCK]);
            for (auto& sums : vector.sums)
                for (int i = 0; i < HALF_BLOCK; ++i) sums[b] += *mantissas++;
        }
        for (int64_t b = blocks; b < whole; ++b) {
            vector.exponents[b] = vector.exponents[b - blocks];
            for (auto& sums : vector.sums) sums[b] = sums[b - blocks];
            std::copy_n(&vector.mantissas[(b - blocks) * BLOCK], BLOCK, &vector.mantissas[b * BLOCK]);
        }
        return vector;
    }

private:
    int depth_;
    std::vector<int16_t> mantissas_;
    std::vector<int32_t> exponents_;
    std::vector<int> bases_;
};

// Quantise 32 numbers; returns the largest biased exponent. An infinity counts as 2**128.
inline int quantise(const float* x, int16_t* mantissas) {
    int largest = 0;
    for (int i = 0; i < BLOCK; ++i) largest = std::max(largest, int(bits_of(x[i]) >> 23 & 0xFF));
    for (int i = 0; i < BLOCK; ++i) {
        const uint32_t bits = bits_of(x[i]);
        const int biased = bits >> 23 & 0xFF;
        const double significand = biased == 0 ? 0 : double((bits & FRACTION) | 0x800000);
        const double scaled = significand * power_of_two(biased - (127 + 23 - int(contract::BLOCK_BIAS)) - largest);
        const double rounded = std::min(std::nearbyint(scaled), double(contract::MANTISSA_MAX));
        mantissas[i] = int16_t(bits & SIGN ? -rounded : rounded);
    }
    return largest;
}

}  // namespace tailrace
