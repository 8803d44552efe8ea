// Threads that share the rows of a product.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tailrace {

class Threads {
public:
    explicit Threads(int count) {
        for (int n = 1; n < count; ++n) workers_.emplace_back([this] { work(); });
    }

    ~Threads() {
        {
            std::lock_guard lock(mutex_);
            ending_ = true;
            ++round_;
        }
        begun_.notify_all();
        for (auto& worker : workers_) worker.join();
    }

    // Do job(first, last) for all of 0 to count - 1, in pieces of `piece`. Returns when all are done.
    void share(int64_t count, int64_t piece, const std::function<void(int64_t, int64_t)>& job) {
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
            busy_.store(int(workers_.size()), std::memory_order_relaxed);
            round_.fetch_add(1, std::memory_order_release);
        }
        begun_.notify_all();
        take_pieces();
        // The others finish within a piece of this one.
        while (busy_.load(std::memory_order_acquire)) std::this_thread::yield();
    }

private:
    void take_pieces() {
        for (;;) {
            const int64_t first = next_.fetch_add(piece_, std::memory_order_relaxed);
            if (first >= count_) return;
            (*job_)(first, std::min(first + piece_, count_));
        }
    }

    void work() {
        uint64_t seen = 0;
        for (;;) {
            // A decode step has a product every few microseconds: look for it for a while before going to sleep.
            for (int look = 0; look < 2000 && round_.load(std::memory_order_acquire) == seen; ++look) std::this_thread::yield();
            if (round_.load(std::memory_order_acquire) == seen) {
                std::unique_lock lock(mutex_);
                begun_.wait(lock, [&] { return round_.load(std::memory_order_relaxed) != seen; });
            }
            seen = round_.load(std::memory_order_acquire);
            if (ending_) return;
            take_pieces();
            busy_.fetch_sub(1, std::memory_order_release);
        }
    }

    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable begun_;
    const std::function<void(int64_t, int64_t)>* job_ = nullptr;
    int64_t count_ = 0, piece_ = 1;
    std::atomic<int64_t> next_{0};
    std::atomic<int> busy_{0};
    std::atomic<uint64_t> round_{0};
    bool ending_ = false;
};

}  // namespace tailrace
