// Loops over flat arrays of parameters, gradients and optimizer slots: 16 bytes at a time where
// all arrays are aligned so, as the plan's regions are, and one by one for what is left over.

#pragma once

#include "prelude.cuh"

static const int PACK = 16 / sizeof(real);

struct alignas(16) Pack {
    real value[PACK];
};

// Null is aligned.
DEVICE bool aligned(const void *p) { return ((uint64)p & 15) == 0; }

DEVICE Pack load_pack(const real *values, int64 i)
{
    return values ? reinterpret_cast<const Pack *>(values)[i] : Pack{};
}

DEVICE void store_pack(real *values, int64 i, const Pack &pack)
{
    if (values)
        reinterpret_cast<Pack *>(values)[i] = pack;
}

// visit(value) for the values of this thread, in a grid-stride loop.
template <typename Visit> DEVICE void visit_each(Visit &visit, const real *values, int64 size)
{
    const int64 packs = aligned(values) ? size / PACK : 0;
    for (int64 i = first_index(); i < packs; i += index_stride()) {
        const Pack pack = load_pack(values, i);
#pragma unroll
        for (int k = 0; k < PACK; ++k)
            visit(pack.value[k]);
    }
    for (int64 i = packs * PACK + first_index(); i < size; i += index_stride())
        visit(values[i]);
}

// rule(target, source, a, b, c) for the values of this thread, in a grid-stride loop: it changes
// all but `source`. Every array but `target` may be null; its values are then 0 and go nowhere.
// rule.prepare() is called once by every thread of the block, when its first values are on their
// way: what it reads or computes comes at no time of its own.
template <typename Rule>
DEVICE void update_each(Rule &rule, real *target, const real *source, real *a, real *b, real *c,
                        int64 size)
{
    const bool packed =
        aligned(target) && aligned(source) && aligned(a) && aligned(b) && aligned(c);
    const int64 packs = packed ? size / PACK : 0;
    Pack w = {}, g = {}, x = {}, y = {}, z = {};
    int64 i = first_index();
    if (i < packs) {
        w = load_pack(target, i);
        g = load_pack(source, i);
        x = load_pack(a, i);
        y = load_pack(b, i);
        z = load_pack(c, i);
    }
    rule.prepare();
#pragma unroll 1  // most often there is one turn
    while (i < packs) {
#pragma unroll
        for (int k = 0; k < PACK; ++k)
            rule(w.value[k], g.value[k], x.value[k], y.value[k], z.value[k]);
        store_pack(target, i, w);
        store_pack(a, i, x);
        store_pack(b, i, y);
        store_pack(c, i, z);
        i += index_stride();
        if (i < packs) {
            w = load_pack(target, i);
            g = load_pack(source, i);
            x = load_pack(a, i);
            y = load_pack(b, i);
            z = load_pack(c, i);
        }
    }
#pragma unroll 1
    for (i = packs * PACK + first_index(); i < size; i += index_stride()) {
        real w1 = target[i], g1 = source ? source[i] : real(0);
        real x1 = a ? a[i] : real(0), y1 = b ? b[i] : real(0), z1 = c ? c[i] : real(0);
        rule(w1, g1, x1, y1, z1);
        target[i] = w1;
        if (a)
            a[i] = x1;
        if (b)
            b[i] = y1;
        if (c)
            c[i] = z1;
    }
}
