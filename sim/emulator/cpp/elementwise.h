// ELEMENTWISE and ROTATE: tailrace.spec.isa.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "activations.h"
#include "slots.h"

namespace tailrace {

using contract::Combine;
using contract::Function;
using contract::Multiplier;
using contract::Reduce;
using contract::Target;

class Elementwise {
public:
    Elementwise(const Command& command, Activations& buffer, Slots& slots) : c_(command), buffer_(buffer), slots_(slots) {}

    // Units of 64 bytes that are streamed.
    int64_t stream_units() const {
        return streams() ? ceil_div(count_, contract::STREAM_UNIT) * segments_ : 0;
    }

    void run(const uint8_t* stream) {
        if (reduce_ == Reduce::ARGMAX_REMOVE) {
            // Each segment sees what the ones before it removed.
            for (int64_t s = 0; s < segments_; ++s) part(stream, s, s + 1);
        } else {
            part(stream, 0, segments_);
        }
        if (target_ == Target::SLOT) quantise_all();
    }

private:
    bool streams() const { return a_streams_ || multiplier_ == Multiplier::STREAM || n_streams_; }

    // All operands of these segments are read before anything of them is written.
    void part(const uint8_t* stream, int64_t first, int64_t last) {
        v_.resize(segments_ * count_);
        reduced_.assign(last - first, Result{});
        for (int64_t s = first; s < last; ++s) compute(stream, s, reduced_[s - first]);
        if (target_ == Target::BUFFER)
            for (int64_t s = first; s < last; ++s)
                buffer_.write(c_[contract::elementwise::d_] + s * c_[contract::elementwise::d_stride_], &v_[s * count_], count_);
        for (int64_t s = first; s < last; ++s) write_result(s, reduced_[s - first]);
    }

    struct Result {
        uint32_t bits = 0, position = 0;
        bool found = true;     // not what was there before
        int64_t place = 0;     // of the largest in its segment
    };

    // A scalar of a segment, and whether it is the constant that leaves everything as it is.
    struct Scalar {
        float value;
        bool neutral;
    };

    Scalar scalar(const Field& field, int bit, int64_t segment, float neutral) const {
        const uint32_t bits = uint32_t(c_[field]);
        if (c_[contract::elementwise::load_] >> bit & 1) {
            const int64_t step = c_[contract::elementwise::advance_] >> bit & 1;
            return {buffer_.number((bits & 0xFFFF) + step * segment), false};
        }
        const float value = canonical(bits);
        return {value, value == neutral};
    }

    static void scale(std::vector<float>& x, const Scalar& factor) {
        if (!factor.neutral)
            for (float& value : x) value = multiply(value, factor.value);
    }

    static void shift(std::vector<float>& x, const Scalar& addend) {
        if (!addend.neutral)
            for (float& value : x) value = add(value, addend.value);
    }

    void compute(const uint8_t* stream, int64_t s, Result& result) {
        namespace e = contract::elementwise;
        const auto combine = Combine(c_[e::combine_]);
        a_.resize(count_);
        if (streams()) read_stream(stream, s);
        if (a_streams_)
            a_ = streamed_;
        else
            buffer_.numbers(c_[e::a_] + s * c_[e::a_stride_], count_, a_.data());
        if (combine == Combine::SUM || combine == Combine::PRODUCT || multiplier_ == Multiplier::B) {
            b_.resize(count_);
            buffer_.numbers(c_[e::b_] + s * c_[e::b_stride_], count_, b_.data());
        }
        u_ = a_;
        if (combine == Combine::PRODUCT) {
            for (int64_t i = 0; i < count_; ++i) u_[i] = multiply(u_[i], b_[i]);
        } else {
            scale(u_, scalar(e::p_, 0, s, 1.0f));
            if (combine == Combine::SCALE) {
                shift(u_, scalar(e::q_, 1, s, 0.0f));
            } else if (combine == Combine::LIMIT) {
                const float limit = scalar(e::q_, 1, s, 0.0f).value;
                for (float& value : u_) value = lesser(value, limit);
            } else {
                other_ = b_;
                scale(other_, scalar(e::q_, 1, s, 1.0f));
                for (int64_t i = 0; i < count_; ++i) u_[i] = add(u_[i], other_[i]);
            }
        }
        const auto function = Function(c_[e::function_]);
        if (function != Function::IDENTITY)
            for (float& value : u_) value = functions::apply(function, value);
        float* v = &v_[s * count_];
        std::copy(u_.begin(), u_.end(), v);
        if (multiplier_ == Multiplier::SCALAR) {
            const Scalar m = scalar(e::m_, 2, s, 1.0f);
            if (!m.neutral)
                for (int64_t i = 0; i < count_; ++i) v[i] = multiply(v[i], m.value);
        } else {
            const auto& factor = multiplier_ == Multiplier::STREAM ? streamed_ : multiplier_ == Multiplier::B ? b_ : a_;
            for (int64_t i = 0; i < count_; ++i) v[i] = multiply(v[i], factor[i]);
        }
        if (n_streams_) {
            for (int64_t i = 0; i < count_; ++i) v[i] = add(v[i], streamed_[i]);
        } else {
            const Scalar n = scalar(e::n_, 3, s, 0.0f);
            if (!n.neutral)
                for (int64_t i = 0; i < count_; ++i) v[i] = add(v[i], n.value);
        }
        reduce(c_[e::reduce_u_] ? u_.data() : v, s, result);
    }

    void read_stream(const uint8_t* stream, int64_t s) {
        streamed_.resize(count_);
        const uint8_t* part = stream + s * ceil_div(count_, contract::STREAM_UNIT) * contract::ADDRESS_UNIT;
        for (int64_t i = 0; i < count_; ++i) {
            uint32_t bits;
            std::memcpy(&bits, part + 4 * i, 4);
            streamed_[i] = canonical(bits);
        }
    }

