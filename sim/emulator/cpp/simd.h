// Numbers side by side. GCC and Clang make the best of what the processor has; what they can't see is written for AVX2.
#pragma once
#include <cstdint>
#include <cstring>
#ifdef __SSSE3__
#include <immintrin.h>
#endif

#include "bits.h"

namespace tailrace {

constexpr int BLOCK = contract::BLOCK, HALF_BLOCK = BLOCK / 2, TOGETHER = 8;

// Half a block.
typedef uint8_t Bytes __attribute__((vector_size(16)));
typedef int8_t SignedBytes __attribute__((vector_size(16)));
typedef int16_t Words __attribute__((vector_size(32)));
typedef uint32_t Ints __attribute__((vector_size(16)));
typedef uint64_t Longs __attribute__((vector_size(16)));
// A number of each of eight blocks.
typedef int32_t Eight __attribute__((vector_size(32)));
typedef uint32_t UnsignedEight __attribute__((vector_size(32)));
typedef int64_t Four __attribute__((vector_size(32)));
typedef uint64_t UnsignedFour __attribute__((vector_size(32)));

// Eight wide numbers: those of blocks 0, 2, 4, 6, and those of blocks 1, 3, 5, 7.
struct WideEight {
    Four even, odd;
};

template <typename Vector>
inline Vector load(const void* source) {
    Vector loaded;
    std::memcpy(&loaded, source, sizeof loaded);
    return loaded;
}

// Some of eight blocks, as masks: those from number `first` on, below `last`.
struct Some {
    Eight all;
    Four even, odd;

    Some(int first, int last) : all(load<Eight>(ZEROS_ONES + TOGETHER - first) & ~load<Eight>(ZEROS_ONES + TOGETHER - last)) {
        even = Four(all) << 32 >> 32;
        odd = Four(all) >> 32;
    }

private:
    static constexpr int32_t ZEROS_ONES[2 * TOGETHER] = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1};
};

// GCC 12 would make halves of these of its own accord.
inline Words widened(Bytes bytes) {
#ifdef __AVX2__
    return Words(_mm256_cvtepu8_epi16(__m128i(bytes)));
#else
    return __builtin_convertvector(bytes, Words);
#endif
}

inline Words widened(SignedBytes bytes) {
#ifdef __AVX2__
    return Words(_mm256_cvtepi8_epi16(__m128i(bytes)));
#else
    return __builtin_convertvector(bytes, Words);
#endif
}

inline bool any(Eight mask) {
#ifdef __AVX2__
    return !_mm256_testz_si256(__m256i(mask), __m256i(mask));
#else
    int32_t seen = 0;
    for (int i = 0; i < TOGETHER; ++i) seen |= mask[i];
    return seen;
#endif
}

// Exact products.
inline WideEight widening_product(Eight a, Eight b) {
#ifdef __AVX2__
    const auto even = _mm256_mul_epi32(__m256i(a), __m256i(b));
    const auto odd = _mm256_mul_epi32(_mm256_srli_epi64(__m256i(a), 32), _mm256_srli_epi64(__m256i(b), 32));
    return {Four(even), Four(odd)};
#else
    WideEight product;
    for (int i = 0; i < TOGETHER / 2; ++i) {
        product.even[i] = int64_t(a[2 * i]) * b[2 * i];
        product.odd[i] = int64_t(a[2 * i + 1]) * b[2 * i + 1];
    }
    return product;
#endif
}

inline int32_t dot(const int16_t* a, const int16_t* b, int count) {
    int32_t sum = 0;
    for (int i = 0; i < count; ++i) sum += int32_t(a[i]) * b[i];
    return sum;
}

#ifdef __AVX2__
// Sums of the eight numbers in each of eight vectors.
inline Eight sums_within(const __m256i (&x)[TOGETHER]) {
    const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(x[0], x[1]), _mm256_hadd_epi32(x[2], x[3]));
    const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(x[4], x[5]), _mm256_hadd_epi32(x[6], x[7]));
    return Eight(_mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31)));
}

inline __m256i pair_products(const int16_t* a, const int16_t* b) {
    return _mm256_madd_epi16(__m256i(load<Words>(a)), __m256i(load<Words>(b)));
}
#endif

// Products of codes with mantissas, summed within each of eight blocks.
inline Eight block_sums(const int16_t* codes, const int16_t* mantissas) {
#ifdef __AVX2__
    __m256i pairs[TOGETHER];
    for (int i = 0; i < TOGETHER; ++i, codes += BLOCK, mantissas += BLOCK)
        pairs[i] = _mm256_add_epi32(pair_products(codes, mantissas), pair_products(codes + HALF_BLOCK, mantissas + HALF_BLOCK));
    return sums_within(pairs);
#else
    Eight sums;
    for (int i = 0; i < TOGETHER; ++i) sums[i] = dot(codes + i * BLOCK, mantissas + i * BLOCK, BLOCK);
    return sums;
#endif
}

// The same within the first or the second half of each block.
inline Eight half_sums(const int16_t* codes, const int16_t* mantissas, int half) {
    codes += half * HALF_BLOCK;
    mantissas += half * HALF_BLOCK;
#ifdef __AVX2__
    __m256i pairs[TOGETHER];
    for (int i = 0; i < TOGETHER; ++i) pairs[i] = pair_products(codes + i * BLOCK, mantissas + i * BLOCK);
    return sums_within(pairs);
#else
    Eight sums;
    for (int i = 0; i < TOGETHER; ++i) sums[i] = dot(codes + i * BLOCK, mantissas + i * BLOCK, HALF_BLOCK);
    return sums;
#endif
}

}  // namespace tailrace
