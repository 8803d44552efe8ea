// A lane's stream of a matrix, block after block: tailrace.spec.formats.
#pragma once
#include <cstdint>

#include "simd.h"

namespace tailrace {

using contract::Format;
using contract::ScaleKind;

constexpr int LANE_BYTES = contract::LANE_BYTES;

// What eight blocks of 32 elements (of 16 for cached values) are multiplied with. Scales and minima are as the stream has them.
struct Blocks {
    alignas(64) int16_t codes[TOGETHER][BLOCK];
    Eight scales, minima;
    Eight subscales[2];  // of either half; one for both in formats without subscales of their own
    Eight subminima;
};

// Scales, or minima, as integers times powers of two.
struct Scales {
    Eight significands, positions;

    // Of float16 numbers; infinities and NaNs by the same formula.
    static Scales of_float16(Eight all) {
        const Eight exponents = all >> 10 & 31;
        const Eight magnitudes = (all & 1023) + ((exponents > 0) & 1024), negative = -(all >> 15 & 1);
        return {(magnitudes ^ negative) - negative, exponents + (exponents > 0)};
    }
};

// The blocks of one lane. The format is known when this is compiled, so what it does not have costs nothing.
template <int F>
class Stream {
public:
    static constexpr Format format = contract::FORMATS[F];

    // `pitch` bytes from one beat of the lane to the next.
    Stream(const uint8_t* lane, int64_t pitch) : lane_(lane), pitch_(pitch) {}

    // Read blocks from number `first` on: eight, or as many as there are.
    void read(Blocks& blocks, int64_t first, int64_t count) const {
        if (count >= TOGETHER) {
            read_some<TOGETHER>(blocks, first, TOGETHER - 1);
        } else if (count > TOGETHER / 2) {
            read_some<TOGETHER>(blocks, first, int(count) - 1);
        } else {
            read_some<TOGETHER / 2>(blocks, first, int(count) - 1);
        }
    }

    static Scales scales(const Blocks& blocks) {
        if constexpr (format.scale_kind == ScaleKind::UNIT) {
            return {Eight{} + 1, Eight{} - int(contract::SCALE_EXPONENT)};
        } else if constexpr (format.scale_kind == ScaleKind::EXPONENT) {
            return {Eight{} + 1, blocks.scales};
        } else {
            return Scales::of_float16(blocks.scales);
        }
    }

    // Beats of so many blocks, with their side beats.
    static int64_t beats_before(int64_t block) {
        int64_t beats = block * format.nibble_beats;
        for (int period : {format.scale_blocks, format.subscale_blocks, format.high_blocks})
            if (period) beats += ceil_div(block, period);
        return beats;
    }

private:
    // The first COUNT of eight; behind number `last` it comes again.
    template <int COUNT>
    void read_some(Blocks& blocks, uint64_t first, int last) const {
        uint64_t number[TOGETHER];
        for (int i = 0; i < TOGETHER; ++i) number[i] = first + (i < last ? i : last);
#pragma GCC unroll 8
        for (int i = 0; i < COUNT; ++i) codes(blocks.codes[i], number[i]);
        const auto all = [&](auto&& of) {
            if constexpr (COUNT == TOGETHER)
                return Eight{of(number[0]), of(number[1]), of(number[2]), of(number[3]),
                             of(number[4]), of(number[5]), of(number[6]), of(number[7])};
            return Eight{of(number[0]), of(number[1]), of(number[2]), of(number[3])};
        };
        if constexpr (format.scale_kind == ScaleKind::EXPONENT) {
            blocks.scales = all([&](uint64_t n) { return scale_beat(n)[n % format.scale_blocks] & 31; });
        } else if constexpr (format.scale_kind == ScaleKind::SUPERBLOCK) {
            blocks.scales = all([&](uint64_t n) { return word(scale_beat(n), 0); });
            blocks.minima = all([&](uint64_t n) { return word(scale_beat(n), 1) ^ 0x8000; });
            blocks.subscales[0] = all([&](uint64_t n) { return subscale(scale_beat(n) + 4, n % format.scale_blocks); });
            blocks.subminima = all([&](uint64_t n) { return subminimum(scale_beat(n) + 4, n % format.scale_blocks); });
        } else if constexpr (format.scale_kind == ScaleKind::FLOAT16_SUPERBLOCK) {
            blocks.scales =
                all([&](uint64_t n) { return word(scale_beat(n), n % format.scale_blocks / contract::SUPERBLOCK); });
            for (int half = 0; half < 2; ++half)
                blocks.subscales[half] = all([&](uint64_t n) {
                    return int32_t(int8_t(side_beat<1>(n)[2 * (n % format.subscale_blocks) + half]));
                });
        } else if constexpr (format.scale_kind == ScaleKind::FLOAT16) {
            constexpr int each = 1 + format.has_minimum;
            blocks.scales = all([&](uint64_t n) { return word(scale_beat(n), each * (n % format.scale_blocks)); });
            if constexpr (format.has_minimum)
                blocks.minima = all([&](uint64_t n) { return word(scale_beat(n), each * (n % format.scale_blocks) + 1); });
        }
    }

