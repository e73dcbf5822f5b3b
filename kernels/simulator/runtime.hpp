// What kernels and the shim's headers call of the runtime (runtime.cpp).

#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vectors.hpp"

#pragma GCC visibility push(hidden)  // every compiled file has a runtime of its own

// Set at every switch; kernels read them.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace simulator {

static const int LANES = 32;
static const int MAX_WARPS = 32;
static const size_t GUARD_BYTES = 1024;  // as GUARD in gpunn/backends/cuda/simulator/driver.py

enum Wait { NOTHING, BLOCK, GRID, SYNC_WARP, SHUFFLE, VOTE, MATRIX, EXCHANGE };

// Where in the kernel's source; taken from the caller by default arguments.
struct Place {
    const char *file;
    int line;
};
#define GPUNN_PLACE simulator::Place place = {__builtin_FILE(), __builtin_LINE()}

// Lanes of a warp that wait for one another.
struct Group {
    Wait wait;
    uint32_t mask, arrived;
    Place place;
    void *lanes[LANES];  // what each has brought
};

struct Warp {
    int groups;
    uint32_t left;  // lanes that have returned from the kernel
    Group group[LANES];
};

struct Copy {
    void *to;
    const void *from;
    int nbytes, number;  // number: how many commits came before
};

struct Block {
    uint3 index;
    int threads, arrived, left;
    Place barrier;
    bool opened;   // a thread has asked for shared memory
    char *shared;  // behind a guard, in front of a guard
    Warp *warps;
};

struct Fiber;

struct Thread {
    Fiber *fiber;
    Block *block;
    uint3 index;
    int linear;
    Wait wait;
    uint32_t mask;
    Place place;
    int copies, room, commits;
    Copy *copy;
};

// One launch at a time: the driver holds a lock.
struct Memory {
    char *start;
    int64_t nbytes;
};

struct Launch {  // as _Launch in gpunn/backends/cuda/simulator/driver.py
    int32_t kernel, cooperative;
    uint32_t grid[3], block[3];
    int64_t shared;
    int32_t shuffled, memories;
    uint64_t seed;
    void **arguments;
    const Memory *memory;  // allocations among the arguments, each between guards
    char *message;
    int64_t message_size;
    int32_t damaged;         // which allocation, if the result is 2
    int64_t damaged_offset;  // where, from its start
};

struct Kernel {
    const char *name, *signature;
    int threads;
    void (*run)(void **arguments);
};

extern Thread *current;
extern const Launch *launched;

inline const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
#define GPUNN_AT(place) simulator::file_name((place).file), (place).line

// Stop the launch; the rest is as printf takes it.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char *format, ...);

void block_barrier(Place place);
// `word` is as ../grid.cuh says.
void grid_barrier(uint32_t *word, Place place);

// Lanes of a warp meet: returns their group to the last one to arrive, null to the others when
// that one has called `depart`.
Group *meet(Wait wait, uint32_t mask, void *mine, Place place);
void depart(Group *group);

// The lanes in `mask` meet, each with a `Lane` of its own; the last one to arrive computes for
// all of them: compute(lanes, mask), lanes[l] being what lane l has brought.
template <typename Lane, typename Compute>
inline void warp_exchange(Wait wait, uint32_t mask, Lane &mine, Place place, Compute compute)
{
    Group *group = meet(wait, mask, &mine, place);
    if (group) {
        compute((Lane *const *)group->lanes, mask);
        depart(group);
    }
}

inline int lane_number() { return current->linear % LANES; }

void open_shared_memory();
inline char *shared_memory()
{
    if (!current->block->opened)
        open_shared_memory();
    return current->block->shared;
}

// Fill memory with a pattern that is NaN as float and as double.
void poison(char *start, size_t nbytes);

// As ../async_copy.cuh says; `from` is null for zeros.
void start_copy(void *to, const void *from, int nbytes, Place place);
void commit_copies();
void finish_copies(int still_under_way);

// 0, or 1: stopped, see launch.message, or 2: wrote beside an allocation, see launch.damaged.
int run_launch(Launch &launch, const Kernel &kernel);

}  // namespace simulator

#pragma GCC visibility pop
