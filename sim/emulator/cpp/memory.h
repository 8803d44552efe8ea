// Device memory as a program sees it: from BASE on, up to LIMIT.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "bits.h"

namespace tailrace {

using contract::ErrorCode;

// A command can't go on.
struct Stop {
    ErrorCode code;
    uint64_t address = 0;
};

class Memory {
public:
    Memory(uint8_t* bytes, uint64_t size, const contract::Build& build) : bytes_(bytes), size_(size), build_(build) {}

    uint64_t beat_bytes() const { return build_.lanes * contract::LANE_BYTES; }

    // What check_queue has accepted. The base is that of each channel, and memory that of all.
    void place(uint64_t base, uint64_t limit) {
        const bool within = base < size_ / build_.channels;
        base_ = within ? base * build_.channels : 0;
        const uint64_t existing = within ? size_ - base_ : 0;
        end_ = limit && limit < existing ? limit : existing;
    }

    const uint8_t* read(uint64_t address, uint64_t size) const {
        address = wrapped(address);
        if (address > end_ || size > end_ - address) throw Stop{ErrorCode::READ_ERROR, first_missing_beat(address)};
        return bytes_ + base_ + address;
    }

    uint8_t* write(uint64_t address, uint64_t size) {
        if (address > end_ || size > end_ - address) throw Stop{ErrorCode::WRITE_ERROR, first_missing_beat(address)};
        return bytes_ + base_ + address;
    }

    uint64_t wrapped(uint64_t address) const {
        return build_.address_width >= 64 ? address : address & ((uint64_t(1) << build_.address_width) - 1);
    }

    // Have whole pages from an address on show a file: what is written to them does not reach it.
    int map(uint64_t address, const char* path, uint64_t size) {
        const int file = ::open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0) return errno;
        void* place = ::mmap(bytes_ + address, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, 0);
        const int error = place == MAP_FAILED ? errno : 0;
        ::close(file);
        if (!error) ::madvise(place, size, MADV_WILLNEED);
        return error;
    }

    bool exists(uint64_t address) const { return address < end_; }
    uint8_t& byte(uint64_t address) { return bytes_[base_ + address]; }

private:
    uint64_t first_missing_beat(uint64_t address) const {
        const uint64_t end = end_ / beat_bytes() * beat_bytes(), beat = address / beat_bytes() * beat_bytes();
        return beat > end ? beat : end;
    }

    uint8_t* bytes_;
    uint64_t size_, base_ = 0, end_ = 0;
    const contract::Build& build_;
};

}  // namespace tailrace
