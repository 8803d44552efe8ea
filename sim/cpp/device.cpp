// The simulated device: the Verilated core, its clock, its memory ports and its control port, behind a C interface.

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "Vcore.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

#include "axi_memory.h"
#include "control_port.h"
#include "dram.h"
#include "recorder.h"
#include "timing.h"

namespace {

using namespace tailrace;

// Nanoseconds of a cycle in waveforms: a nominal clock of 100 MHz.
constexpr uint64_t CLOCK_PERIOD = 10;
// Longer than any register access takes; the core answers within a few cycles.
constexpr unsigned CONTROL_LIMIT = 10000;

enum Status : int { CYCLES_PASSED = 0, INTERRUPTED = 1, RULE_BROKEN = 2, CONTROL_SILENT = 3, CONTROL_REFUSED = 4, NO_TRACE = 5 };

#if VM_TRACE
// Where a write fails, Verilator ends the process, or waits for itself for ever. This file remembers it and drops the rest.
class WaveFile final : public VerilatedVcdFile {
public:
    ssize_t write(const char* bytes, ssize_t size) override {
        if (failed) return size;
        const ssize_t written = VerilatedVcdFile::write(bytes, size);
        if (written >= 0 || errno == EAGAIN || errno == EINTR) return written;
        failed = true;
        return size;
    }
    bool failed = false;
};
#endif

// Ports of the core: with another number, whoever compiles this says so.
#ifndef TAILRACE_PORTS
#define TAILRACE_PORTS 1
#endif

using Port = decltype(TAILRACE_MEMORY_PORT(std::declval<Vcore&>(), m00_axi));

std::vector<Port> ports_of(Vcore& core) {
    return {
        TAILRACE_MEMORY_PORT(core, m00_axi),
#if TAILRACE_PORTS > 1
        TAILRACE_MEMORY_PORT(core, m01_axi),
#endif
#if TAILRACE_PORTS > 2
        TAILRACE_MEMORY_PORT(core, m02_axi),
        TAILRACE_MEMORY_PORT(core, m03_axi),
#endif
#if TAILRACE_PORTS > 4
        TAILRACE_MEMORY_PORT(core, m04_axi),
        TAILRACE_MEMORY_PORT(core, m05_axi),
        TAILRACE_MEMORY_PORT(core, m06_axi),
        TAILRACE_MEMORY_PORT(core, m07_axi),
#endif
#if TAILRACE_PORTS > 8
        TAILRACE_MEMORY_PORT(core, m08_axi),
        TAILRACE_MEMORY_PORT(core, m09_axi),
        TAILRACE_MEMORY_PORT(core, m10_axi),
        TAILRACE_MEMORY_PORT(core, m11_axi),
        TAILRACE_MEMORY_PORT(core, m12_axi),
        TAILRACE_MEMORY_PORT(core, m13_axi),
        TAILRACE_MEMORY_PORT(core, m14_axi),
        TAILRACE_MEMORY_PORT(core, m15_axi),
#endif
#if TAILRACE_PORTS > 16
        TAILRACE_MEMORY_PORT(core, m16_axi),
        TAILRACE_MEMORY_PORT(core, m17_axi),
        TAILRACE_MEMORY_PORT(core, m18_axi),
        TAILRACE_MEMORY_PORT(core, m19_axi),
        TAILRACE_MEMORY_PORT(core, m20_axi),
        TAILRACE_MEMORY_PORT(core, m21_axi),
        TAILRACE_MEMORY_PORT(core, m22_axi),
        TAILRACE_MEMORY_PORT(core, m23_axi),
        TAILRACE_MEMORY_PORT(core, m24_axi),
        TAILRACE_MEMORY_PORT(core, m25_axi),
        TAILRACE_MEMORY_PORT(core, m26_axi),
        TAILRACE_MEMORY_PORT(core, m27_axi),
        TAILRACE_MEMORY_PORT(core, m28_axi),
        TAILRACE_MEMORY_PORT(core, m29_axi),
        TAILRACE_MEMORY_PORT(core, m30_axi),
        TAILRACE_MEMORY_PORT(core, m31_axi),
#endif
    };
}

struct Options {
    uint64_t latency;
    uint64_t bandwidth_numerator, bandwidth_denominator;
    uint64_t seed;
    uint64_t stall_thresholds[CHANNELS];
    uint64_t control_threshold;
    uint64_t threads;
    uint64_t one_memory;
    DramParameters dram;
};

// Verilator holds `interrupt` for a word that C++ compilers may reserve, and renames it; other versions may not.
template <class Core>
auto interrupt_of(const Core& core, int) -> decltype(bool(core.__SYM__interrupt)) {
    return core.__SYM__interrupt;
}
template <class Core>
auto interrupt_of(const Core& core, long) -> decltype(bool(core.interrupt)) {
    return core.interrupt;
}

class Device {
public:
    Device(uint8_t* bytes, uint64_t size, const Options& options)
        : options_(options),
          core_(configure()),
          control_(options.seed, options.control_threshold) {
        for (const Port& port : ports_of(core_)) {
            const unsigned n = unsigned(memory_.size());
            const Stripe stripe = options.one_memory ? Stripe{0, 1} : Stripe{n, TAILRACE_PORTS};
            memory_.emplace_back(port, n, stripe, bytes, size, timing(n), options.seed, options.stall_thresholds);
        }
        reset(16);
    }

