// A DRAM channel behind a controller that keeps rows open.
#ifndef TAILRACE_DRAM_H
#define TAILRACE_DRAM_H

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "timing.h"

namespace tailrace {

// Parameters of a channel, in clock cycles of its command clock (tCK) where nothing else is said. Names as in JESD79-4.
// The Python side (sim/memory_models.py) says where the numbers come from; the order here is its order.
struct DramParameters {
    uint64_t enabled;
    uint64_t clocks_per_cycle;  // command clocks in a cycle of the core
    uint64_t access_clocks;     // clocks of data of one access (a burst of the DRAM), which is one beat of the bus
    uint64_t bank_groups, banks_per_group;
    uint64_t row_accesses;  // accesses in a row of a bank
    uint64_t controller;    // clocks from the core to the DRAM's pins and back, beside what follows
    uint64_t cl, cwl;
    uint64_t rcd, rp, ras;
    uint64_t ccd_s, ccd_l;
    uint64_t rrd_s, rrd_l, faw;
    uint64_t wr, wtr_s, wtr_l, rtp;
    uint64_t refi, rfc;
    uint64_t write_batch;   // writes that are gathered before the bus is turned around
    uint64_t write_age;     // clocks after which they are written anyway
};

// Reads and writes are put into a schedule as they arrive: each access gets the earliest place after the ones before it that all
// timing rules allow. Rows are opened as early as that, while accesses before are still under way: the controller looks ahead as far
// as the core asks ahead. Neighbouring accesses lie in different bank groups, then in the same row; the row is the highest
// part of the address but for the bank, so a sequential stream opens one row after the other in all banks. Writes are gathered, and
// acknowledged when they are in the queue, as controllers do; reads go first. Not modelled: contention for the command bus,
// reordering of reads.
class DramTiming final : public MemoryTiming {
public:
    // The first refresh comes `late` clocks later than one would without.
    DramTiming(const DramParameters& p, uint64_t beat_bytes, uint64_t late = 0)
        : p_(p), beat_bytes_(beat_bytes), banks_(p.bank_groups * p.banks_per_group), next_refresh_(p.refi + late) {
        for (uint64_t& time : activates_) time = 0;
    }

    void tick() override {
        now_ += p_.clocks_per_cycle;
        if (!waiting_.empty() && (waiting_.size() >= p_.write_batch || waiting_.front().since + p_.write_age <= now_)) write_all();
    }

    void read_accepted(uint64_t address, unsigned beats) override {
        for (unsigned i = 0; i < beats; ++i) {
            const uint64_t column = schedule((address / beat_bytes_) + i, false, now_ + p_.controller / 2);
            reads_.push_back(column + p_.cl + p_.access_clocks + p_.controller - p_.controller / 2);
        }
    }
    bool read_beat_due() const override { return !reads_.empty() && reads_.front() <= now_; }
    void read_beat_offered() override { reads_.pop_front(); }

    void write_accepted(uint64_t address, unsigned beats) override { writes_.push_back({address / beat_bytes_, beats}); }
    // A full queue holds the core up until it has been written.
    bool write_beat_due() const override { return !writes_.empty() && blocked_until_ <= now_; }
    void write_beat_taken() override {
        Burst& burst = writes_.front();
        waiting_.push_back({burst.access++, now_});
        if (--burst.beats == 0) {
            writes_.pop_front();
            responses_.push_back(now_ + p_.controller);
        }
    }
    bool response_due() const override { return !responses_.empty() && responses_.front() <= now_; }
    void response_offered() override { responses_.pop_front(); }

private:
    struct Bank {
        bool open = false;
        uint64_t row = 0;
        uint64_t activate_from = 0;   // earliest next ACT
        uint64_t column_from = 0;     // earliest next column command
        uint64_t precharge_from = 0;  // earliest next PRE
    };
    struct Burst {
        uint64_t access;
        unsigned beats;
    };
    struct Waiting {
        uint64_t access, since;
    };

