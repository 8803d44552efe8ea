// Threads that share the rows of a product.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tailrace {

class Threads {
public:
    using Job = std::function<void(int64_t, int64_t)>;

    explicit Threads(int count) {
        for (int n = 1; n < count; ++n) workers_.emplace_back([this] { work(); });
    }

    ~Threads() {
        {
            std::lock_guard lock(mutex_);
            ending_ = true;
            rounds_.fetch_add(1, std::memory_order_release);
        }
        begun_.notify_all();
        for (auto& worker : workers_) worker.join();
    }

    // Do job(first, last) for all of 0 to count - 1, in pieces of `piece`. Returns when all are done.
    //
    // A worker that the system does not let run in time is not waited for: what it does not take, others do.
    void share(int64_t count, int64_t piece, const Job& job) {
        if (workers_.empty() || count <= piece) {
            job(0, count);
            return;
        }
        {
            std::lock_guard lock(mutex_);
            job_ = &job;
            count_ = count;
            piece_ = piece;
            next_.store(0, std::memory_order_relaxed);
            rounds_.fetch_add(1, std::memory_order_release);
        }
        begun_.notify_all();
        take_pieces(job, count, piece);
        std::unique_lock lock(mutex_);
        job_ = nullptr;
        ended_.wait(lock, [this] { return working_ == 0; });
    }

private:
    void take_pieces(const Job& job, int64_t count, int64_t piece) {
        for (;;) {
            const int64_t first = next_.fetch_add(piece, std::memory_order_relaxed);
            if (first >= count) return;
            job(first, std::min(first + piece, count));
        }
    }

    void work() {
        uint64_t seen = 0;
        for (;;) {
            look_for_work(seen);
            std::unique_lock lock(mutex_);
            begun_.wait(lock, [&] { return rounds_.load(std::memory_order_relaxed) != seen; });
            seen = rounds_.load(std::memory_order_relaxed);
            if (ending_) return;
            if (!job_) continue;
            const Job& job = *job_;
            const int64_t count = count_, piece = piece_;
            ++working_;
            lock.unlock();
            take_pieces(job, count, piece);
            lock.lock();
            if (--working_ == 0) ended_.notify_one();
        }
    }

    // A decode step has a product every few microseconds, and waking takes longer: look for a while before going to sleep.
    void look_for_work(uint64_t seen) const {
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(LOOK_MICROSECONDS);
        do {
            for (int look = 0; look < LOOKS; ++look) {
                if (rounds_.load(std::memory_order_acquire) != seen) return;
                pause();
            }
        } while (std::chrono::steady_clock::now() < end);
    }

    static void pause() {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
    }

    // Longer than the vector unit's work between two products mostly takes.
    static constexpr int LOOK_MICROSECONDS = 100, LOOKS = 50;

    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable begun_, ended_;
    const Job* job_ = nullptr;
    int64_t count_ = 0, piece_ = 1;
    int working_ = 0;
    std::atomic<int64_t> next_{0};
    std::atomic<uint64_t> rounds_{0};
    bool ending_ = false;
};

}  // namespace tailrace
