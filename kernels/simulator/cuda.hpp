// What CUDA C++ has built in, for the host's compiler: qualifiers, vector types, intrinsics.
// Kernels may use what is here; whoever needs more adds it, as the CUDA programming guide says.

#pragma once

#include <math.h>

#include "runtime.hpp"

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __shared__ SHARED_MEMORY_MUST_BE_DYNAMIC_SEE_prelude_cuh
#ifndef __CUDA_ARCH__
#define __CUDA_ARCH__ GPUNN_SIMULATED_ARCH
#endif

#define SHARED_MEMORY(T, name) T *name = reinterpret_cast<T *>(simulator::shared_memory())

static const int warpSize = simulator::LANES;

// Barriers

inline void __syncthreads(GPUNN_PLACE) { simulator::block_barrier(place); }

inline void __syncwarp(unsigned mask = 0xffffffffu, GPUNN_PLACE)
{
    int nothing = 0;
    simulator::warp_exchange(simulator::SYNC_WARP, mask, nothing, place,
                             [](int *const *, unsigned) {});
}

inline void __threadfence() {}
inline void __threadfence_block() {}

// Shuffles: `width` is a power of two; lanes beyond their part of the warp return their own value.

namespace simulator {

template <typename T> struct Shuffle {
    T value, result;
    int source;
};

template <typename T> inline T shuffle(unsigned mask, T value, int source, Place place)
{
    Shuffle<T> mine = {value, value, source};
    warp_exchange(SHUFFLE, mask, mine, place, [place](Shuffle<T> *const *lanes, unsigned all) {
        for (unsigned left = all; left; left &= left - 1) {
            Shuffle<T> &lane = *lanes[__builtin_ctz(left)];
            if (!(all >> lane.source & 1u))
                fail("a shuffle (%s:%d) with mask 0x%08x reads lane %d", GPUNN_AT(place), all,
                     lane.source);
            lane.result = lanes[lane.source]->value;
        }
    });
    return mine.result;
}

}  // namespace simulator

template <typename T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, GPUNN_PLACE)
{
    const int lane = simulator::lane_number();
    return simulator::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), place);
}

template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, GPUNN_PLACE)
{
    const int lane = simulator::lane_number(), source = lane ^ bits;
    return simulator::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, place);
}

template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, GPUNN_PLACE)
{
    const int lane = simulator::lane_number();
    const bool inside = (lane & (width - 1)) + by < (unsigned)width;
    return simulator::shuffle(mask, value, inside ? lane + (int)by : lane, place);
}

template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, GPUNN_PLACE)
{
    const int lane = simulator::lane_number();
    const bool inside = (unsigned)(lane & (width - 1)) >= by;
    return simulator::shuffle(mask, value, inside ? lane - (int)by : lane, place);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, GPUNN_PLACE)
{
    struct Vote {
        bool mine;
        unsigned all;
    } vote = {predicate != 0, 0};
    const auto count = [](Vote *const *lanes, unsigned all) {
        unsigned result = 0;
        for (unsigned left = all; left; left &= left - 1)
            result |= (unsigned)lanes[__builtin_ctz(left)]->mine << __builtin_ctz(left);
        for (unsigned left = all; left; left &= left - 1)
            lanes[__builtin_ctz(left)]->all = result;
    };
    simulator::warp_exchange(simulator::VOTE, mask, vote, place, count);
    return vote.all;
}

inline int __any_sync(unsigned mask, int predicate, GPUNN_PLACE)
{
    return __ballot_sync(mask, predicate, place) != 0;
}

inline int __all_sync(unsigned mask, int predicate, GPUNN_PLACE)
{
    return __ballot_sync(mask, predicate, place) == mask;
}

// Which lanes are together at an instant says nothing about what comes next: all that still run.
inline unsigned __activemask()
{
    const simulator::Thread &self = *simulator::current;
    return ~self.block->warps[self.linear / simulator::LANES].left;
}

// Bits and numbers

template <typename T> inline T __ldg(const T *address) { return *address; }

template <typename To, typename From> inline To gpunn_bits(From value)
{
    static_assert(sizeof(To) == sizeof(From), "sizes differ");
    To result;
    __builtin_memcpy(&result, &value, sizeof(To));
    return result;
}
inline unsigned __float_as_uint(float x) { return gpunn_bits<unsigned>(x); }
inline int __float_as_int(float x) { return gpunn_bits<int>(x); }
inline float __uint_as_float(unsigned x) { return gpunn_bits<float>(x); }
inline float __int_as_float(int x) { return gpunn_bits<float>(x); }
inline long long __double_as_longlong(double x) { return gpunn_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return gpunn_bits<double>(x); }

inline float __fmaf_rn(float a, float b, float c) { return ::fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return ::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float rsqrtf(float x) { return 1.0f / ::sqrtf(x); }
inline float rsqrt(float x) { return 1.0f / ::sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / ::sqrt(x); }

inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((unsigned long long)a * b >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x)
{
    unsigned result = 0;
    for (int bit = 0; bit < 32; ++bit)
        result |= (x >> bit & 1u) << (31 - bit);
    return result;
}

#define GPUNN_EXTREMES(T)                                  \
    inline T min(T a, T b) { return b < a ? b : a; }       \
    inline T max(T a, T b) { return a < b ? b : a; }
GPUNN_EXTREMES(int)
GPUNN_EXTREMES(unsigned)
GPUNN_EXTREMES(long long)
GPUNN_EXTREMES(unsigned long long)
inline float min(float a, float b) { return ::fminf(a, b); }
inline float max(float a, float b) { return ::fmaxf(a, b); }
inline double min(double a, double b) { return ::fmin(a, b); }
inline double max(double a, double b) { return ::fmax(a, b); }