    ~Device() {
#if VM_TRACE
        if (trace_) trace_->close();
#endif
        core_.final();
    }

    void reset(uint64_t cycles) {
        control_.abandon();
        reset_memory();
        core_.ap_rst_n = 0;
        while (cycles--) {
            drive();
            // Nothing is sampled: during reset a core may not ask for anything, and what it drives is not stable yet.
            edge();
        }
        reset_memory();
        core_.ap_rst_n = 1;
        cycle();
    }

    int run(uint64_t cycles, bool until_interrupt) {
        for (uint64_t i = 0; i < cycles; ++i) {
            if (until_interrupt && interrupt_of(core_, 0)) return INTERRUPTED;
            cycle();
            if (broken()) return RULE_BROKEN;
            if (trace_failed()) return NO_TRACE;
        }
        return until_interrupt && interrupt_of(core_, 0) ? INTERRUPTED : CYCLES_PASSED;
    }

    int read_register(uint32_t offset, uint32_t* value) {
        control_.begin_read(offset);
        const int status = finish_access();
        *value = control_.value();
        return status;
    }

    int write_register(uint32_t offset, uint32_t value) {
        control_.begin_write(offset, value);
        return finish_access();
    }

    int trace(const char* path, uint64_t from, uint64_t to) {
#if VM_TRACE
        from_ = from;
        to_ = to;
        trace_ = std::make_unique<VerilatedVcdC>(&file_);
        core_.trace(trace_.get(), 99);
        trace_->set_time_unit("1ns");
        trace_->set_time_resolution("1ns");
        trace_->open(path);
        return trace_->isOpen() ? CYCLES_PASSED : NO_TRACE;
#else
        (void)path, (void)from, (void)to;
        return NO_TRACE;
#endif
    }

    uint64_t cycles() const { return cycles_; }
    Recorder recorder;
    // One for each port of the core.
    std::vector<AxiMemory<Port>>& memory() { return memory_; }

    // The first AXI rule that the core broke; empty if none.
    std::string violation() const {
        for (unsigned n = 0; n < memory_.size(); ++n)
            if (const std::string& rule = memory_[n].violation(); !rule.empty())
                return TAILRACE_PORTS == 1 ? rule : (n < 10 ? "m0" : "m") + std::to_string(n) + "_axi: " + rule;
        return "";
    }

private:
    Options options_;
    VerilatedContext context_;
    Vcore core_;
    std::vector<AxiMemory<Port>> memory_;
    ControlPort<Vcore> control_;
    uint64_t cycles_ = 0;
#if VM_TRACE
    WaveFile file_;
    std::unique_ptr<VerilatedVcdC> trace_;
    uint64_t from_ = 0, to_ = 0;
#endif

    VerilatedContext* configure() {
        context_.threads(static_cast<unsigned>(options_.threads));
#if VM_TRACE
        context_.traceEverOn(true);
#endif
        return &context_;
    }

    bool broken() const {
        for (const AxiMemory<Port>& port : memory_)
            if (!port.violation().empty()) return true;
        return false;
    }

    void reset_memory() {
        for (unsigned n = 0; n < memory_.size(); ++n) memory_[n].reset(timing(n));
    }

