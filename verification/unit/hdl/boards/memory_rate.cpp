// Writes and reads a board's simulated memory through the co-processor's port, and prints what that took.

#include "Vmemory.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>

// Verilator's names of fields of the ports.
#define READ(channel, field) top.core_read___05F##channel##___05F##field
#define WRITE(channel, field) top.core_write___05F##channel##___05F##field

namespace {

// 256 KiB: each bank has many rows of them.
constexpr int beats = 16384;
constexpr int beat_bytes = 16;

Vmemory top;
uint64_t cycles = 0;

void tick() {
    top.clk = 1;
    top.eval();
    top.clk = 0;
    top.eval();
    if (++cycles > 3000000) {
        std::printf("hangs\n");
        std::exit(1);
    }
}

uint32_t content(uint32_t address) { return address * 2654435761u + 12345; }

// Of an address channel: 32 bits of address, and beats less one.
uint64_t burst(uint32_t address, int length) { return uint64_t(length - 1) << 32 | address; }

double write(int length) {
    const uint64_t begin = cycles;
    WRITE(b, ready) = 1;
    for (int asked = 0, sent = 0, answered = 0; answered < beats / length;) {
        WRITE(aw, valid) = asked < beats / length;
        WRITE(aw, payload) = burst(asked * length * beat_bytes, length);
        WRITE(w, valid) = sent < beats;
        for (int i = 0; i < 4; i++)
            WRITE(w, payload)[i] = content(beat_bytes * sent + 4 * i);
        // All strobes, and whether it is the last one.
        WRITE(w, payload)[4] = 0xffff | (sent % length == length - 1) << 16;
        top.eval();
        const bool aw = WRITE(aw, valid) && WRITE(aw, ready);
        const bool w = WRITE(w, valid) && WRITE(w, ready);
        const bool b = WRITE(b, valid);
        tick();
        asked += aw;
        sent += w;
        answered += b;
    }
    WRITE(aw, valid) = WRITE(w, valid) = 0;
    return double(cycles - begin) / beats;
}

// Reads that begin anew after `bytes`.
double read(int length, uint32_t bytes, int &wrong) {
    const uint64_t begin = cycles;
    READ(r, ready) = 1;
    for (int asked = 0, got = 0; got < beats;) {
        READ(ar, valid) = asked < beats / length;
        READ(ar, payload) = burst(asked * length * beat_bytes % bytes, length);
        top.eval();
        const bool ar = READ(ar, valid) && READ(ar, ready);
        if (READ(r, valid)) {
            for (int i = 0; i < 4; i++)
                wrong += READ(r, payload)[i] != content(beat_bytes * got % bytes + 4 * i);
            // Response, and whether it is the last one.
            wrong += READ(r, payload)[4] != uint32_t(got % length == length - 1) << 2;
            got++;
        }
        tick();
        asked += ar;
    }
    READ(ar, valid) = 0;
    return double(cycles - begin) / beats;
}

} // namespace

// Usage: memory_rate ROW, the bytes of a row of a bank.
int main(int, char **arguments) {
    top.rst = 1;
    for (int i = 0; i < 10; i++)
        tick();
    top.rst = 0;
    while (!top.ready)
        tick();
    int wrong = 0;
    const double written = write(64), far = read(64, beats * beat_bytes, wrong), near = read(1, beats * beat_bytes, wrong);
    const double row = read(64, std::atoi(arguments[1]), wrong);
    std::printf("{\"write\": %.3f, \"read_64\": %.3f, \"read_1\": %.3f, \"read_row\": %.3f, \"wrong\": %d}\n", written, far,
                near, row, wrong);
}
