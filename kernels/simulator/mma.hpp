// The simulator's part of ../mma.cuh: roundings bit by bit, products by the last lane to arrive.

#pragma once

DEVICE uint32 to_tf32(float value)
{
    const uint32 bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return 0x7fffffffu;  // NaN
    if ((bits & 0x7f800000u) == 0x7f800000u)
        return bits;  // infinite
    return (bits + 0x1000u) & 0xffffe000u;
}

DEVICE uint32 simulator_to_bf16(float value)
{
    const uint32 bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return 0x7fffu;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

DEVICE uint32 to_bf16x2(float low, float high)
{
    return simulator_to_bf16(low) | simulator_to_bf16(high) << 16;
}

namespace simulator {

struct Fragments {
    float *d;
    const uint32 *a, *b;
};

// K is the depth of the product; `load` brings a lane's words to their places in a and b.
template <int K, typename Load> inline void multiply(Fragments *const *lanes, Load load)
{
    float a[16][K], b[K][8], d[16][8];
    for (int lane = 0; lane < LANES; ++lane) {
        const int group = lane / 4, pair = lane % 4;
        const Fragments &own = *lanes[lane];
        load(own, group, pair, a, b);
        for (int i = 0; i < 4; ++i)
            d[group + 8 * (i / 2)][2 * pair + i % 2] = own.d[i];
    }
    for (int row = 0; row < 16; ++row)
        for (int k = 0; k < K; ++k)
            for (int column = 0; column < 8; ++column)
                d[row][column] += a[row][k] * b[k][column];
    for (int lane = 0; lane < LANES; ++lane)
        for (int i = 0; i < 4; ++i)
            lanes[lane]->d[i] = d[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
}

inline float tf32_value(uint32 word) { return __uint_as_float(word & 0xffffe000u); }
inline float bf16_value(uint32 word, int half) { return __uint_as_float(word >> 16 * half << 16); }

}  // namespace simulator

inline void mma_tf32_16x8x8(float d[4], const uint32 a[4], const uint32 b[2], GPUNN_PLACE)
{
    using namespace simulator;
    const auto load = [](const Fragments &own, int group, int pair, float (&to_a)[16][8],
                         float (&to_b)[8][8]) {
        for (int i = 0; i < 4; ++i)
            to_a[group + 8 * (i % 2)][pair + 4 * (i / 2)] = tf32_value(own.a[i]);
        for (int i = 0; i < 2; ++i)
            to_b[pair + 4 * i][group] = tf32_value(own.b[i]);
    };
    Fragments mine = {d, a, b};
    warp_exchange(MATRIX, FULL_MASK, mine, place,
                  [=](Fragments *const *lanes, uint32) { multiply<8>(lanes, load); });
}

inline void mma_bf16_16x8x16(float d[4], const uint32 a[4], const uint32 b[2], GPUNN_PLACE)
{
    using namespace simulator;
    const auto load = [](const Fragments &own, int group, int pair, float (&to_a)[16][16],
                         float (&to_b)[16][8]) {
        for (int half = 0; half < 2; ++half) {
            for (int i = 0; i < 4; ++i)
                to_a[group + 8 * (i % 2)][2 * pair + 8 * (i / 2) + half] =
                    bf16_value(own.a[i], half);
            for (int i = 0; i < 2; ++i)
                to_b[2 * pair + 8 * i + half][group] = bf16_value(own.b[i], half);
        }
    };
    Fragments mine = {d, a, b};
    warp_exchange(MATRIX, FULL_MASK, mine, place,
                  [=](Fragments *const *lanes, uint32) { multiply<16>(lanes, load); });
}
