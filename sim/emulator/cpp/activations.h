// The activation buffer: bits of float32 entries, at places that wrap around.
#pragma once
#include <cstdint>
#include <vector>

#include "float32.h"

namespace tailrace {

class Activations {
public:
    explicit Activations(int64_t entries) : bits_(entries) {}

    uint32_t& operator[](int64_t place) { return bits_[place & (int64_t(bits_.size()) - 1)]; }
    const uint32_t& operator[](int64_t place) const { return bits_[place & (int64_t(bits_.size()) - 1)]; }
    float number(int64_t place) const { return canonical((*this)[place]); }

    void numbers(int64_t first, int64_t count, float* x) const {
        const int64_t start = first & (int64_t(bits_.size()) - 1);
        if (start + count <= int64_t(bits_.size())) {
            for (int64_t i = 0; i < count; ++i) x[i] = canonical(bits_[start + i]);
        } else {
            for (int64_t i = 0; i < count; ++i) x[i] = number(first + i);
        }
    }

    void write(int64_t first, const float* x, int64_t count) {
        for (int64_t i = 0; i < count; ++i) (*this)[first + i] = bits_of(x[i]);
    }

    const uint32_t* data() const { return bits_.data(); }
    int64_t size() const { return int64_t(bits_.size()); }

private:
    std::vector<uint32_t> bits_;
};

}  // namespace tailrace
