// Runs the threads of a launch as fibers, and stops it where CUDA would hang or go astray.
//
// Blocks run one after another; those of a cooperative launch are alive all at once. A fiber takes
// threads one by one and runs each to its end, so threads that never wait share one stack. A
// thread that has to wait keeps its fiber, and the next thread that can run goes on: one that
// waited, or else a new one on another fiber. If there is none, the launch has failed.
//
// With a seed, the next thread is drawn at random from all that can run, and so is the order of
// blocks: what a kernel computes must not depend on it.

#pragma once

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "context.hpp"
#include "runtime.hpp"

namespace simulator {

static const char *const WAIT_NAMES[] = {
    "", "__syncthreads", "grid_barrier", "__syncwarp", "a shuffle", "a vote", "mma",
    "warp_exchange",
};


struct State {
    const Kernel *kernel;
    Context main;
    bool failed;

    Thread *threads;
    Block *blocks;
    int total, started, live;  // threads of the blocks that are alive
    int block_threads, grid_arrived;
    Place grid_place;
    int *order;      // in which threads start, with a seed
    Thread **ready;  // a ring; with a seed, a bag
    int ready_first, ready_count, ready_room;

    Fiber **fibers, **idle;
    int fiber_count, idle_count, fiber_room;
    Fiber *running;
    char *stacks;

