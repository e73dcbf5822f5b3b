// Philox4x32-10 and dropout, as in gpunn/randomness (which gives sources and the layout of key
// and counter). Value i of a buffer belongs to word i % 4 of group i / 4.

#pragma once

#include "tiles.cuh"

struct Words {
    uint32 word[4];
};

DEVICE Words philox(uint32 c0, uint32 c1, uint32 c2, uint32 c3, uint32 k0, uint32 k1)
{
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const uint64 p0 = (uint64)c0 * 0xD2511F53u, p1 = (uint64)c2 * 0xCD9E8D57u;
        c0 = (uint32)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32)p1;
        c2 = (uint32)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Words{{c0, c1, c2, c3}};
}

DEVICE Words philox_group(uint64 seed, uint64 step, uint32 stream, uint32 group)
{
    return philox(group, (uint32)step, (uint32)(step >> 32), stream, (uint32)seed,
                  (uint32)(seed >> 32));
}

// Dropout of one layer in one step. `rate` null: there is none, everything is kept unchanged.
struct Dropout {
    uint64 seed, step;
    uint32 stream, threshold;
    int64 group;  // whose words are in `words`; -1: of none yet
    real keep_share;  // 1 - rate
    real scale;       // 1 / (1 - rate)
    bool active;
    Words words;

    DEVICE Dropout(const uint64 *seeds, const int64 *steps, const float *rate, uint32 stream_id)
        : seed(0), step(0), stream(stream_id), threshold(0), group(-1), keep_share(1), scale(1),
          active(rate != 0), words{{0, 0, 0, 0}}
    {
        if (!active)
            return;
        seed = seeds[0];
        step = (uint64)steps[0];
        threshold = (uint32)(rate[0] * 4294967296.0f);  // exact: a power of two, rounded down
        keep_share = real(1) - real(rate[0]);
        scale = real(1) / keep_share;
    }

    // Whether value i is kept. A thread that asks for neighbours computes their words once.
    DEVICE bool keeps(int64 i)
    {
        if (!active)
            return true;
        if (i / 4 != group) {
            group = i / 4;
            words = philox_group(seed, step, stream, (uint32)group);
        }
        return word(words, (int)(i % 4)) >= threshold;
    }

    // The same for values i .. i + N - 1 at once, without memory of other calls. N is 1 or 4, and
    // i a multiple of N. Where they are not drawn, all are kept.
    template <int N> DEVICE Values<bool, N> keeps(int64 i, bool draws) const
    {
        Values<bool, N> kept;
        Words drawn = {};
        if (draws)
            drawn = philox_group(seed, step, stream, (uint32)(i / 4));
#pragma unroll
        for (int k = 0; k < N; ++k)
            kept.value[k] = !draws || word(drawn, N == 4 ? k : (int)(i % 4)) >= threshold;
        return kept;
    }

    DEVICE real apply(real value, int64 i) { return keeps(i) ? value * scale : real(0); }

private:
    static DEVICE uint32 word(const Words &words, int w)
    {
        // No array index: that would put the words into memory.
        return w < 2 ? (w == 0 ? words.word[0] : words.word[1])
                     : (w == 2 ? words.word[2] : words.word[3]);
    }
};
