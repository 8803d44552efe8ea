// A matrix times the vectors in the slots: exact, and rounded once.
#pragma once
#include <algorithm>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#include "exact.h"
#include "slots.h"
#include "stream.h"

namespace tailrace {

// Right-hand sides of any build.
constexpr int MOST_VECTORS = 16;

// The rows of a matrix that one thread multiplies.
struct Product {
    const uint8_t* source;       // the matrix's stream
    int64_t group_pitch;         // bytes from a group of rows to the next where each begins anew; 0: one stream
    int64_t rows, blocks;
    int lanes, exponent;
    const std::vector<Vector>* vectors;
    uint32_t* results;           // [vector][row]
};

// Whether each block has a subscale, for all of its elements.
constexpr bool has_shares(const Format& format) {
    return format.scale_kind == ScaleKind::SUPERBLOCK || format.scale_kind == ScaleKind::SIGNED_SUPERBLOCK;
}

// Whether the halves of a block have scales of their own.
constexpr bool has_half_scales(const Format& format) { return format.scale_kind == ScaleKind::FLOAT8; }

// Whether a block has a second term, with a scale of its own: of its minimum, or of its second half.
constexpr bool has_second(const Format& format) { return format.has_minimum || has_half_scales(format); }

// Bits of a block's sum of codes times mantissas times subscale times significand, without the sign.
constexpr int term_bits(const Format& format) {
    constexpr int sum_of_mantissas = 15 + 5, significand = 11;
    const bool bytes = format.nibble_beats == 2 || format.scale_kind == ScaleKind::UNIT;
    int code = bytes ? 7 : 4 + format.high_bits;
    for (const int value : contract::CODEBOOKS[format.codebook])
        while ((value < 0 ? -value : value) >> code) ++code;
    const bool is_signed = format.scale_kind == ScaleKind::SIGNED_SUPERBLOCK;
    const int subscale = format.subscale_blocks ? 7 : is_signed ? 5 : has_shares(format) ? 6 : 0;
    return sum_of_mantissas + significand + code + subscale;
}

// What eight blocks have in common for all vectors.
template <int F>
struct Weights {
    explicit Weights(const Blocks& blocks) : blocks(blocks), scales(Stream<F>::scales(blocks)) {
        if constexpr (has_second(contract::FORMATS[F])) minima = Scales::of_float16(blocks.minima);
    }

    const Blocks& blocks;
    Scales scales, minima;
};

// The sums of rows with one vector, one row after the other.
template <int F>
class RowSums {
public:
    // Eight blocks, the first of which meets block `place` of the vector.
    void meet(const Weights<F>& weights, const Vector& vector, int64_t place) {
        const Blocks& blocks = weights.blocks;
        const Scales& scales = weights.scales;
        const int16_t *codes = blocks.codes[0], *mantissas = &vector.mantissas[place * BLOCK];
        const Eight exponents = load<Eight>(&vector.exponents[place]), shifts = scales.positions + exponents;
        if constexpr (format.subscale_blocks > 0) {
            const Eight first = half_sums(codes, mantissas, 0), second = half_sums(codes, mantissas, 1);
            products_ = Terms(first, scales.significands * blocks.subscales[0], shifts);
            const WideEight more = widening_product(second, scales.significands * blocks.subscales[1]);
            products_.integers.even += more.even;
            products_.integers.odd += more.odd;
            products_.unused = (scales.significands == 0) | ((first | second) == 0);
        } else if constexpr (has_half_scales(format)) {
            products_ = Terms(half_sums(codes, mantissas, 0), scales.significands, shifts);
            second_ = Terms(half_sums(codes, mantissas, 1), weights.minima.significands, weights.minima.positions + exponents);
        } else {
            Eight factors = scales.significands;
            if constexpr (has_shares(format)) factors *= blocks.subscales[0];
            products_ = Terms(block_sums(codes, mantissas), factors, shifts);
        }
        if constexpr (format.has_minimum) {
            const Eight first = load<Eight>(&vector.sums[0][place]), last = load<Eight>(&vector.sums[1][place]);
            Eight factors = weights.minima.significands, sums = first + last;
            if constexpr (format.scale_kind == ScaleKind::SUPERBLOCK) factors *= blocks.subminima[0];
            if constexpr (format.subscale_blocks > 0) sums = first * blocks.subminima[0] + last * blocks.subminima[1];
            second_ = Terms(sums, factors, weights.minima.positions + exponents);
        }
    }

