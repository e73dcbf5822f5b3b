// Products of small matrices by the 32 lanes of a warp together (tensor cores, sm_80 and later).
//
//   d += a @ b     mma_tf32_16x8x8    a (16, 8), b (8, 8), d (16, 8)
//                  mma_bf16_16x8x16   a (16, 16), b (16, 8), d (16, 8)
//
// Operands are rounded to TF32 (10 bits of fraction) or bfloat16 (7), sums are float. All lanes of
// the warp call together. Which lane holds what (PTX ISA, "Matrix Fragments for mma.m16n8k8" and
// "...m16n8k16"), with group = lane / 4 and pair = lane % 4, as (row, column):
//
//   d[i]          (group + 8 * (i / 2), 2 * pair + i % 2)
//   tf32 a[i]     (group + 8 * (i % 2), pair + 4 * (i / 2))
//   tf32 b[i]     (pair + 4 * i, group)
//   bf16 a[i]     (group + 8 * (i % 2), 2 * pair + 8 * (i / 2)), the next column in the high half
//   bf16 b[i]     (2 * pair + 8 * i, group), the next row in the high half

#pragma once

#include "prelude.cuh"

#ifdef GPUNN_SIMULATOR
#include "simulator/mma.hpp"
#elif __CUDA_ARCH__ >= 800

// Nearest TF32; halfway cases go away from zero.
DEVICE uint32 to_tf32(float value)
{
    uint32 result;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(result) : "f"(value));
    return result;
}

// Nearest bfloat16 of two values, `low` in the lower half; halfway cases go to the even one.
DEVICE uint32 to_bf16x2(float low, float high)
{
    uint32 result;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
}

DEVICE void mma_tf32_16x8x8(float d[4], const uint32 a[4], const uint32 b[2])
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

DEVICE void mma_bf16_16x8x16(float d[4], const uint32 a[4], const uint32 b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
