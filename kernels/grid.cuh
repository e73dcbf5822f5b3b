// A barrier of all threads of a cooperative launch, whose blocks all run at once.
//
// `state` is one word of global memory that is 0 before the first launch that uses it. Each
// barrier brings its low 31 bits back to 0 and turns its highest bit around, so nobody resets it:
// not between barriers, nor between launches of any shape. Launches that run at the same time need
// words of their own. Everything written before the barrier, by any thread, is seen after it.

#pragma once

#include "prelude.cuh"

#ifdef GPUNN_SIMULATOR

inline void grid_barrier(uint32 *state, GPUNN_PLACE) { simulator::grid_barrier(state, place); }

#else

DEVICE void grid_barrier(uint32 *state)
{
    __syncthreads();
    if (threadIdx.x + threadIdx.y + threadIdx.z == 0) {
        // All blocks but one add 1, and that one what is missing to 2**31.
        const uint32 blocks = gridDim.x * gridDim.y * gridDim.z;
        const bool first = blockIdx.x + blockIdx.y + blockIdx.z == 0;
        const uint32 add = first ? 0x80000000u - (blocks - 1) : 1u;
        uint32 before, now;
        __threadfence();
        asm volatile("atom.add.acq_rel.gpu.u32 %0, [%1], %2;"
                     : "=r"(before) : "l"(state), "r"(add) : "memory");
        do {
            asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(now) : "l"(state) : "memory");
        } while (((before ^ now) & 0x80000000u) == 0);
        __threadfence();
    }
    __syncthreads();
}

#endif
