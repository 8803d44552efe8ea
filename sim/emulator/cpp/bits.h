// Fields of commands, and float32 numbers as their bits.
#pragma once
#include <cstdint>
#include <cstring>

#include "contract.h"

namespace tailrace {

using contract::Field;

struct Command {
    uint32_t words[contract::COMMAND_WORDS];

    uint32_t opcode() const { return words[0] & 0xFF; }

    int64_t operator[](const Field& field) const {
        const uint64_t raw = (words[field.word] >> field.low) & ((uint64_t(1) << field.width) - 1);
        const bool negative = field.is_signed && (raw >> (field.width - 1));
        return int64_t(raw) - (negative ? int64_t(1) << field.width : 0);
    }
};

inline uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

inline float float_of(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

inline double power_of_two(int exponent) {
    // Normal float64 numbers only, which is all that is asked for.
    const uint64_t bits = uint64_t(1023 + exponent) << 52;
    double x;
    std::memcpy(&x, &bits, 8);
    return x;
}

constexpr int64_t ceil_div(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }

}  // namespace tailrace
