// Records what a core's probe shows: events of commands one by one, the use of the memory port in buckets of cycles.
#ifndef TAILRACE_RECORDER_H
#define TAILRACE_RECORDER_H

#include <cstdint>
#include <vector>

namespace tailrace {

// Kinds of events, in the order of `tailrace.sim.timeline`.
enum class EventKind : uint32_t { RunStart, RunEnd, Fetch, MatrixStart, MatrixFinish, VectorStart, VectorFinish };

struct Event {
    uint64_t cycle;
    uint32_t kind, index;
};

constexpr unsigned USES = 8;

// Of the cycles of runs in a bucket: how many had which use, and the sum of the FIFO's levels.
struct Bucket {
    uint32_t uses[USES];
    uint32_t cycles;
    uint64_t level;
};

class Recorder {
public:
    // Forgets everything, and records the cycles from `first` up to `last`, in buckets of `width` cycles.
    void start(uint64_t first, uint64_t last, uint64_t width) {
        first_ = first;
        last_ = last;
        width_ = width;
        on = true;
        events.clear();
        buckets.clear();
        running_ = false;
    }

    template <class Core>
    void sample(const Core& core, uint64_t cycle) {
        if (cycle < first_ || cycle >= last_) return;
        const bool running = core.probe_running;
        if (running != running_) note(cycle, running ? EventKind::RunStart : EventKind::RunEnd, 0);
        running_ = running;
        if (!running) return;
        if (core.probe_fetch) note(cycle, EventKind::Fetch, core.probe_fetch_index);
        if (core.probe_matrix_start) note(cycle, EventKind::MatrixStart, core.probe_matrix_index);
        if (core.probe_matrix_finish) note(cycle, EventKind::MatrixFinish, 0);
        if (core.probe_vector_start) note(cycle, EventKind::VectorStart, core.probe_vector_index);
        if (core.probe_vector_finish) note(cycle, EventKind::VectorFinish, 0);
        const uint64_t place = (cycle - first_) / width_;
        if (place >= buckets.size()) buckets.resize(place + 1);
        Bucket& bucket = buckets[place];
        ++bucket.uses[core.probe_use % USES];
        ++bucket.cycles;
        bucket.level += core.probe_level;
    }

    bool on = false;
    std::vector<Event> events;
    std::vector<Bucket> buckets;

private:
    uint64_t first_ = 0, last_ = 0, width_ = 1;
    bool running_ = false;

    void note(uint64_t cycle, EventKind kind, uint32_t index) { events.push_back({cycle, static_cast<uint32_t>(kind), index}); }
};

}  // namespace tailrace

#endif
