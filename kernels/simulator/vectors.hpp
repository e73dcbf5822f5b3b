// CUDA's vector types, aligned as on the device.

#pragma once

#define __align__(n) __attribute__((aligned(n)))

#define GPUNN_VECTORS(T, name, align2, align4)                                             \
    struct name##1 { T x; };                                                               \
    struct __align__(align2) name##2 { T x, y; };                                          \
    struct name##3 { T x, y, z; };                                                         \
    struct __align__(align4) name##4 { T x, y, z, w; };                                    \
    inline name##2 make_##name##2(T x, T y) { return name##2{x, y}; }                      \
    inline name##3 make_##name##3(T x, T y, T z) { return name##3{x, y, z}; }              \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return name##4{x, y, z, w}; }

GPUNN_VECTORS(unsigned, uint, 8, 16)
GPUNN_VECTORS(int, int, 8, 16)
GPUNN_VECTORS(float, float, 8, 16)
GPUNN_VECTORS(double, double, 16, 16)
GPUNN_VECTORS(char, char, 2, 4)
GPUNN_VECTORS(unsigned char, uchar, 2, 4)
GPUNN_VECTORS(short, short, 4, 8)
GPUNN_VECTORS(unsigned short, ushort, 4, 8)
GPUNN_VECTORS(long long, longlong, 16, 16)
GPUNN_VECTORS(unsigned long long, ulonglong, 16, 16)

typedef uint3 dim3;