    uint64_t random;
};
static State state;

// Random order

static uint64_t random_word()
{
    uint64_t z = (state.random += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

static int random_below(int n) { return (int)((random_word() >> 32) * (uint64_t)n >> 32); }

// Failures

void fail(const char *format, ...)
{
    const Launch &launch = *launched;
    const Block &block = *current->block;
    int used = snprintf(launch.message, launch.message_size, "block (%u, %u, %u): ", block.index.x,
                        block.index.y, block.index.z);
    va_list values;
    va_start(values, format);
    vsnprintf(launch.message + used, launch.message_size - used, format, values);
    va_end(values);
    state.failed = true;
    Fiber *self = state.running;
    state.running = nullptr;
    switch_context(self->context, state.main);
    abort();  // never resumed
}

static bool same(Place a, Place b) { return a.line == b.line && !strcmp(a.file, b.file); }

[[noreturn]] static void fail_deadlock()
{
    struct Count {
        Wait wait;
        Place place;
        int threads;
    } counts[8];
    int kinds = 0, left = 0;
    for (int t = 0; t < state.total; ++t) {
        const Thread &thread = state.threads[t];
        if (thread.wait == NOTHING) {
            ++left;
            continue;
        }
        int k = 0;
        while (k < kinds && !(counts[k].wait == thread.wait && same(counts[k].place, thread.place)))
            ++k;
        if (k == kinds && kinds < 8)
            counts[kinds++] = Count{thread.wait, thread.place, 0};
        if (k < kinds)
            ++counts[k].threads;
    }
    char text[1024];
    int used = 0;
    for (int k = 0; k < kinds && used < (int)sizeof text - 200; ++k)
        used += snprintf(text + used, sizeof text - used, "%s%d at %s (%.80s:%d)", k ? ", " : "",
                         counts[k].threads, WAIT_NAMES[counts[k].wait], GPUNN_AT(counts[k].place));
    fail("no thread can go on: %s; %d have left", text, left);
}

// Scheduling

static void make_ready(Thread *thread)
{
    thread->wait = NOTHING;
    int at = state.ready_first + state.ready_count++;
    if (at >= state.ready_room)
        at -= state.ready_room;
    state.ready[at] = thread;
}

static Thread *take_ready()
{
    if (launched->shuffled) {  // a bag: its first place is always 0
        const int at = random_below(state.ready_count);
        Thread *thread = state.ready[at];
        state.ready[at] = state.ready[--state.ready_count];
        return thread;
    }
    Thread *thread = state.ready[state.ready_first];
    if (++state.ready_first == state.ready_room)
        state.ready_first = 0;
    --state.ready_count;
    return thread;
}

static bool prefers_ready()
{
    const int waiting = state.total - state.started;
    if (!state.ready_count || !waiting || !launched->shuffled)
        return state.ready_count > 0;
    return random_below(state.ready_count + waiting) < state.ready_count;
}

static void enter(Thread *thread)
{
    current = thread;
    threadIdx = thread->index;
    blockIdx = thread->block->index;
}

static void fiber_main();

// A fiber that waits for work, or a new one; null: no memory.
static Fiber *idle_fiber()
{
    if (state.idle_count)
        return state.idle[--state.idle_count];
    if (state.fiber_count == state.fiber_room) {
        const int room = state.fiber_room ? 2 * state.fiber_room : 256;
        Fiber **fibers = (Fiber **)realloc(state.fibers, room * sizeof(Fiber *));
        if (fibers)
            state.fibers = fibers;
        Fiber **idle = (Fiber **)realloc(state.idle, room * sizeof(Fiber *));
        if (idle)
            state.idle = idle;
        if (!fibers || !idle)
            return nullptr;
        state.fiber_room = room;
    }
    const int number = state.fiber_count;
    if (number % STACKS_AT_ONCE == 0)
        state.stacks = map_stacks();
    Fiber *fiber = (Fiber *)malloc(sizeof(Fiber));
    if (!state.stacks || !fiber)
        return nullptr;
    // From the last one down: what outgrows its stack meets one that is not yet used.
    fiber->stack = state.stacks + (STACKS_AT_ONCE - 1 - number % STACKS_AT_ONCE) * STACK_BYTES;
    start_fiber(fiber, number, fiber_main);
    state.fibers[state.fiber_count++] = fiber;
    return fiber;
}

static void switch_to(Fiber *to)
{
    Fiber *from = state.running;
    state.running = to;
    switch_context(from->context, to->context);
}

// Run others until the current thread is made ready and its turn has come.
static void wait_here()
{
    if (prefers_ready()) {
        Thread *next = take_ready();
        enter(next);
        if (next->fiber != state.running)
            switch_to(next->fiber);
    } else if (state.started < state.total) {
        Fiber *fiber = idle_fiber();
        if (!fiber)
            fail("no memory for another thread's stack");
        switch_to(fiber);
    } else {
        fail_deadlock();
    }
}

static void check_departure(Thread *thread)
{
    Block &block = *thread->block;
    ++block.left;
    --state.live;
    if (canary(thread->fiber) != CANARY)
        fail("a thread's stack has overflown; local arrays belong into shared memory");
    if (block.arrived)
        fail("a thread returned while %d wait at __syncthreads (%s:%d)", block.arrived,
             GPUNN_AT(block.barrier));
    if (state.grid_arrived)
        fail("a thread returned while %d wait at grid_barrier (%s:%d)", state.grid_arrived,
             GPUNN_AT(state.grid_place));
    Warp &warp = block.warps[thread->linear / LANES];
    const uint32_t bit = 1u << thread->linear % LANES;
    warp.left |= bit;
    for (int g = 0; g < warp.groups; ++g)
        if (warp.group[g].mask & bit)
            fail("lane %d returned while others wait for it at %s (%s:%d, mask 0x%08x)",
                 thread->linear % LANES, WAIT_NAMES[warp.group[g].wait],
                 GPUNN_AT(warp.group[g].place), warp.group[g].mask);
}

// What every fiber does: start threads, give way to those that can go on, at last to `launch`.
static void fiber_main()
{
    for (;;) {
        Fiber *self = state.running;
        if (prefers_ready()) {
            Thread *next = take_ready();
            state.idle[state.idle_count++] = self;
            enter(next);
            switch_to(next->fiber);
        } else if (state.started < state.total) {
            const int number = launched->shuffled ? state.order[state.started] : state.started;
            ++state.started;
            Thread *thread = state.threads + number;
            thread->fiber = self;
            thread->copies = thread->commits = 0;
            enter(thread);
            state.kernel->run(launched->arguments);
            check_departure(thread);
        } else if (state.live) {
            fail_deadlock();
        } else {
            state.idle[state.idle_count++] = self;
            state.running = nullptr;
            switch_context(self->context, state.main);
        }
    }
}

// Barriers

void block_barrier(Place place)
{
    Thread *self = current;
    Block &block = *self->block;
    if (block.left)
        fail("%d threads have returned before __syncthreads (%s:%d)", block.left, GPUNN_AT(place));
    if (!block.arrived)
        block.barrier = place;
    else if (!same(block.barrier, place))
        fail("divergent __syncthreads: %d threads wait at %s:%d, another comes to %s:%d",
             block.arrived, GPUNN_AT(block.barrier), GPUNN_AT(place));
    if (++block.arrived < block.threads) {
        self->wait = BLOCK;
        self->place = place;
        wait_here();
        return;
    }
    block.arrived = 0;
    Thread *threads = self - self->linear;
    for (int t = 0; t < block.threads; ++t)
        if (threads + t != self)
            make_ready(threads + t);
    if (launched->shuffled) {
        make_ready(self);
        wait_here();
    }
}

void grid_barrier(uint32_t *word, Place place)
{
    Thread *self = current;
    if (!launched->cooperative)
        fail("grid_barrier (%s:%d) in a launch that is not cooperative", GPUNN_AT(place));
    if (self->block->left)
        fail("%d threads have returned before grid_barrier (%s:%d)", self->block->left,
             GPUNN_AT(place));
    if (*word & 0x7fffffffu)
        fail("grid_barrier (%s:%d): its state must be 0 at first", GPUNN_AT(place));
    state.grid_place = place;
    if (++state.grid_arrived < state.total) {
        self->wait = GRID;
        self->place = place;
        wait_here();
        return;
    }
    state.grid_arrived = 0;
    *word ^= 0x80000000u;
    for (int t = 0; t < state.total; ++t)
        if (state.threads + t != self)
            make_ready(state.threads + t);
    make_ready(self);
    wait_here();
}

Group *meet(Wait wait, uint32_t mask, void *mine, Place place)
{
    Thread *self = current;
    Warp &warp = self->block->warps[self->linear / LANES];
    const int lane = self->linear % LANES;
    if (!(mask >> lane & 1u))
        fail("lane %d calls %s (%s:%d) with mask 0x%08x, which leaves it out", lane,
             WAIT_NAMES[wait], GPUNN_AT(place), mask);
    if (warp.left & mask)
        fail("%s (%s:%d) with mask 0x%08x names lanes that have left or never were: 0x%08x",
             WAIT_NAMES[wait], GPUNN_AT(place), mask, warp.left & mask);
    int g = 0;
    while (g < warp.groups && !(warp.group[g].mask == mask && warp.group[g].wait == wait))
        ++g;
    Group &group = warp.group[g];
    if (g == warp.groups) {
        ++warp.groups;
        group.wait = wait;
        group.mask = mask;
        group.place = place;
        group.arrived = 0;
    }
    group.arrived |= 1u << lane;
    group.lanes[lane] = mine;
    if (group.arrived == mask)
        return &group;
    self->wait = wait;
    self->mask = mask;
    self->place = place;
    wait_here();
    return nullptr;
}

void depart(Group *group)
{
    Thread *self = current;
    Warp &warp = self->block->warps[self->linear / LANES];
    Thread *first = self - self->linear % LANES;
    for (uint32_t lanes = group->mask; lanes; lanes &= lanes - 1) {
        Thread *thread = first + __builtin_ctz(lanes);
        if (thread != self)
            make_ready(thread);
    }
    Group &last = warp.group[--warp.groups];
    if (group != &last)
        *group = last;
    if (launched->shuffled) {
        make_ready(self);
        wait_here();
    }
}

}  // namespace simulator
