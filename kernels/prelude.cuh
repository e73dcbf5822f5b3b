// What every kernel file includes first: types, shared memory, and how a kernel is declared.
//
// Nothing from the CUDA toolkit is included anywhere in this folder, so NVRTC compiles it where
// only the compiler's wheel is installed. The same text is compiled as C++ for the host by the
// simulator (simulator/), which defines GPUNN_SIMULATOR and supplies what CUDA has built in.
//
// GPUNN_REAL is the type of parameters and activations: float, or double for gradient checks.

#pragma once

#ifndef GPUNN_REAL
#define GPUNN_REAL float
#endif

typedef GPUNN_REAL real;
typedef unsigned char uint8;
typedef unsigned int uint32;
typedef long long int64;
typedef unsigned long long uint64;

#define DEVICE __device__ __forceinline__
// `threads` is the largest block it is launched with.
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)

// KERNEL, with the number of blocks that a multiprocessor must be able to hold: that bounds the
// registers, which the compiler else saves at the price of spills. The simulator has none.
#ifdef GPUNN_SIMULATOR
#define BOUNDED_KERNEL(threads, blocks) KERNEL(threads)
#else
#define BOUNDED_KERNEL(threads, blocks) \
    extern "C" __global__ void __launch_bounds__(threads, blocks)
#endif

// All shared memory is dynamic: the host gives its size, so the simulator knows where it ends.
// A kernel has one such array and divides it up itself; T is a type of at most 16 bytes.
#ifndef GPUNN_SIMULATOR
#define SHARED_MEMORY(T, name)                                     \
    extern __shared__ __align__(16) unsigned char gpunn_shared[];  \
    T *name = reinterpret_cast<T *>(gpunn_shared)
#endif

static const uint32 FULL_MASK = 0xffffffffu;
static const int WARP = 32;

template <typename T> DEVICE T minimum(T a, T b) { return b < a ? b : a; }
template <typename T> DEVICE T maximum(T a, T b) { return a < b ? b : a; }
DEVICE int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Grid-stride loops: for (int64 i = first_index(); i < size; i += index_stride())
DEVICE int64 first_index() { return (int64)blockIdx.x * blockDim.x + threadIdx.x; }
DEVICE int64 index_stride() { return (int64)gridDim.x * blockDim.x; }

#include "dependent_launch.cuh"
