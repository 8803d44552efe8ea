// A matrix times the vectors in the slots: exact, and rounded once.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

#include "exact.h"
#include "slots.h"
#include "stream.h"

namespace tailrace {

// The rows of a matrix that one thread multiplies.
struct Product {
    const uint8_t* source;       // the matrix's stream
    int64_t group_pitch;         // bytes from a group of rows to the next where each begins anew; 0: one stream
    int64_t rows, blocks;
    int lanes, exponent;
    const std::vector<Vector>* vectors;
    uint32_t* results;           // [vector][row]
};

inline int32_t dot(const int16_t* a, const int16_t* b, int count) {
    int32_t sum = 0;
    for (int i = 0; i < count; ++i) sum += int32_t(a[i]) * b[i];
    return sum;
}

template <int F>
void multiply_groups(const Product& job, int64_t first_group, int64_t last_group) {
    constexpr Format format = contract::FORMATS[F];
    const int64_t pitch = int64_t(job.lanes) * LANE_BYTES;
    const auto& vectors = *job.vectors;
    const int count = int(vectors.size());
    for (int64_t group = first_group; group < last_group; ++group) {
        for (int lane = 0; lane < job.lanes && group * job.lanes + lane < job.rows; ++lane) {
            const uint8_t* start = job.source + group * job.group_pitch + lane * LANE_BYTES;
            Stream<F> stream(start, pitch, job.group_pitch ? 0 : group * job.blocks);
            ExactSum sums[4];
            Block block;
            for (int64_t b = 0; b < job.blocks; ++b) {
                stream.next(block);
                for (int v = 0; v < count; ++v) {
                    const int16_t* mantissas = &vectors[v].mantissas[b * BLOCK];
                    const int exponent = vectors[v].exponents[b];
                    int64_t sum;
                    if constexpr (format.subscale_blocks > 0) {
                        sum = int64_t(dot(block.codes, mantissas, HALF_BLOCK)) * block.subscales[0] +
                              int64_t(dot(block.codes + HALF_BLOCK, mantissas + HALF_BLOCK, HALF_BLOCK)) * block.subscales[1];
                    } else {
                        sum = int64_t(dot(block.codes, mantissas, BLOCK)) * block.subscales[0];
                    }
                    sums[v].add(sum * block.scale.significand, block.scale.position + exponent);
                    if constexpr (format.has_minimum)
                        sums[v].add(int64_t(vectors[v].sums[b]) * block.subminimum * block.minimum.significand,
                                    block.minimum.position + exponent);
                }
            }
            for (int v = 0; v < count; ++v)
                job.results[v * job.rows + group * job.lanes + lane] = round_to_float32(
                    sums[v].value(), vectors[v].base + job.exponent + int(contract::SCALE_EXPONENT));
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
