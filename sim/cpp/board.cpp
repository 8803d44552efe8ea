// The simulated board: its Verilated top level, its clock and its reset, and what hangs on its serial pins.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "Vboard.h"
#include "verilated.h"

#include "board_line.h"

namespace {

using namespace tailrace;

class Board {
public:
    explicit Board(unsigned clocks_per_bit) : sender(clocks_per_bit), receiver(clocks_per_bit), top_(&context_) {
        reset(16);
        // Whatever its line did when it was switched on, nobody was there to hear it.
        for (unsigned i = 0; i < 20 * clocks_per_bit; ++i) cycle();
        receiver.bytes.clear();
        receiver.broken = 0;
    }
    ~Board() { top_.final(); }

    LineSender sender;
    LineReceiver receiver;
    uint64_t cycles = 0;
    // The last cycle in which a line was not idle.
    uint64_t last_traffic = 0;

    void reset(uint64_t count) {
        top_.rst = 1;
        while (count--) cycle();
        top_.rst = 0;
    }

    // Lets up to `count` cycles pass; ends early when an answer is complete: when both lines are quiet after bytes have come.
    void run(uint64_t count, uint64_t quiet) {
        while (count--) {
            cycle();
            if (!receiver.bytes.empty() && cycles - last_traffic >= quiet) return;
        }
    }

private:
    VerilatedContext context_;
    Vboard top_;

    void cycle() {
        if (!sender.idle() || !receiver.idle()) last_traffic = cycles;
        top_.clk = 0;
        top_.uart_rx = sender.step();
        top_.eval();
        receiver.step(top_.uart_tx);
        top_.clk = 1;
        top_.eval();
        ++cycles;
    }
};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT Board* board_open(uint64_t clocks_per_bit) { return new Board(static_cast<unsigned>(clocks_per_bit)); }
EXPORT void board_close(Board* board) { delete board; }
EXPORT void board_reset(Board* board, uint64_t cycles) { board->reset(cycles); }
EXPORT void board_put(Board* board, const uint8_t* bytes, uint64_t count) { board->sender.put(bytes, count); }
EXPORT void board_run(Board* board, uint64_t cycles, uint64_t quiet) { board->run(cycles, quiet); }
EXPORT uint64_t board_take(Board* board, uint8_t* bytes, uint64_t room) {
    auto& come = board->receiver.bytes;
    const uint64_t count = std::min<uint64_t>(room, come.size());
    std::memcpy(bytes, come.data(), count);
    come.erase(come.begin(), come.begin() + count);
    return count;
}
EXPORT uint64_t board_cycles(Board* board) { return board->cycles; }
EXPORT uint64_t board_quiet(Board* board) { return board->cycles - board->last_traffic; }
// Whether bytes are on their way to the board.
EXPORT int board_busy(Board* board) { return !board->sender.idle(); }
EXPORT uint64_t board_broken(Board* board) { return board->receiver.broken; }
