// A lane's stream of a matrix, block after block: tailrace.spec.formats.
#pragma once
#include <cstdint>
#include <cstring>
#ifdef __SSSE3__
#include <immintrin.h>
#endif

#include "bits.h"

namespace tailrace {

using contract::Format;
using contract::ScaleKind;

constexpr int LANE_BYTES = contract::LANE_BYTES, HALF_BLOCK = contract::BLOCK / 2;

// Half a block at once: GCC and Clang make the best of what the processor has.
typedef uint8_t Bytes __attribute__((vector_size(16)));
typedef int8_t SignedBytes __attribute__((vector_size(16)));
typedef int16_t Words __attribute__((vector_size(32)));
typedef uint32_t Ints __attribute__((vector_size(16)));
typedef uint64_t Longs __attribute__((vector_size(16)));

// A float16 as an integer times a power of two; infinities and NaNs by the same formula.
struct Scale {
    int32_t significand;
    int position;

    static Scale of(uint32_t bits) {
        const int exponent = bits >> 10 & 31, magnitude = int(bits & 1023) + (exponent ? 1024 : 0);
        return {bits & 0x8000 ? -magnitude : magnitude, exponent ? exponent - 1 : 0};
    }
};

// What a block of 32 elements (of 16 for cached values) is multiplied with.
struct Block {
    alignas(64) int16_t codes[contract::BLOCK];
    Scale scale, minimum;
    int32_t subscales[2];  // of either half; one for both in formats without subscales of their own
    int32_t subminimum;
};

// Reads the blocks of one lane in order. The format is known when this is compiled, so what it does not have costs nothing.
template <int F>
class Stream {
public:
    static constexpr Format format = contract::FORMATS[F];

    // Begin with block `block` of the lane's stream; `pitch` bytes from one beat of the lane to the next.
    Stream(const uint8_t* lane, int64_t pitch, int64_t block) : lane_(lane), pitch_(pitch), block_(block) {
        beat_ = beats_before(block);
        if constexpr (format.scale_blocks > 0) scale_ = side_beat(block - block % format.scale_blocks, 0);
        if constexpr (format.subscale_blocks > 0) subscale_ = side_beat(block - block % format.subscale_blocks, 1);
        if constexpr (format.high_blocks > 0) high_ = side_beat(block - block % format.high_blocks, 2);
    }

    void next(Block& block) {
        if (due(format.scale_blocks)) scale_ = take();
        if (due(format.subscale_blocks)) subscale_ = take();
        if (due(format.high_blocks)) high_ = take();
        codes(block);
        scales(block);
        ++block_;
    }

    static int64_t beats_before(int64_t block) {
        int64_t beats = block * format.nibble_beats;
        for (int period : {format.scale_blocks, format.subscale_blocks, format.high_blocks})
            if (period) beats += ceil_div(block, period);
        return beats;
    }

private:
    bool due(int period) const { return period && block_ % period == 0; }
    const uint8_t* take() { return lane_ + pitch_ * beat_++; }

    // The side beat of kind `kind` that comes before block `block`, where one is due.
    const uint8_t* side_beat(int64_t block, int kind) const {
        const int periods[] = {format.scale_blocks, format.subscale_blocks, format.high_blocks};
        int64_t beat = beats_before(block);
        for (int before = 0; before < kind; ++before) beat += periods[before] && block % periods[before] == 0;
        return lane_ + pitch_ * beat;
    }

    void codes(Block& block) {
        const Bytes first = load(take());
        Words low, high;
        if constexpr (format.scale_kind == ScaleKind::UNIT) {
            low = __builtin_convertvector(first & 0x0F, Words);
            high = __builtin_convertvector(SignedBytes(first & 0xF0), Words);
        } else if constexpr (format.nibble_beats == 2) {
            const Bytes second = load(take());
            low = __builtin_convertvector(SignedBytes(first << 4 | (second & 0x0F)), Words);
            high = __builtin_convertvector(SignedBytes((first & 0xF0) | second >> 4), Words);
        } else if constexpr (format.codebook) {
            low = look_up(first & 0x0F);
            high = look_up(first >> 4);
        } else {
            low = __builtin_convertvector(first & 0x0F, Words);
            high = __builtin_convertvector(first >> 4, Words);
            if constexpr (format.high_bits > 0) {
                const uint8_t* bits = high_ + 4 * format.high_bits * (block_ % format.high_blocks);
                low |= upper_bits(bits);
                high |= upper_bits(bits + 2 * format.high_bits);
            }
            low -= int16_t(format.code_offset);
            high -= int16_t(format.code_offset);
        }
        std::memcpy(block.codes, &low, sizeof low);
        std::memcpy(block.codes + HALF_BLOCK, &high, sizeof high);
    }

