// The simulator's part of ../async_copy.cuh. A copy happens as late as it may, when the thread
// waits for it; until then the place holds NaN. So a missing or early-ended wait shows.

#pragma once

inline void copy_async_4(void *shared, const void *global, bool valid, GPUNN_PLACE)
{
    simulator::start_copy(shared, valid ? global : nullptr, 4, place);
}

inline void copy_async_8(void *shared, const void *global, bool valid, GPUNN_PLACE)
{
    simulator::start_copy(shared, valid ? global : nullptr, 8, place);
}

inline void copy_async_16(void *shared, const void *global, bool valid, GPUNN_PLACE)
{
    simulator::start_copy(shared, valid ? global : nullptr, 16, place);
}

inline void copy_async_commit() { simulator::commit_copies(); }

template <int N> inline void copy_async_wait() { simulator::finish_copies(N); }