    void reduce(const float* x, int64_t s, Result& result) {
        namespace e = contract::elementwise;
        const bool resume = c_[e::resume_];
        const int64_t place = c_[e::r_] + s * (is_argmax() ? 2 : 1);
        float value = 0;
        switch (reduce_) {
            case Reduce::NONE: return;
            case Reduce::SUM: value = total(x, count_); break;
            case Reduce::SUM_OF_SQUARES:
                other_.assign(x, x + count_);
                for (float& one : other_) one = multiply(one, one);
                value = total(other_.data(), count_);
                break;
            case Reduce::MAXIMUM:
            case Reduce::ABSOLUTE_MAXIMUM:
                value = reduce_ == Reduce::MAXIMUM ? x[0] : std::fabs(x[0]);
                for (int64_t i = 1; i < count_; ++i) {
                    const float one = reduce_ == Reduce::MAXIMUM ? x[i] : std::fabs(x[i]);
                    value = one > value ? one : value;
                }
                break;
            case Reduce::ARGMAX:
            case Reduce::ARGMAX_REMOVE:
                for (int64_t i = 1; i < count_; ++i)
                    if (x[i] > x[result.place]) result.place = i;
                result.bits = bits_of(x[result.place]);
                result.position = uint32_t(result.place + c_[e::index_]);
                if (resume && buffer_.number(place) >= x[result.place]) {
                    result.found = false;
                    result.bits = buffer_[place];
                    result.position = buffer_[place + 1];
                }
                return;
        }
        if (resume) {
            const float old = buffer_.number(place);
            const bool sums = reduce_ == Reduce::SUM || reduce_ == Reduce::SUM_OF_SQUARES;
            value = sums ? add(old, value) : old > value ? old : value;
        }
        result.bits = bits_of(c_[e::negate_] ? negative(value) : value);
    }

    bool is_argmax() const { return reduce_ == Reduce::ARGMAX || reduce_ == Reduce::ARGMAX_REMOVE; }

    void write_result(int64_t s, const Result& result) {
        namespace e = contract::elementwise;
        if (reduce_ == Reduce::NONE) return;
        if (!is_argmax()) {
            buffer_[c_[e::r_] + s] = result.bits;
            return;
        }
        buffer_[c_[e::r_] + 2 * s] = result.bits;
        buffer_[c_[e::r_] + 2 * s + 1] = result.position;
        if (reduce_ == Reduce::ARGMAX_REMOVE && result.found && !a_streams_)
            buffer_[c_[e::a_] + s * c_[e::a_stride_] + result.place] = SIGN | INFINITE;
    }

    void quantise_all() {
        namespace e = contract::elementwise;
        const bool duplicate = c_[e::duplicate_], next = c_[e::next_slot_], join = c_[e::join_];
        const int elements = duplicate ? BLOCK / 2 : BLOCK, set = int(c_[e::set_]);
        int64_t block = c_[e::first_block_];
        int largest = 0;
        for (int64_t s = 0; s < segments_; ++s) {
            const int slot = int((c_[e::slot_] + (next ? s : 0)) % slots_.count());
            if (next) {
                block = c_[e::first_block_];
                largest = 0;
            }
            for (int64_t i = 0; i < count_; i += elements) {
                float x[BLOCK] = {};
                int16_t mantissas[BLOCK];
                const int64_t here = std::min<int64_t>(elements, count_ - i);
                std::copy(&v_[s * count_ + i], &v_[s * count_ + i] + here, x);
                if (duplicate) std::copy(x, x + elements, x + elements);
                const int biased = quantise(x, mantissas);
                largest = std::max(largest, biased);
                slots_.write(slot, block++, biased - int(contract::BLOCK_BIAS), mantissas);
            }
            if (next || s == segments_ - 1) slots_.set_base(slot, set, largest - int(contract::BASE_BIAS), join);
        }
    }

    const Command& c_;
    Activations& buffer_;
    Slots& slots_;
    const int64_t count_ = c_[contract::elementwise::count_], segments_ = c_[contract::elementwise::segments_];
    const bool a_streams_ = c_[contract::elementwise::a_stream_], n_streams_ = c_[contract::elementwise::n_stream_];
    const Multiplier multiplier_ = Multiplier(c_[contract::elementwise::multiplier_]);
    const Reduce reduce_ = Reduce(c_[contract::elementwise::reduce_]);
    const Target target_ = Target(c_[contract::elementwise::target_]);
    std::vector<float> a_, b_, u_, v_, streamed_, other_;
    std::vector<Result> reduced_;
};

inline void rotate(const Command& c, Activations& buffer) {
    namespace r = contract::rotate;
    const int64_t count = c[r::count_], segments = c[r::segments_];
    std::vector<float> table(2 * count), x(2 * count * segments);
    buffer.numbers(c[r::table_], 2 * count, table.data());
    for (int64_t s = 0; s < segments; ++s) buffer.numbers(c[r::a_] + s * c[r::a_stride_], 2 * count, &x[2 * count * s]);
    for (int64_t s = 0; s < segments; ++s) {
        float *first = &x[2 * count * s], *second = first + count;
        const float *cosines = table.data(), *sines = cosines + count;
        for (int64_t i = 0; i < count; ++i) {
            const float left = first[i], right = second[i];
            first[i] = add(multiply(left, cosines[i]), negative(multiply(right, sines[i])));
            second[i] = add(multiply(right, cosines[i]), multiply(left, sines[i]));
        }
    }
    for (int64_t s = 0; s < segments; ++s)
        buffer.write(c[r::d_] + s * c[r::d_stride_], &x[2 * count * s], 2 * count);
}

}  // namespace tailrace