    DramParameters p_;
    uint64_t beat_bytes_;
    std::vector<Bank> banks_;
    uint64_t now_ = 0;
    uint64_t next_refresh_;
    // Of the last column command: time, bank group, direction.
    uint64_t column_ = 0;
    uint64_t column_group_ = 0;
    bool column_write_ = false, any_column_ = false;
    // Of the last ACT, and of the last four.
    uint64_t activate_ = 0, activate_group_ = 0;
    bool any_activate_ = false;
    std::array<uint64_t, 4> activates_;
    unsigned activate_count_ = 0;
    uint64_t blocked_until_ = 0;
    std::deque<uint64_t> reads_, responses_;
    std::deque<Burst> writes_;
    std::deque<Waiting> waiting_;

    void write_all() {
        uint64_t last = now_;
        for (const Waiting& write : waiting_) last = schedule(write.access, true, now_);
        waiting_.clear();
        blocked_until_ = last;
    }

    // Time of the column command of an access that arrives at `from`.
    uint64_t schedule(uint64_t access, bool write, uint64_t from) {
        const uint64_t group = access % p_.bank_groups;
        const uint64_t in_groups = access / p_.bank_groups;
        const uint64_t row_part = p_.row_accesses;
        const uint64_t bank_in_group = in_groups / row_part % p_.banks_per_group;
        const uint64_t row = in_groups / row_part / p_.banks_per_group;
        Bank& bank = banks_[group * p_.banks_per_group + bank_in_group];
        while (true) {
            uint64_t column = from;
            if (!bank.open || bank.row != row) {
                uint64_t activate = std::max(from, bank.activate_from);
                if (bank.open) activate = std::max(activate, std::max(from, bank.precharge_from) + p_.rp);
                if (any_activate_) {
                    activate = std::max(activate, activate_ + (group == activate_group_ ? p_.rrd_l : p_.rrd_s));
                    if (activate_count_ >= 4) activate = std::max(activate, activates_[activate_count_ % 4] + p_.faw);
                }
                if (activate >= next_refresh_) {
                    refresh();
                    continue;
                }
                bank.open = true;
                bank.row = row;
                bank.column_from = activate + p_.rcd;
                bank.precharge_from = activate + p_.ras;
                activates_[activate_count_++ % 4] = activate;
                activate_ = activate;
                activate_group_ = group;
                any_activate_ = true;
            }
            column = std::max(column, bank.column_from);
            if (any_column_) column = std::max(column, column_ + gap(write, group == column_group_));
            if (column >= next_refresh_) {
                refresh();
                continue;
            }
            column_ = column;
            column_group_ = group;
            column_write_ = write;
            any_column_ = true;
            const uint64_t held = write ? column + p_.cwl + p_.access_clocks + p_.wr : column + p_.rtp;
            bank.precharge_from = std::max(bank.precharge_from, held);
            return column;
        }
    }

    // Clocks from the last column command to one in the same or another direction.
    uint64_t gap(bool write, bool same_group) const {
        const uint64_t same_direction = same_group ? p_.ccd_l : p_.ccd_s;
        if (write == column_write_) return same_direction;
        if (write) return std::max(same_direction, p_.cl + p_.access_clocks + 2 - p_.cwl);
        return p_.cwl + p_.access_clocks + (same_group ? p_.wtr_l : p_.wtr_s);
    }

    // All banks are closed, and none can be opened before the refresh is over.
    void refresh() {
        uint64_t start = next_refresh_;
        for (const Bank& bank : banks_)
            if (bank.open) start = std::max(start, bank.precharge_from);
        for (Bank& bank : banks_) {
            bank.activate_from = std::max(bank.activate_from, start + p_.rp + p_.rfc);
            bank.open = false;
        }
        next_refresh_ += p_.refi;
    }
};

}  // namespace tailrace

#endif