    // These eight are of the row.
    void add() {
        sum_.add(products_);
        if constexpr (has_second(format)) second_sum_.add(second_);
    }

    // Some of them are.
    void add(const Some& some) {
        sum_.add(products_ & some);
        if constexpr (has_second(format)) second_sum_.add(second_ & some);
    }

    // Of the row; the next one begins.
    Scaled take() {
        if constexpr (has_second(format)) return sum_.take() + second_sum_.take();
        return sum_.take();
    }

private:
    static constexpr Format format = contract::FORMATS[F];

    Terms products_, second_;
    RowSum<term_bits(format)> sum_;
    RowSum<37> second_sum_;
};

// Room for the sums with all vectors; what there are no vectors for is left as it is.
template <int F>
union Sums {
    Sums() {}

    RowSums<F>* begin(int count) {
        for (int v = 0; v < count; ++v) new (&all[v]) RowSums<F>();
        return all;
    }

    RowSums<F> all[MOST_VECTORS];
};

// Rows of a lane that follow each other in its stream, from its block `first` on. Blocks are taken eight at a time, of two rows
// (or more) where one ends.
template <int F>
void multiply_rows(const Product& job, const Stream<F>& stream, int64_t first, int64_t row, int64_t rows) {
    const auto& vectors = *job.vectors;
    const int count = int(vectors.size());
    const int64_t end = first + rows * job.blocks;
    Blocks blocks{};
    Sums<F> room;
    RowSums<F>* const sums = room.begin(count);
    int64_t left = job.blocks, skipped = first % TOGETHER, place = (job.blocks - skipped % job.blocks) % job.blocks;
    for (int64_t batch = first - skipped; batch < end; batch += TOGETHER) {
        const int64_t present = std::min<int64_t>(TOGETHER, end - batch);
        stream.read(blocks, batch, present);
        const Weights<F> weights(blocks);
        for (int v = 0; v < count; ++v) sums[v].meet(weights, vectors[v], place);
        for (int64_t from = skipped; from < present;) {
            const int64_t to = std::min(present, from + left);
            if (to - from == TOGETHER) {
                for (int v = 0; v < count; ++v) sums[v].add();
            } else {
                const Some some{int(from), int(to)};
                for (int v = 0; v < count; ++v) sums[v].add(some);
            }
            left -= to - from;
            from = to;
            if (left) continue;
            for (int v = 0; v < count; ++v) {
                const Scaled sum = sums[v].take();
                job.results[v * job.rows + row] = round_to_float32(
                    sum.integer, sum.exponent + vectors[v].base + job.exponent + int(contract::SCALE_EXPONENT));
            }
            row += job.lanes;
            left = job.blocks;
        }
        skipped = 0;
        for (place += TOGETHER; place >= job.blocks;) place -= job.blocks;
    }
}

template <int F>
void multiply_groups(const Product& job, int64_t first_group, int64_t last_group) {
    const int64_t pitch = int64_t(job.lanes) * LANE_BYTES;
    for (int lane = 0; lane < job.lanes; ++lane) {
        const int64_t last = std::min(last_group, ceil_div(job.rows - lane, job.lanes)), row = first_group * job.lanes + lane;
        const uint8_t* start = job.source + lane * LANE_BYTES;
        if (last <= first_group) return;
        if (!job.group_pitch) {
            multiply_rows<F>(job, Stream<F>(start, pitch), first_group * job.blocks, row, last - first_group);
            continue;
        }
        for (int64_t group = first_group; group < last; ++group)
            multiply_rows<F>(job, Stream<F>(start + group * job.group_pitch, pitch), 0, group * job.lanes + lane, 1);
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