    // DRAM channels are refreshed in turn, as each has a controller of its own that knows nothing of the others.
    std::unique_ptr<MemoryTiming> timing(unsigned port) const {
        if (options_.dram.enabled)
            return std::make_unique<DramTiming>(options_.dram, Port::BYTES, options_.dram.refi * port / TAILRACE_PORTS);
        return std::make_unique<FixedTiming>(options_.latency, options_.bandwidth_numerator, options_.bandwidth_denominator);
    }

    void drive() {
        core_.ap_clk = 0;
        control_.drive(core_);
        for (AxiMemory<Port>& port : memory_) port.drive();
        core_.eval();
        dump(0);
    }

    void edge() {
        core_.ap_clk = 1;
        core_.eval();
        dump(CLOCK_PERIOD / 2);
        ++cycles_;
    }

    void cycle() {
        drive();
        for (AxiMemory<Port>& port : memory_) port.sample();
        control_.sample(core_);
#ifdef TAILRACE_PROBE
        if (recorder.on) recorder.sample(core_, cycles_);
#endif
        edge();
    }

    int finish_access() {
        for (unsigned i = 0; i < CONTROL_LIMIT; ++i) {
            cycle();
            if (broken()) {
                control_.abandon();
                return RULE_BROKEN;
            }
            if (control_.done()) return control_.response() == OKAY ? CYCLES_PASSED : CONTROL_REFUSED;
        }
        control_.abandon();
        return CONTROL_SILENT;
    }

    bool trace_failed() const {
#if VM_TRACE
        return file_.failed;
#else
        return false;
#endif
    }

    // Cycle n begins at n * CLOCK_PERIOD with the inputs of the cycle; its rising edge comes half a period later.
    void dump(uint64_t offset) {
#if VM_TRACE
        if (trace_ && cycles_ >= from_ && cycles_ < to_) trace_->dump(cycles_ * CLOCK_PERIOD + offset);
#else
        (void)offset;
#endif
    }
};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT Device* device_open(uint8_t* bytes, uint64_t size, const Options* options) { return new Device(bytes, size, *options); }
EXPORT void device_close(Device* device) { delete device; }
EXPORT void device_reset(Device* device, uint64_t cycles) { device->reset(cycles); }
EXPORT int device_run(Device* device, uint64_t cycles, int until_interrupt) { return device->run(cycles, until_interrupt != 0); }
EXPORT int device_read_register(Device* device, uint32_t offset, uint32_t* value) { return device->read_register(offset, value); }
EXPORT int device_write_register(Device* device, uint32_t offset, uint32_t value) { return device->write_register(offset, value); }
EXPORT int device_trace(Device* device, const char* path, uint64_t from, uint64_t to) { return device->trace(path, from, to); }
EXPORT uint64_t device_cycles(Device* device) { return device->cycles(); }
EXPORT void device_traffic(Device* device, uint64_t port, uint64_t* counts) {
    const auto& memory = device->memory()[port];
    counts[0] = memory.read_bursts;
    counts[1] = memory.read_beats;
    counts[2] = memory.write_bursts;
    counts[3] = memory.write_beats;
}
EXPORT const char* device_violation(Device* device) {
    static thread_local std::string text;
    text = device->violation();
    return text.c_str();
}
EXPORT void device_add_fault(Device* device, int write, uint64_t first, uint64_t last) {
    for (auto& memory : device->memory()) (write ? memory.faulty_writes : memory.faulty_reads).push_back({first, last});
}
EXPORT void device_clear_faults(Device* device) {
    for (auto& memory : device->memory()) {
        memory.faulty_reads.clear();
        memory.faulty_writes.clear();
    }
}
EXPORT void device_freeze(Device* device, uint64_t port, int frozen) { device->memory()[port].frozen = frozen != 0; }
EXPORT void device_record(Device* device, uint64_t first, uint64_t last, uint64_t width) { device->recorder.start(first, last, width); }
EXPORT uint64_t device_events(Device* device, const Event** events) {
    *events = device->recorder.events.data();
    return device->recorder.events.size();
}
EXPORT uint64_t device_buckets(Device* device, const Bucket** buckets) {
    *buckets = device->recorder.buckets.data();
    return device->recorder.buckets.size();
}