    // The upper bits of 16 codes, at their places.
    static Words upper_bits(const uint8_t* bits) {
        if constexpr (format.high_bits == 1) {
            // A byte for each bit: 0 where it is 0.
            const Longs spread = Longs{bits[0], bits[1]} * 0x0101010101010101 & 0x8040201008040201;
            return __builtin_convertvector(Bytes(Bytes(spread) != 0) & 0x10, Words);
        } else {
            // A byte for each pair of bits, which has others around it.
            const Ints spread = Ints{bits[0], bits[1], bits[2], bits[3]} * 0x01010101 & 0xC0300C03;
            const Words places = __builtin_convertvector(Bytes(spread), Words);
            return places * Words{64, 16, 4, 1, 64, 16, 4, 1, 64, 16, 4, 1, 64, 16, 4, 1} >> 2;
        }
    }

    static Words look_up(Bytes nibbles) {
#ifdef __SSSE3__
        const Bytes table = load(reinterpret_cast<const uint8_t*>(contract::CODEBOOK));
        return __builtin_convertvector(SignedBytes(_mm_shuffle_epi8(__m128i(table), __m128i(nibbles))), Words);
#else
        Words codes;
        for (int i = 0; i < HALF_BLOCK; ++i) codes[i] = contract::CODEBOOK[nibbles[i]];
        return codes;
#endif
    }

    static Bytes load(const uint8_t* bytes) {
        Bytes loaded;
        std::memcpy(&loaded, bytes, sizeof loaded);
        return loaded;
    }

    static uint32_t word(const uint8_t* beat, int64_t place) { return beat[2 * place] | uint32_t(beat[2 * place + 1]) << 8; }

    void scales(Block& block) {
        block.subscales[0] = block.subscales[1] = 1;
        block.subminimum = 1;
        if constexpr (format.scale_kind == ScaleKind::UNIT) {
            block.scale = {1, -int(contract::SCALE_EXPONENT)};
        } else if constexpr (format.scale_kind == ScaleKind::EXPONENT) {
            block.scale = {1, scale_[block_ % format.scale_blocks] & 31};
        } else if constexpr (format.scale_kind == ScaleKind::SUPERBLOCK) {
            block.scale = Scale::of(word(scale_, 0));
            block.minimum = Scale::of(word(scale_, 1) ^ 0x8000);
            six_bits(scale_ + 4, block);
        } else if constexpr (format.scale_kind == ScaleKind::FLOAT16_SUPERBLOCK) {
            block.scale = Scale::of(word(scale_, block_ % format.scale_blocks / contract::SUPERBLOCK));
            const uint8_t* pair = subscale_ + 2 * (block_ % format.subscale_blocks);
            block.subscales[0] = int8_t(pair[0]);
            block.subscales[1] = int8_t(pair[1]);
        } else if constexpr (format.has_minimum) {
            block.scale = Scale::of(word(scale_, 2 * (block_ % format.scale_blocks)));
            block.minimum = Scale::of(word(scale_, 2 * (block_ % format.scale_blocks) + 1));
        } else {
            block.scale = Scale::of(word(scale_, block_ % format.scale_blocks));
        }
    }

    // ggml's twelve bytes of subscales and subminima for 8 blocks.
    void six_bits(const uint8_t* packed, Block& block) const {
        const int n = int(block_ % format.scale_blocks), k = n % 4;
        const uint8_t first = packed[k], second = packed[k + 4], third = packed[k + 8];
        block.subscales[0] = n < 4 ? first & 63 : (third & 15) | first >> 6 << 4;
        block.subminimum = n < 4 ? second & 63 : third >> 4 | second >> 6 << 4;
    }

    const uint8_t* lane_;
    int64_t pitch_, block_, beat_;
    const uint8_t *scale_ = nullptr, *subscale_ = nullptr, *high_ = nullptr;
};

}  // namespace tailrace
