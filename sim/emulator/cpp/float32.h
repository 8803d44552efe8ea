// The vector unit's float32 arithmetic: tailrace.spec.floats.
//
// Operands are canonical: no subnormals, no negative zeros, and infinities for NaNs. So are all results.
#pragma once
#include <cmath>
#include <cstdint>

#include "bits.h"

namespace tailrace {

constexpr uint32_t SIGN = 0x80000000u, INFINITE = 0x7F800000u, FRACTION = 0x007FFFFFu;
constexpr double SMALLEST_NORMAL = 0x1p-126;

inline bool is_infinite(float x) { return (bits_of(x) & INFINITE) == INFINITE; }

inline float canonical(uint32_t bits) {
    const uint32_t exponent = bits & INFINITE;
    const uint32_t kept = exponent == INFINITE ? bits & ~FRACTION : bits;
    return float_of(exponent == 0 ? 0 : kept);
}

inline float multiply(float a, float b) {
    // The float64 product is exact, so the rounding to float32 is the only one, and what is below the smallest normal is known.
    const double exact = double(a) * double(b);
    const float rounded = std::fabs(exact) < SMALLEST_NORMAL ? 0.0f : float(exact);
    const float infinite = float_of(((bits_of(a) ^ bits_of(b)) & SIGN) | INFINITE);
    return is_infinite(a) | is_infinite(b) ? infinite : rounded;
}

inline float add(float a, float b) {
    // A sum that is subnormal is exact.
    const float sum = a + b;
    const float kept = std::fabs(sum) < float(SMALLEST_NORMAL) ? 0.0f : sum;
    return is_infinite(a) ? a : is_infinite(b) ? b : kept;
}

// The lesser one; equal operands have equal bits.
inline float lesser(float a, float b) { return b < a ? b : a; }

inline float negative(float x) { return 0.0f - x; }

namespace functions {

using contract::Rows;

struct Parts {
    bool sign;
    int exponent;
    int64_t significand;
};

inline Parts parts_of(float x) {
    const uint32_t bits = bits_of(x);
    const int exponent = bits >> 23 & 0xFF;
    return {bool(bits >> 31), exponent, exponent == 0 ? 0 : int64_t((bits & FRACTION) | 0x800000)};
}

inline int64_t polynomial(Rows rows, int64_t position) {
    constexpr int bits = contract::SEGMENT_BITS;
    const auto& segment = contract::TABLE[rows.first + (position >> bits & (rows.count - 1))];
    const int64_t d = position & ((int64_t(1) << bits) - 1);
    return segment.c0 + (segment.c1 * d >> bits) + (segment.c2 * (d * d >> bits) >> bits);
}

// value * 2**(exponent - VALUE_BITS), rounded once.
inline float pack(int64_t value, int exponent) {
    const double exact = double(value) * power_of_two(exponent - int(contract::VALUE_BITS));
    return exact < SMALLEST_NORMAL ? 0.0f : float(exact);
}

inline int64_t shifted(int64_t significand, int left) { return left >= 0 ? significand << left : significand >> -left; }

inline int clip(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

inline float exp(float x) {
    const Parts p = parts_of(x);
    // |x| in units of 2**-24.
    const int64_t magnitude = shifted(p.significand, clip(p.exponent - 126, -31, 8));
    const int64_t scaled = (p.sign ? -magnitude : magnitude) * contract::LOG2_E >> contract::VALUE_BITS;
    const int64_t n = scaled >> 24;
    if (n < -126) return 0.0f;
    if (n > 127) return float_of(INFINITE);
    return pack(polynomial(contract::EXP_ROWS, scaled & 0xFFFFFF), int(n));
}

inline float sigmoid(float x) {
    constexpr int64_t one = int64_t(1) << contract::VALUE_BITS;
    const Parts p = parts_of(x);
    // |x| in units of 2**-22.
    const int64_t magnitude = shifted(p.significand, clip(p.exponent - 128, -31, 3));
    const bool far = magnitude >> 22 >= contract::SIGMOID_LIMIT;
    const int64_t value = far ? one : polynomial(contract::SIGMOID_ROWS, magnitude);
    return pack(p.sign ? one - value : value, 0);
}

inline float reciprocal(float x) {
    const Parts p = parts_of(x);
    if (p.exponent == 0 || p.exponent == 255) return 0.0f;
    const float result = pack(polynomial(contract::RECIPROCAL_ROWS, (p.significand & FRACTION) << 1), 127 - p.exponent);
    return canonical(bits_of(p.sign ? -result : result));
}

inline float reciprocal_square_root(float x) {
    const Parts p = parts_of(x);
    if (p.exponent == 0 || p.exponent == 255) return 0.0f;
    const int64_t odd = (p.exponent - 127) & 1;
    const int64_t value = polynomial(contract::RECIPROCAL_SQUARE_ROOT_ROWS, odd << 24 | (p.significand & FRACTION) << 1);
    return pack(value, -((p.exponent - 127) >> 1));
}

// The nearest float16, ties to even, subnormals included, at most 65504 in magnitude.
inline float half(float x) {
    const float limited = x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x;
    const int exponent = int(bits_of(limited) >> 23 & 0xFF) - 127;
    const int last = (exponent < -14 ? -14 : exponent) - 10;
    return float(std::nearbyint(double(limited) * power_of_two(-last)) * power_of_two(last)) + 0.0f;
}

// Bits of the float16 that a number which `half` returned stands for.
inline uint16_t half_bits(float x) {
    const uint16_t sign = uint16_t(bits_of(x) >> 16 & 0x8000);
    const double magnitude = std::fabs(double(x));
    if (magnitude < 0x1p-14) return uint16_t(sign | uint16_t(magnitude * 0x1p24));
    const uint32_t bits = bits_of(x);
    return uint16_t(sign | ((bits >> 23 & 0xFF) - 112) << 10 | (bits >> 13 & 0x3FF));
}

inline float apply(contract::Function function, float x) {
    switch (function) {
        case contract::Function::EXP: return exp(x);
        case contract::Function::SIGMOID: return sigmoid(x);
        case contract::Function::RECIPROCAL: return reciprocal(x);
        case contract::Function::RECIPROCAL_SQUARE_ROOT: return reciprocal_square_root(x);
        case contract::Function::HALF: return half(x);
        default: return x;
    }
}

}  // namespace functions

// Sum in the order of spec.floats.total: 32 partial sums, then a tree over them.
inline float total(const float* x, int64_t count) {
    constexpr int lanes = 32;
    float sums[lanes] = {};
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes)
        for (int lane = 0; lane < lanes; ++lane) sums[lane] = add(sums[lane], x[i + lane]);
    for (int lane = 0; i + lane < count; ++lane) sums[lane] = add(sums[lane], x[i + lane]);
    for (int half = lanes / 2; half; half /= 2)
        for (int lane = 0; lane < half; ++lane) sums[lane] = add(sums[lane], sums[half + lane]);
    return sums[0];
}

}  // namespace tailrace
