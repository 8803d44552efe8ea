// Fetches, resolves, checks and carries out commands: tailrace.spec.isa, tailrace.spec.commands.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <vector>

#include "activations.h"
#include "append.h"
#include "elementwise.h"
#include "memory.h"
#include "product.h"
#include "slots.h"
#include "threads.h"

namespace tailrace {

using contract::Bound;
using contract::Counter;
using contract::Limit;
using contract::Opcode;

struct Outcome {
    uint64_t code, command, address;
};

struct Run {
    uint64_t queue, length, base, limit;
    uint32_t arguments[contract::ARGUMENTS];
};

class Machine {
public:
    Machine(const contract::Build& build, uint8_t* bytes, uint64_t size, int threads)
        : build_(build),
          memory_(bytes, size, build_),
          buffer_(int64_t(build.buffer_entries)),
          slots_(int(build.right_hand_sides), int(build.vector_blocks)),
          threads_(threads) {}

    Outcome run(const Run& run) {
        counters_ = {};
        if (const ErrorCode code = check_queue(run); code != ErrorCode::NONE) return {uint64_t(code), 0, 0};
        memory_.place(run.base, run.limit);
        registers_ = {};
        for (int n = 0; n < contract::ARGUMENTS; ++n) registers_[contract::FIRST_ARGUMENT + n] = run.arguments[n];
        for (uint64_t index = 0; index < run.length;) {
            if (stopping_.load(std::memory_order_relaxed)) return {uint64_t(ErrorCode::WATCHDOG), index, 0};
            try {
                Command command;
                const uint8_t* bytes = read(Counter::COMMAND_BEATS, run.queue + index * sizeof command, sizeof command);
                std::memcpy(&command, bytes, sizeof command);
                index = step(command, index);
            } catch (const Stop& stop) {
                return {uint64_t(stop.code), index, stop.address};
            }
            ++count(Counter::COMMANDS);
            progress_.fetch_add(1, std::memory_order_relaxed);
        }
        return {uint64_t(ErrorCode::NONE), 0, 0};
    }

    // Have memory show a file; returns an error number of the system, or 0.
    int map(uint64_t address, const char* path, uint64_t size) { return memory_.map(address, path, size); }

    // End the run at the next command, and each one that begins later; from any thread, also before the run has begun.
    void stop() { stopping_.store(true, std::memory_order_relaxed); }

    // Commands carried out since the machine was made; from any thread.
    uint64_t progress() const { return progress_.load(std::memory_order_relaxed); }
    const Activations& activations() const { return buffer_; }
    const uint64_t* counters() const { return counters_.data(); }

private:
    uint64_t& count(Counter counter) { return counters_[size_t(counter)]; }

    ErrorCode check_queue(const Run& run) const {
        const int width = int(build_.address_width);
        const unsigned __int128 end = (unsigned __int128)1 << width;
        constexpr uint64_t page = contract::PAGE_BYTES;
        const uint64_t row = page * build_.channels;
        unsigned __int128 pages = run.limit / row;
        if (!pages && build_.channels > 1) pages = end / row;
        if (run.length > contract::MAX_COMMANDS || run.queue >= end || pages * row > end || run.base >= end ||
            (run.base / page + pages) * page > end)
            return ErrorCode::OUT_OF_RANGE;
        const bool misaligned = run.queue % contract::ADDRESS_UNIT || run.base % page || run.limit % row;
        return misaligned ? ErrorCode::MISALIGNED : ErrorCode::NONE;
    }

    const uint8_t* read(Counter counter, uint64_t address, uint64_t size) {
        const uint8_t* bytes = memory_.read(address, size);
        const uint64_t beat = memory_.beat_bytes();
        count(counter) += (address % beat + size + beat - 1) / beat;
        return bytes;
    }

    void resolve(Command& command) const {
        if (!contract::is_modifiable(command.opcode())) return;
        uint32_t& modifiers = command.words[contract::COMMAND_WORDS - 1];
        constexpr int bits = 9, word_bits = 4;
        for (int i = 0; i < contract::MODIFIERS; ++i) {
            const uint32_t modifier = modifiers >> bits * i, word = modifier & ((1 << word_bits) - 1);
            if (word >= 1 && word < contract::COMMAND_WORDS - 1) command.words[word] += registers_[modifier >> word_bits & 31];
        }
        modifiers = modifiers >> bits * contract::MODIFIERS << bits * contract::MODIFIERS;
    }

