// The simulator's runtime, compiled once and linked to every compiled kernel file.

#include "memory.hpp"
#include "scheduler.hpp"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace simulator {

Thread *current;
const Launch *launched;

template <typename T> static bool make_room(T *&array, int64_t &room, int64_t wanted)
{
    if (wanted <= room)
        return true;
    T *larger = (T *)realloc((void *)array, wanted * sizeof(T));
    if (!larger)
        return false;
    memset((void *)(larger + room), 0, (wanted - room) * sizeof(T));
    array = larger;
    room = wanted;
    return true;
}

// Memory for blocks and threads, kept for the next launch.
struct Room {
    int64_t threads, blocks, ready, order, shared;
    char *shared_memory;
};
static Room room;

// What the places of threads depend on; they are computed anew only if it has changed.
struct Layout {
    const Block *blocks;
    int64_t total;
    uint32_t block[3];
};
static Layout layout;

// Room for `count` blocks alive at once.
static bool reserve(const Launch &launch, int64_t count)
{
    const uint32_t width = launch.block[0], height = launch.block[1], threads = state.block_threads;
    const int64_t total = count * threads, old_blocks = room.blocks;
    const int64_t stride = (2 * (int64_t)GUARD_BYTES + launch.shared + 127) / 128 * 128;
    if (!make_room(state.threads, room.threads, total)
        || !make_room(state.blocks, room.blocks, count)
        || !make_room(state.ready, room.ready, total) || !make_room(state.order, room.order, total)
        || !make_room(room.shared_memory, room.shared, stride * count + 128))
        return false;
    state.ready_room = (int)room.ready;
    for (int64_t b = old_blocks; b < room.blocks; ++b)
        if (!(state.blocks[b].warps = (Warp *)malloc(MAX_WARPS * sizeof(Warp))))
            return false;
    char *base = (char *)(((uintptr_t)room.shared_memory + 127) / 128 * 128);
    for (int64_t b = 0; b < count; ++b)
        state.blocks[b].shared = base + b * stride + GUARD_BYTES;
    if (layout.blocks == state.blocks && layout.total >= total
        && !memcmp(layout.block, launch.block, sizeof layout.block))
        return true;
    for (int64_t t = 0; t < total; ++t) {
        Thread &thread = state.threads[t];
        const uint32_t linear = (uint32_t)(t % threads);
        thread.block = state.blocks + t / threads;
        thread.linear = (int)linear;
        thread.index = uint3{linear % width, linear / width % height, linear / width / height};
        thread.wait = NOTHING;
    }
    layout = Layout{state.blocks, total, {width, height, launch.block[2]}};
    return true;
}

static void begin_block(Block &block, int64_t number, const Launch &launch)
{
    const uint32_t *grid = launch.grid;
    block.index = uint3{(uint32_t)(number % grid[0]), (uint32_t)(number / grid[0] % grid[1]),
                        (uint32_t)(number / grid[0] / grid[1])};
    block.threads = state.block_threads;
    block.arrived = block.left = 0;
    block.opened = false;
    const int warps = (block.threads + LANES - 1) / LANES;
    for (int w = 0; w < warps; ++w)
        block.warps[w].groups = (int)(block.warps[w].left = 0);
    if (block.threads % LANES)  // lanes that never were
        block.warps[warps - 1].left = ~0u << block.threads % LANES;
}

static int64_t common_divisor(int64_t a, int64_t b) { return b ? common_divisor(b, a % b) : a; }

int run_launch(Launch &launch, const Kernel &kernel)
{
    const int64_t blocks = (int64_t)launch.grid[0] * launch.grid[1] * launch.grid[2];
    const int64_t alive = launch.cooperative ? blocks : 1;
    launched = &launch;
    state.kernel = &kernel;
    state.failed = false;
    state.random = launch.seed;
    state.block_threads = (int)(launch.block[0] * launch.block[1] * launch.block[2]);
    blockDim = dim3{launch.block[0], launch.block[1], launch.block[2]};
    gridDim = dim3{launch.grid[0], launch.grid[1], launch.grid[2]};
    if (!reserve(launch, alive)) {
        snprintf(launch.message, launch.message_size, "no memory for its threads");
        return 1;
    }
    // Block number i is multiplier * i + start, modulo their number: a permutation.
    int64_t start = 0, multiplier = 1;
    if (launch.shuffled && blocks > 1) {
        start = (int64_t)(random_word() % (uint64_t)blocks);
        do
            multiplier = 1 + random_below(blocks < 1 << 30 ? (int)blocks : 1 << 30);
        while (common_divisor(multiplier, blocks) != 1);
    }
    for (int64_t done = 0; done < blocks; done += alive) {
        for (int64_t b = 0; b < alive; ++b)
            begin_block(state.blocks[b], (start + multiplier * (done + b)) % blocks, launch);
        state.total = state.live = (int)(alive * state.block_threads);
        state.started = state.grid_arrived = 0;
        state.ready_first = state.ready_count = 0;
        if (launch.shuffled)
            for (int t = 0; t < state.total; ++t) {
                const int other = random_below(t + 1);
                state.order[t] = state.order[other];
                state.order[other] = t;
            }
        Fiber *first = idle_fiber();
        if (!first) {
            snprintf(launch.message, launch.message_size, "no memory for a thread's stack");
            return 1;
        }
        state.running = first;
        switch_context(state.main, first->context);
        if (state.failed) {
            layout = Layout();
            state.idle_count = 0;
            for (int f = 0; f < state.fiber_count; ++f) {
                start_fiber(state.fibers[f], f, fiber_main);
                state.idle[state.idle_count++] = state.fibers[f];
            }
            return 1;
        }
        int64_t offset = 0;
        for (int64_t b = 0; b < alive; ++b)
            if (state.blocks[b].opened
                && !guards_hold(state.blocks[b].shared, launch.shared, offset)) {
                launch.damaged = -1;
                launch.damaged_offset = offset;
                return 2;
            }
    }
    for (int m = 0; m < launch.memories; ++m)
        if (!guards_hold(launch.memory[m].start, launch.memory[m].nbytes, launch.damaged_offset)) {
            launch.damaged = m;
            return 2;
        }
    return 0;
}

}  // namespace simulator
