// A matrix times the vectors in the slots: exact, and rounded once.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "exact.h"
#include "slots.h"
#include "stream.h"

namespace tailrace {

// Right-hand sides of any build.
constexpr int MOST_VECTORS = 4;

// The rows of a matrix that one thread multiplies.
struct Product {
    const uint8_t* source;       // the matrix's stream
    int64_t group_pitch;         // bytes from a group of rows to the next where each begins anew; 0: one stream
    int64_t rows, blocks;
    int lanes, exponent;
    const std::vector<Vector>* vectors;
    uint32_t* results;           // [vector][row]
};

// Bits of a block's sum of codes times mantissas times subscale times significand, without the sign.
constexpr int term_bits(const Format& format) {
    constexpr int sum_of_mantissas = 15 + 5, significand = 11;
    const bool bytes = format.nibble_beats == 2 || format.scale_kind == ScaleKind::UNIT;
    const int code = bytes ? 7 : 4 + format.high_bits;
    const int subscale = format.subscale_blocks ? 7 : format.scale_kind == ScaleKind::SUPERBLOCK ? 6 : 0;
    return sum_of_mantissas + significand + code + subscale;
}

// A row's sums with one vector.
template <int F>
class RowSums {
public:
    void add(const Blocks& blocks, const Scales& scales, const Scales& minima, const Vector& vector, int64_t block) {
        const int16_t *codes = blocks.codes[0], *mantissas = &vector.mantissas[block * BLOCK];
        const Eight exponents = load<Eight>(&vector.exponents[block]), shifts = scales.positions + exponents;
        if constexpr (format.subscale_blocks > 0) {
            const Eight first = half_sums(codes, mantissas, 0), second = half_sums(codes, mantissas, 1);
            WideEight terms = widening_product(first, scales.significands * blocks.subscales[0]);
            const WideEight more = widening_product(second, scales.significands * blocks.subscales[1]);
            terms.even += more.even;
            terms.odd += more.odd;
            products_.add(terms, shifts, scales.significands, first | second);
        } else {
            const Eight sums = block_sums(codes, mantissas);
            Eight weights = scales.significands;
            if constexpr (format.scale_kind == ScaleKind::SUPERBLOCK) weights *= blocks.subscales[0];
            products_.add(widening_product(sums, weights), shifts, weights, sums);
        }
        if constexpr (format.has_minimum) {
            const Eight sums = load<Eight>(&vector.sums[block]);
            Eight weights = minima.significands;
            if constexpr (format.scale_kind == ScaleKind::SUPERBLOCK) weights *= blocks.subminima;
            minima_.add(widening_product(sums, weights), minima.positions + exponents, weights, sums);
        }
    }

    // Of the row; the next one begins.
    __int128 take() {
        if constexpr (format.has_minimum) return products_.take() + minima_.take();
        return products_.take();
    }

private:
    static constexpr Format format = contract::FORMATS[F];

    RowSum<term_bits(format)> products_;
    RowSum<37> minima_;
};

template <int F>
void multiply_groups(const Product& job, int64_t first_group, int64_t last_group) {
    constexpr Format format = contract::FORMATS[F];
    const int64_t pitch = int64_t(job.lanes) * LANE_BYTES;
    const auto& vectors = *job.vectors;
    const int count = int(vectors.size());
    Blocks blocks{};
    RowSums<F> sums[MOST_VECTORS];
    for (int64_t group = first_group; group < last_group; ++group) {
        for (int lane = 0; lane < job.lanes && group * job.lanes + lane < job.rows; ++lane) {
            const uint8_t* start = job.source + group * job.group_pitch + lane * LANE_BYTES;
            const Stream<F> stream(start, pitch);
            const int64_t first = job.group_pitch ? 0 : group * job.blocks;
            for (int64_t b = 0; b < job.blocks; b += TOGETHER) {
                stream.read(blocks, first + b, job.blocks - b);
                const Scales scales = Stream<F>::scales(blocks);
                Scales minima;
                if constexpr (format.has_minimum) minima = Scales::of_float16(blocks.minima);
                for (int v = 0; v < count; ++v) sums[v].add(blocks, scales, minima, vectors[v], b);
            }
            for (int v = 0; v < count; ++v)
                job.results[v * job.rows + group * job.lanes + lane] = round_to_float32(
                    sums[v].take(), vectors[v].base + job.exponent + int(contract::SCALE_EXPONENT));
        }
    }
}

using Multiply = void (*)(const Product&, int64_t, int64_t);
using CountBeats = int64_t (*)(int64_t);

struct FormatCode {
    const Format* format;
    Multiply multiply;
    CountBeats stream_beats;
};

template <int... F>
FormatCode find_format(uint32_t number, std::integer_sequence<int, F...>) {
    FormatCode found{};
    ((contract::FORMATS[F].number == number
          ? void(found = {&contract::FORMATS[F], &multiply_groups<F>, &Stream<F>::beats_before})
          : void()),
     ...);
    return found;
}

// The code for a format; nothing if there is no such format.
inline FormatCode find_format(uint32_t number) {
    return find_format(number, std::make_integer_sequence<int, contract::FORMAT_COUNT>());
}

}  // namespace tailrace
