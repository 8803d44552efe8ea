// A lane's stream of a matrix, block after block: tailrace.spec.formats.
#pragma once
#include <cstdint>
#include <utility>

#include "simd.h"

namespace tailrace {

using contract::Format;
using contract::ScaleKind;

constexpr int LANE_BYTES = contract::LANE_BYTES;

// What eight blocks of 32 elements (of 16 for cached values) are multiplied with. Scales and minima are as the stream has them;
// where the halves of a block have scales of their own, `minima` are those of the second ones.
struct Blocks {
    alignas(64) int16_t codes[TOGETHER][BLOCK];
    Eight scales, minima;
    Eight subscales[2], subminima[2];  // of either half; one for both in formats without subscales of their own
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

    // Read blocks from number `first` on, a multiple of eight: eight, or as many as there are.
    void read(Blocks& blocks, uint64_t first, int64_t count) const {
        if (count >= TOGETHER) {
            read_from(blocks, Batch{*this, first}, TOGETHER_NUMBERS);
        } else {
            read_from(blocks, Tail{*this, first, int(count) - 1}, TOGETHER_NUMBERS);
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
    static constexpr unsigned PERIODS[] = {unsigned(format.scale_blocks), unsigned(format.subscale_blocks),
                                           unsigned(format.high_blocks)};
    static constexpr std::make_integer_sequence<int, TOGETHER> TOGETHER_NUMBERS{};

    // Where in the stream a block's codes, and what it finds in side beats, lie.
    struct Tail {
        const Stream& stream;
        uint64_t first;
        int last;  // behind this one of the eight the same comes again

        template <int I>
        uint64_t number() const { return first + (I < last ? I : last); }
        template <int I>
        const uint8_t* codes() const {
            uint64_t before = number<I>() * format.nibble_beats;
            for (const unsigned period : PERIODS)
                if (period) before += number<I>() / period + 1;
            return stream.beat(before);
        }
        template <int KIND, int I>
        const uint8_t* side() const { return stream.template side_beat<KIND>(number<I>()); }
        template <int KIND, int I>
        unsigned place() const { return number<I>() % PERIODS[KIND]; }
    };

    // The same where all eight are there: then all but one distance is known beforehand.
    struct Batch {
        static constexpr bool LONG = format.scale_blocks > TOGETHER;
        static_assert(format.scale_blocks % TOGETHER == 0 || format.scale_blocks < TOGETHER);
        static_assert(format.subscale_blocks <= TOGETHER && format.high_blocks <= TOGETHER);

        Batch(const Stream& stream, uint64_t number)
            : stream(stream), first(number), start(stream.beat(beats_before(number) + (LONG && number % PERIODS[0] == 0))) {
            if constexpr (LONG) scale = stream.template side_beat<0>(number);
        }

        template <int I>
        const uint8_t* codes() const {
            int64_t beats = I * format.nibble_beats;
            for (int kind = LONG; kind < 3; ++kind)
                if (PERIODS[kind]) beats += I / PERIODS[kind] + 1;
            return start + stream.pitch_ * beats;
        }
        template <int KIND, int I>
        const uint8_t* side() const {
            if constexpr (LONG && KIND == 0) return scale;
            constexpr unsigned block = I / PERIODS[KIND] * PERIODS[KIND];
            int64_t beats = block * format.nibble_beats;
            for (int kind = LONG; kind < 3; ++kind)
                if (PERIODS[kind]) beats += (block + PERIODS[kind] - 1) / PERIODS[kind] + (kind < KIND && block % PERIODS[kind] == 0);
            return start + stream.pitch_ * beats;
        }
        template <int KIND, int I>
        unsigned place() const {
            if constexpr (LONG && KIND == 0) return first % PERIODS[0] + I;
            return I % PERIODS[KIND];
        }

        const Stream& stream;
        uint64_t first;
        const uint8_t *start, *scale;
    };

    template <typename Place, int... I>
    static void read_from(Blocks& blocks, const Place& at, std::integer_sequence<int, I...>) {
        (codes<I>(blocks.codes[I], at), ...);
        if constexpr (format.scale_kind == ScaleKind::EXPONENT) {
            blocks.scales = Eight{at.template side<0, I>()[at.template place<0, I>()]...} & 31;
        } else if constexpr (format.scale_kind == ScaleKind::FLOAT8) {
            const Eight octets{word(at.template side<0, I>(), at.template place<0, I>())...};
            blocks.scales = (octets & 255) << 7;
            blocks.minima = octets >> 8 << 7;
        } else if constexpr (format.scale_kind == ScaleKind::SUPERBLOCK) {
            blocks.scales = Eight{word(at.template side<0, I>(), 0)...};
            blocks.minima = Eight{word(at.template side<0, I>(), 1)...} ^ 0x8000;
            blocks.subscales[0] = Eight{subscale(at.template side<0, I>() + 4, at.template place<0, I>())...};
            blocks.subminima[0] = Eight{subminimum(at.template side<0, I>() + 4, at.template place<0, I>())...};
        } else if constexpr (format.scale_kind == ScaleKind::SIGNED_SUPERBLOCK) {
            constexpr unsigned superblock = contract::SUPERBLOCK;
            blocks.scales = Eight{word(at.template side<0, I>(), 4 * (at.template place<0, I>() / superblock))...};
            blocks.subscales[0] = Eight{signed_subscale(at.template side<0, I>() + 2 + 8 * (at.template place<0, I>() / superblock),
                                                        at.template place<0, I>() % superblock)...};
        } else if constexpr (format.scale_kind == ScaleKind::FLOAT16_SUPERBLOCK) {
            constexpr int each = 1 + format.has_minimum;
            blocks.scales = Eight{word(at.template side<0, I>(), each * (at.template place<0, I>() / contract::SUPERBLOCK))...};
            if constexpr (format.has_minimum)
                blocks.minima = Eight{word(at.template side<0, I>(), each * (at.template place<0, I>() / contract::SUPERBLOCK) + 1)...};
        } else if constexpr (format.scale_kind == ScaleKind::FLOAT16) {
            constexpr int each = 1 + format.has_minimum;
            blocks.scales = Eight{word(at.template side<0, I>(), each * at.template place<0, I>())...};
            if constexpr (format.has_minimum)
                blocks.minima = Eight{word(at.template side<0, I>(), each * at.template place<0, I>() + 1)...};
        }
        if constexpr (format.subscale_blocks > 0) {
            for (int half = 0; half < 2; ++half) {
                blocks.subscales[half] = Eight{int8_t(at.template side<1, I>()[2 * at.template place<1, I>() + half])...};
                if constexpr (format.has_minimum) {
                    blocks.subminima[half] = blocks.subscales[half] >> 4 & 15;
                    blocks.subscales[half] &= 15;
                }
            }
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

    template <int I, typename Place>
    static void codes(int16_t* codes, const Place& at) {
        const uint8_t* nibbles = at.template codes<I>();
        const Bytes first = load<Bytes>(nibbles);
        Words low, high;
        if constexpr (format.scale_kind == ScaleKind::UNIT) {
            low = widened(first & 0x0F);
            high = widened(SignedBytes(first & 0xF0));
        } else if constexpr (format.nibble_beats == 2) {
            const Bytes second = load<Bytes>(nibbles + at.stream.pitch_);
            low = widened(SignedBytes(first << 4 | (second & 0x0F)));
            high = widened(SignedBytes((first & 0xF0) | second >> 4));
        } else if constexpr (format.codebook) {
            low = look_up(first & 0x0F);
            high = look_up(first >> 4);
        } else {
            low = widened(first & 0x0F);
            high = widened(first >> 4);
            if constexpr (format.high_bits > 0) {
                const uint8_t* bits = at.template side<2, I>() + 4 * format.high_bits * at.template place<2, I>();
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
        const Bytes table = load<Bytes>(contract::CODEBOOKS[format.codebook]);
        return widened(SignedBytes(_mm_shuffle_epi8(__m128i(table), __m128i(nibbles))));
#else
        Words codes;
        for (int i = 0; i < HALF_BLOCK; ++i) codes[i] = contract::CODEBOOKS[format.codebook][nibbles[i]];
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

    // Of six bytes for 8 blocks, two of upper bits and four of lower ones.
    static int32_t signed_subscale(const uint8_t* packed, unsigned n) {
        const int32_t lower = packed[2 + n / 2] >> 4 * (n % 2) & 15, upper = packed[n / 4] >> 2 * (n % 4) & 3;
        return (upper << 4 | lower) - 32;
    }

    const uint8_t* lane_;
    const int64_t pitch_;
};

}  // namespace tailrace
