// APPEND: keys and values of one token, as codes, to their places in the cache (tailrace.spec.kv_cache).
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

#include "activations.h"
#include "memory.h"
#include "product.h"

namespace tailrace {

class Append {
public:
    Append(const Command& command, const Activations& buffer, Memory& memory, int lanes)
        : c_(command), buffer_(buffer), memory_(memory), lanes_(lanes) {}

    // Write nothing unless everything can be written. Returns the bus beats that it takes.
    int64_t run() {
        const auto cache = contract::Cache(c_[contract::append::cache_]);
        for (int64_t head = 0; head < heads_; ++head) cache == contract::Cache::KEYS ? keys(head) : values(head);
        for (const auto& [address, data] : written_)
            if (!memory_.exists(address))
                throw Stop{ErrorCode::WRITE_ERROR, address - address % memory_.beat_bytes()};
        for (const auto& [address, data] : written_) memory_.byte(address) = data;
        const int64_t blocks = ceil_div(count_, BLOCK);
        return heads_ * (cache == contract::Cache::KEYS ? 3 * blocks : ceil_div(count_, lanes_) + 1);
    }

private:
    void put(uint64_t address, uint8_t data) { written_.push_back({memory_.wrapped(address), data}); }

    uint64_t start(const Field& first, const Field& stride, int64_t head) const {
        return uint64_t(c_[first] + head * c_[stride]) * contract::ADDRESS_UNIT;
    }

    int8_t code(int64_t head, int64_t element) const {
        const float x = buffer_.number(c_[contract::append::a_] + head * c_[contract::append::a_stride_] + element);
        const float limit = float(contract::CODE_MAX), rounded = std::nearbyintf(x);
        return int8_t(rounded > limit ? limit : rounded < -limit ? -limit : rounded);
    }

    void keys(int64_t head) {
        // A matrix whose rows are tokens.
        const FormatCode code_of_keys = find_format(contract::KEYS_FORMAT);
        const Format& format = *code_of_keys.format;
        const CountBeats beats_before = code_of_keys.stream_beats;
        const int64_t blocks = ceil_div(count_, BLOCK), token = c_[contract::append::token_];
        const int64_t group = token / lanes_, lane = token % lanes_, pitch = int64_t(lanes_) * LANE_BYTES;
        const uint64_t base = start(contract::append::destination_, contract::append::head_stride_, head) + lane * LANE_BYTES;
        for (int64_t b = 0; b < blocks; ++b) {
            const int64_t n = group * blocks + b, number = n % format.scale_blocks;
            const uint64_t scale = base + beats_before(n - number) * pitch + 2 * number;
            const uint64_t upper = base + (beats_before(n + 1) - format.nibble_beats) * pitch, lower = upper + pitch;
            const float rounded = functions::half(buffer_.number(c_[contract::append::b_] + head * blocks + b));
            const uint16_t bits = functions::half_bits(rounded);
            put(scale, uint8_t(bits));
            put(scale + 1, uint8_t(bits >> 8));
            uint8_t codes[BLOCK] = {};
            for (int64_t i = 0; i < BLOCK && b * BLOCK + i < count_; ++i) codes[i] = uint8_t(code(head, b * BLOCK + i));
            for (int i = 0; i < HALF_BLOCK; ++i) put(upper + i, uint8_t(codes[i] >> 4 | (codes[i + HALF_BLOCK] & 0xF0)));
            for (int i = 0; i < HALF_BLOCK; ++i) put(lower + i, uint8_t((codes[i] & 0x0F) | (codes[i + HALF_BLOCK] & 0x0F) << 4));
        }
    }

    void values(int64_t head) {
        namespace a = contract::append;
        const int64_t token = c_[a::token_], beat = token / LANE_BYTES, byte = token % LANE_BYTES;
        const uint64_t base = start(a::destination_, a::head_stride_, head);
        for (int64_t i = 0; i < count_; ++i) {
            const uint64_t group = uint64_t(i / lanes_) * uint64_t(c_[a::row_stride_]) * contract::ADDRESS_UNIT;
            put(base + group + (beat * lanes_ + i % lanes_) * LANE_BYTES + byte, uint8_t(code(head, i)));
        }
        const uint32_t scale = buffer_[c_[a::b_] + head];
        const uint64_t place = start(a::scales_, a::scale_stride_, head) + 4 * uint64_t(token);
        for (int i = 0; i < 4; ++i) put(place + i, uint8_t(scale >> 8 * i));
    }

    struct Byte {
        uint64_t address;
        uint8_t data;
    };

    const Command& c_;
    const Activations& buffer_;
    Memory& memory_;
    const int64_t lanes_;
    const int64_t count_ = c_[contract::append::count_], heads_ = c_[contract::append::segments_];
    std::vector<Byte> written_;
};

}  // namespace tailrace
