// Copies from global to shared memory that go on while the thread computes (cp.async, sm_80 and
// later; before that they are plain copies).
//
//   copy_async_4, _8, _16(shared, global, valid)   start a copy of so many bytes, aligned to as
//                                                  many; zeros, and nothing read, if not valid
//   copy_async_commit()                            the copies since the last commit are one group
//   copy_async_wait<N>()                           wait until at most the N latest groups are
//                                                  under way
//
// A wait is for the thread's own copies; other threads see them after the next __syncthreads().

#pragma once

#include "prelude.cuh"

#ifdef GPUNN_SIMULATOR
#include "simulator/async_copy.hpp"
#else

#if __CUDA_ARCH__ >= 800
#define GPUNN_COPY_ASYNC(name, nbytes, cache, T, zero)                                    \
    DEVICE void name(void *shared, const void *global, bool valid)                        \
    {                                                                                     \
        const uint32 to = (uint32)__cvta_generic_to_shared(shared);                       \
        const int size = valid ? nbytes : 0;                                              \
        asm volatile("cp.async." #cache ".shared.global [%0], [%1], " #nbytes ", %2;"     \
                     : : "r"(to), "l"(global), "r"(size) : "memory");                     \
    }
#else
#define GPUNN_COPY_ASYNC(name, nbytes, cache, T, zero)                                    \
    DEVICE void name(void *shared, const void *global, bool valid)                        \
    {                                                                                     \
        *(T *)shared = valid ? *(const T *)global : zero;                                 \
    }
#endif

GPUNN_COPY_ASYNC(copy_async_4, 4, ca, uint32, 0u)
GPUNN_COPY_ASYNC(copy_async_8, 8, ca, uint2, make_uint2(0u, 0u))
GPUNN_COPY_ASYNC(copy_async_16, 16, cg, uint4, make_uint4(0u, 0u, 0u, 0u))

DEVICE void copy_async_commit()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}

template <int N> DEVICE void copy_async_wait()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" : : "n"(N) : "memory");
#endif
}

#endif
