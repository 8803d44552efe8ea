// What Python calls. All numbers are 64 bits wide; strings and ownership do not cross.
#include "machine.h"

using tailrace::Machine;

extern "C" {

void* emulator_open(const uint64_t* build, uint8_t* memory, uint64_t size, int threads) {
    tailrace::contract::Build values;
    static_assert(sizeof values % sizeof(uint64_t) == 0);
    std::memcpy(&values, build, sizeof values);
    return new Machine(values, memory, size, threads);
}

void emulator_close(void* machine) { delete static_cast<Machine*>(machine); }

void emulator_run(void* machine, const tailrace::Run* run, tailrace::Outcome* outcome) {
    *outcome = static_cast<Machine*>(machine)->run(*run);
}

int emulator_map(void* machine, uint64_t address, const char* path, uint64_t size) {
    return static_cast<Machine*>(machine)->map(address, path, size);
}

void emulator_stop(void* machine) { static_cast<Machine*>(machine)->stop(); }

uint64_t emulator_progress(void* machine) { return static_cast<Machine*>(machine)->progress(); }

const uint64_t* emulator_counters(void* machine) { return static_cast<Machine*>(machine)->counters(); }

const uint32_t* emulator_activations(void* machine) { return static_cast<Machine*>(machine)->activations().data(); }

}  // extern "C"
