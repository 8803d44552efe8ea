// Writes and reads LiteDRAM's simulated memory through its AXI ports, and prints what that took.
// Usage: memory_rate START, a file of lines "address value wait".

#include "Vlitedram_core.h"

#include <cstdint>
#include <cstdio>

namespace {

constexpr int beats = 1024;

Vlitedram_core top;
uint64_t cycles = 0;

void tick() {
    top.clk = 1;
    top.eval();
    top.clk = 0;
    top.eval();
    if (++cycles > 1000000) {
        std::printf("hangs\n");
        std::exit(1);
    }
}

uint32_t content(uint32_t address) { return address * 2654435761u + 12345; }

void start(const char *path) {
    std::FILE *file = std::fopen(path, "r");
    uint32_t address, value, wait;
    top.rst = 1;
    for (int i = 0; i < 10; i++)
        tick();
    top.rst = 0;
    tick();
    while (std::fscanf(file, "%u %u %u", &address, &value, &wait) == 3) {
        top.wb_ctrl_adr = address / 4;
        top.wb_ctrl_dat_w = value;
        top.wb_ctrl_sel = 15;
        top.wb_ctrl_cyc = top.wb_ctrl_stb = top.wb_ctrl_we = 1;
        top.eval();
        while (!top.wb_ctrl_ack)
            tick();
        tick();
        top.wb_ctrl_cyc = top.wb_ctrl_stb = 0;
        for (uint32_t i = 0; i <= wait; i++)
            tick();
    }
    std::fclose(file);
}

double write(int length) {
    const uint64_t begin = cycles;
    top.user_port_core_awlen = length - 1;
    top.user_port_core_awsize = 4;
    top.user_port_core_awburst = 1;
    top.user_port_core_wstrb = 0xffff;
    top.user_port_core_bready = 1;
    for (int asked = 0, sent = 0, answered = 0; answered < beats / length;) {
        top.user_port_core_awvalid = asked < beats / length;
        top.user_port_core_awaddr = asked * length * 16;
        top.user_port_core_wvalid = sent < beats;
        top.user_port_core_wlast = sent % length == length - 1;
        for (int i = 0; i < 4; i++)
            top.user_port_core_wdata[i] = content(16 * sent + 4 * i);
        top.eval();
        const bool aw = top.user_port_core_awvalid && top.user_port_core_awready;
        const bool w = top.user_port_core_wvalid && top.user_port_core_wready;
        const bool b = top.user_port_core_bvalid;
        tick();
        asked += aw;
        sent += w;
        answered += b;
    }
    return double(cycles - begin) / beats;
}

double read(int length, int &wrong) {
    const uint64_t begin = cycles;
    top.user_port_core_arlen = length - 1;
    top.user_port_core_arsize = 4;
    top.user_port_core_arburst = 1;
    top.user_port_core_rready = 1;
    for (int asked = 0, got = 0; got < beats;) {
        top.user_port_core_arvalid = asked < beats / length;
        top.user_port_core_araddr = asked * length * 16;
        top.eval();
        const bool ar = top.user_port_core_arvalid && top.user_port_core_arready;
        if (top.user_port_core_rvalid) {
            for (int i = 0; i < 4; i++)
                wrong += top.user_port_core_rdata[i] != content(16 * got + 4 * i);
            wrong += top.user_port_core_rlast != (got % length == length - 1);
            got++;
        }
        tick();
        asked += ar;
    }
    top.user_port_core_arvalid = 0;
    return double(cycles - begin) / beats;
}

} // namespace

int main(int, char **arguments) {
    start(arguments[1]);
    int wrong = 0;
    const double written = write(64), far = read(64, wrong), near = read(1, wrong);
    std::printf("{\"write\": %.3f, \"read_64\": %.3f, \"read_1\": %.3f, \"wrong\": %d}\n", written, far, near, wrong);
}