    template <size_t N>
    ErrorCode check(const Command& command, const Bound (&bounds)[N], const uint32_t (&reserved)[contract::COMMAND_WORDS]) const {
        bool outside = false;
        for (int word = 0; word < contract::COMMAND_WORDS; ++word)
            if (command.words[word] & reserved[word]) return ErrorCode::BAD_FIELD;
        for (const Bound& bound : bounds) {
            const int64_t value = command[bound.field];
            const uint64_t maximum = bound.limit == Limit::NONE ? bound.maximum : build_.limit(bound.limit);
            const uint64_t multiple = bound.multiples == Limit::NONE ? bound.multiple : build_.limit(bound.multiples);
            // Signed fields have no bounds.
            const bool wrong = !bound.field.is_signed && (uint64_t(value) < bound.minimum || uint64_t(value) > maximum ||
                                                          uint64_t(value) % multiple);
            if (!wrong) continue;
            if (bound.error == ErrorCode::BAD_FIELD) return ErrorCode::BAD_FIELD;
            outside = true;
        }
        return outside ? ErrorCode::OUT_OF_RANGE : ErrorCode::NONE;
    }

    ErrorCode check(const Command& command) const {
        switch (Opcode(command.opcode())) {
            case Opcode::FENCE: return check(command, contract::fence::BOUNDS, contract::fence::RESERVED);
            case Opcode::LOAD_VECTOR: return check(command, contract::load_vector::BOUNDS, contract::load_vector::RESERVED);
            case Opcode::GEMV: {
                const uint32_t format = uint32_t(command[contract::gemv::format_]);
                const bool strided = command[contract::gemv::stride_] != 0 && format != contract::STRIDED_FORMAT;
                if (!find_format(format).format || strided) return ErrorCode::BAD_FIELD;
                return check(command, contract::gemv::BOUNDS, contract::gemv::RESERVED);
            }
            case Opcode::ELEMENTWISE: return check(command, contract::elementwise::BOUNDS, contract::elementwise::RESERVED);
            case Opcode::STORE: return check(command, contract::store::BOUNDS, contract::store::RESERVED);
            case Opcode::ROTATE: return check(command, contract::rotate::BOUNDS, contract::rotate::RESERVED);
            case Opcode::APPEND: return check(command, contract::append::BOUNDS, contract::append::RESERVED);
            case Opcode::SET: return check(command, contract::set::BOUNDS, contract::set::RESERVED);
            case Opcode::READ: return check(command, contract::read::BOUNDS, contract::read::RESERVED);
            case Opcode::LOOP: return check(command, contract::loop::BOUNDS, contract::loop::RESERVED);
        }
        return ErrorCode::BAD_OPCODE;
    }

    // Carry out a command; returns the index of the next one.
    uint64_t step(Command& command, uint64_t index) {
        resolve(command);
        const ErrorCode code = check(command);
        if (code != ErrorCode::NONE) throw Stop{code};
        switch (Opcode(command.opcode())) {
            case Opcode::FENCE: break;
            case Opcode::LOAD_VECTOR: load_vector(command); break;
            case Opcode::GEMV: multiply(command); break;
            case Opcode::ELEMENTWISE: {
                Elementwise elementwise(command, buffer_, slots_);
                const int64_t bytes = elementwise.stream_units() * contract::ADDRESS_UNIT;
                const uint64_t source = uint64_t(command[contract::elementwise::source_]) * contract::ADDRESS_UNIT;
                elementwise.run(bytes ? read(Counter::VECTOR_BEATS, source, bytes) : nullptr);
                break;
            }
            case Opcode::STORE: store(command); break;
            case Opcode::ROTATE: rotate(command, buffer_); break;
            case Opcode::APPEND: count(Counter::WRITE_BEATS) += Append(command, buffer_, memory_, int(build_.lanes)).run(); break;
            case Opcode::SET: set(command); break;
            case Opcode::READ: assign(command[contract::read::register_], buffer_[command[contract::read::a_]]); break;
            case Opcode::LOOP: {
                const uint64_t target = command[contract::loop::target_];
                if (target > index) throw Stop{ErrorCode::BAD_FIELD};
                const int64_t counted = command[contract::loop::register_];
                assign(counted, registers_[counted] - 1);
                return registers_[counted] ? target : index + 1;
            }
        }
        return index + 1;
    }

    void assign(int64_t number, uint32_t value) {
        if (number) registers_[number] = value;
    }

    void set(const Command& c) {
        namespace s = contract::set;
        const uint32_t limit = uint32_t(c[s::limit_]);
        const uint32_t sum = registers_[c[s::x_]] * uint32_t(c[s::factor_]) + registers_[c[s::y_]] + uint32_t(c[s::addend_]);
        uint32_t value = sum >> c[s::shift_];
        switch (contract::SetMode(c[s::mode_])) {
            case contract::SetMode::PLAIN: break;
            case contract::SetMode::MINIMUM: value = value < limit ? value : limit; break;
            case contract::SetMode::WRAP: value = value < limit ? value : 0; break;
        }
        assign(c[s::register_], value);
    }