    const uint8_t* beat(uint64_t number) const { return lane_ + pitch_ * int64_t(number); }

    // The side beat of a kind that serves block `n`: before it are all beats of the blocks before the ones that it serves, and
    // those of the kinds before it.
    template <int KIND>
    const uint8_t* side_beat(uint64_t n) const {
        constexpr unsigned period = PERIODS[KIND];
        const uint64_t first = n / period * period;
        uint64_t before = first * format.nibble_beats;
        for (int kind = 0; kind < 3; ++kind)
            if (PERIODS[kind]) before += kind < KIND ? first / PERIODS[kind] + 1 : (first + PERIODS[kind] - 1) / PERIODS[kind];
        return beat(before);
    }

    const uint8_t* scale_beat(uint64_t n) const { return side_beat<0>(n); }

    void codes(int16_t* codes, uint64_t n) const {
        uint64_t before = n * format.nibble_beats;
        for (const unsigned period : PERIODS)
            if (period) before += n / period + 1;
        const uint8_t* nibbles = beat(before);
        const Bytes first = load<Bytes>(nibbles);
        Words low, high;
        if constexpr (format.scale_kind == ScaleKind::UNIT) {
            low = widened(first & 0x0F);
            high = widened(SignedBytes(first & 0xF0));
        } else if constexpr (format.nibble_beats == 2) {
            const Bytes second = load<Bytes>(nibbles + pitch_);
            low = widened(SignedBytes(first << 4 | (second & 0x0F)));
            high = widened(SignedBytes((first & 0xF0) | second >> 4));
        } else if constexpr (format.codebook) {
            low = look_up(first & 0x0F);
            high = look_up(first >> 4);
        } else {
            low = widened(first & 0x0F);
            high = widened(first >> 4);
            if constexpr (format.high_bits > 0) {
                const uint8_t* bits = side_beat<2>(n) + 4 * format.high_bits * (n % format.high_blocks);
                low |= upper_bits(bits);
                high |= upper_bits(bits + 2 * format.high_bits);
            }
            low -= int16_t(format.code_offset);
            high -= int16_t(format.code_offset);
        }
        std::memcpy(codes, &low, sizeof low);
        std::memcpy(codes + HALF_BLOCK, &high, sizeof high);
    }

    // The upper bits of 16 codes, at their places.
    static Words upper_bits(const uint8_t* bits) {
        if constexpr (format.high_bits == 1) {
            // A byte for each bit: 0 where it is 0.
            const Longs spread = Longs{bits[0], bits[1]} * 0x0101010101010101 & 0x8040201008040201;
            return widened(Bytes(Bytes(spread) != 0) & 0x10);
        } else {
            // A byte for each pair of bits, which has others around it.
            const Ints spread = Ints{bits[0], bits[1], bits[2], bits[3]} * 0x01010101 & 0xC0300C03;
            const Words places = widened(Bytes(spread));
            return places * Words{64, 16, 4, 1, 64, 16, 4, 1, 64, 16, 4, 1, 64, 16, 4, 1} >> 2;
        }
    }

    static Words look_up(Bytes nibbles) {
#ifdef __SSSE3__
        const Bytes table = load<Bytes>(contract::CODEBOOK);
        return widened(SignedBytes(_mm_shuffle_epi8(__m128i(table), __m128i(nibbles))));
#else
        Words codes;
        for (int i = 0; i < HALF_BLOCK; ++i) codes[i] = contract::CODEBOOK[nibbles[i]];
        return codes;
#endif
    }

    static int32_t word(const uint8_t* beat, int64_t place) { return load<uint16_t>(beat + 2 * place); }

    // Of ggml's twelve bytes for 8 blocks, those of block `n`.
    static int32_t subscale(const uint8_t* packed, unsigned n) {
        return n < 4 ? packed[n] & 63 : (packed[n + 4] & 15) | packed[n - 4] >> 6 << 4;
    }

    static int32_t subminimum(const uint8_t* packed, unsigned n) {
        return n < 4 ? packed[n + 4] & 63 : packed[n + 4] >> 4 | packed[n] >> 6 << 4;
    }

    static constexpr unsigned PERIODS[] = {unsigned(format.scale_blocks), unsigned(format.subscale_blocks),
                                           unsigned(format.high_blocks)};

    const uint8_t* lane_;
    const int64_t pitch_;
};

}  // namespace tailrace