    void load_vector(const Command& c) {
        namespace v = contract::load_vector;
        constexpr int64_t unit = contract::VECTOR_ALIGNMENT;
        const int64_t blocks = c[v::blocks_], exponents = ceil_div(blocks, unit) * unit;
        const uint8_t* image =
            read(Counter::VECTOR_BEATS, uint64_t(c[v::source_]) * contract::ADDRESS_UNIT, unit + exponents + blocks * unit);
        int16_t base;
        std::memcpy(&base, image, sizeof base);
        for (int64_t b = 0; b < blocks; ++b) {
            int16_t mantissas[BLOCK];
            std::memcpy(mantissas, image + unit + exponents + b * unit, sizeof mantissas);
            const int exponent = image[unit + b] & contract::EXPONENT_MAX;
            slots_.write(int(c[v::slot_]), c[v::first_block_] + b, base + exponent, mantissas);
        }
        slots_.set_base(int(c[v::slot_]), int(c[v::set_]), base, false);
    }

    void multiply(const Command& c) {
        namespace g = contract::gemv;
        const FormatCode format = find_format(uint32_t(c[g::format_]));
        const int64_t rows = c[g::rows_], lanes = int64_t(build_.lanes), groups = ceil_div(rows, lanes);
        // The planes of a row are blocks like others, of which several meet the same block of the vector.
        const int64_t planes = format.format->planes, blocks = planes * c[g::blocks_];
        const int64_t pitch = lanes * LANE_BYTES, stride = c[g::stride_] * contract::ADDRESS_UNIT;
        const uint64_t source = uint64_t(c[g::source_]) * contract::ADDRESS_UNIT;
        std::vector<Vector> vectors;
        Product job{nullptr, 0, rows, blocks, int(lanes), int(c[g::exponent_]), &vectors, nullptr};
        std::vector<const uint8_t*> scattered;
        if (!stride) {
            job.source = read(Counter::WEIGHT_BEATS, source, format.stream_beats(groups * blocks) * pitch);
        } else {
            // The end of memory can lie between two groups, and so can the end of all addresses.
            for (int64_t group = 0; group < groups; ++group)
                scattered.push_back(read(Counter::WEIGHT_BEATS, source + group * stride, format.stream_beats(blocks) * pitch));
        }
        const int64_t slots = c[g::slots_];
        for (int64_t slot = 0; slot < slots; ++slot)
            vectors.push_back(slots_.read(int(slot), int(c[g::set_]), c[g::first_block_], blocks, planes));
        std::vector<uint32_t> results(slots * rows);
        job.results = results.data();
        const auto multiply_some = [&](int64_t first, int64_t last) {
            if (scattered.empty()) {
                format.multiply(job, first, last);
                return;
            }
            for (int64_t group = first; group < last; ++group) {
                Product one = job;
                one.source = scattered[group] - group * stride;
                one.group_pitch = stride;
                format.multiply(one, group, group + 1);
            }
        };
        threads_.share(groups, std::max<int64_t>(1, PIECE_BLOCKS / (blocks * lanes)), multiply_some);
        const int64_t masked = c[g::masked_];
        for (int64_t slot = 0; slot < slots; ++slot) {
            const int64_t hidden = std::min(masked - slot % (masked + 1), rows);
            std::fill_n(&results[(slot + 1) * rows - hidden], hidden, bits_of(-std::numeric_limits<float>::infinity()));
        }
        for (int64_t slot = 0; slot < slots; ++slot)
            for (int64_t row = 0; row < rows; ++row)
                buffer_[c[g::offset_] + slot * c[g::slot_stride_] + row] = results[slot * rows + row];
        if (!c[g::keep_maxima_]) return;
        for (int64_t slot = 0; slot < slots; ++slot) {
            float largest = float_of(results[slot * rows]);
            for (int64_t row = 1; row < rows; ++row) {
                const float result = float_of(results[slot * rows + row]);
                largest = result > largest ? result : largest;
            }
            buffer_[c[g::maxima_] + slot * contract::BUFFER_UNIT] = bits_of(largest);
        }
    }

    void store(const Command& c) {
        namespace s = contract::store;
        const int64_t entries = c[s::count_];
        uint8_t* bytes = memory_.write(uint64_t(c[s::destination_]) * contract::ADDRESS_UNIT, 4 * entries);
        for (int64_t i = 0; i < entries; ++i) std::memcpy(bytes + 4 * i, &buffer_[c[s::a_] + i], 4);
        count(Counter::WRITE_BEATS) += ceil_div(4 * entries, std::min<int64_t>(memory_.beat_bytes(), contract::ADDRESS_UNIT));
    }

    // Blocks of a matrix that are worth a thread's attention.
    static constexpr int64_t PIECE_BLOCKS = 1024;

    const contract::Build build_;
    Memory memory_;
    Activations buffer_;
    Slots slots_;
    Threads threads_;
    std::array<uint32_t, contract::PROGRAM_REGISTERS> registers_{};
    std::array<uint64_t, size_t(Counter::COUNT)> counters_{};
    std::atomic<bool> stopping_{false};
    std::atomic<uint64_t> progress_{0};
};

}  // namespace tailrace
