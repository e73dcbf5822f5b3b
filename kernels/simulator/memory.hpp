// The simulator's memory: guards around what kernels may write, and copies under way.

#pragma once

#include <stdlib.h>

#include "scheduler.hpp"

namespace simulator {

// What was never written is NaN as float and as double.
void poison(char *start, size_t nbytes)
{
    static const unsigned char pattern[] = {0xFA, 0xFF};  // from an even address on
    for (size_t i = 0; i < nbytes; ++i)
        start[i] = (char)pattern[(uintptr_t)(start + i) & 1];
}

// What a guard holds from `address` on: NaN too, but of every place its own, so that what is read
// from one guard and written to another shows. As _guard in gpunn/backends/cuda/simulator/driver.py.
static const char *guard_at(const char *address)
{
    static uint32_t words[GUARD_BYTES / 4 + 1];
    const uint32_t first = (uint32_t)(uintptr_t)address & ~3u;
    for (uint32_t w = 0; w < GUARD_BYTES / 4 + 1; ++w)
        words[w] = 0xFFFA0000u | (first + 4 * w) * 2654435761u >> 16;
    return (const char *)words + ((uintptr_t)address & 3);
}

// The block's shared memory, when its first thread asks for it.
void open_shared_memory()
{
    Block &block = *current->block;
    block.opened = true;
    char *before = block.shared - GUARD_BYTES, *behind = block.shared + launched->shared;
    memcpy(before, guard_at(before), GUARD_BYTES);
    memcpy(behind, guard_at(behind), GUARD_BYTES);
    poison(block.shared, launched->shared);
}

// Whether both guards hold; if not, `offset` is the place nearest to the memory that does not,
// and the guards are made anew. The place is that of a word: the first byte written may happen to
// be what the guard holds there.
static bool guards_hold(char *start, int64_t nbytes, int64_t &offset)
{
    char *before = start - GUARD_BYTES, *behind = start + nbytes;
    if (!memcmp(before, guard_at(before), GUARD_BYTES)
        && !memcmp(behind, guard_at(behind), GUARD_BYTES))
        return true;
    const char *expected = guard_at(behind);
    for (int64_t i = GUARD_BYTES; i-- > 0;)
        if (behind[i] != expected[i]) {
            const int64_t into_word = (uintptr_t)(behind + i) & 3;
            offset = nbytes + (i > into_word ? i - into_word : 0);
        }
    memcpy(behind, expected, GUARD_BYTES);
    expected = guard_at(before);
    int64_t nearest = GUARD_BYTES;  // words end where the memory starts
    while (nearest > 0 && !memcmp(before + nearest - 4, expected + nearest - 4, 4))
        nearest -= 4;
    if (nearest > 0) {  // where this write began
        while (nearest > 0 && memcmp(before + nearest - 4, expected + nearest - 4, 4))
            nearest -= 4;
        offset = nearest - (int64_t)GUARD_BYTES;
    }
    memcpy(before, expected, GUARD_BYTES);
    return false;
}

// Copies: each is made as late as it may be, when the thread waits for it; until then its place
// holds NaN, so a missing wait shows.

void start_copy(void *to, const void *from, int nbytes, Place place)
{
    Thread &self = *current;
    if ((uintptr_t)to % nbytes || (uintptr_t)from % nbytes)
        fail("copy_async_%d (%s:%d) between addresses that are no multiples of %d", nbytes,
             GPUNN_AT(place), nbytes);
    const char *shared = self.block->shared;
    if ((char *)to < shared || (char *)to + nbytes > shared + launched->shared)
        fail("copy_async_%d (%s:%d) to an address outside shared memory", nbytes, GPUNN_AT(place));
    if (self.copies == self.room) {
        const int room = self.room ? 2 * self.room : 16;
        Copy *larger = (Copy *)realloc(self.copy, room * sizeof(Copy));
        if (!larger)
            fail("no memory for copies under way");
        self.copy = larger;
        self.room = room;
    }
    self.copy[self.copies++] = Copy{to, from, nbytes, self.commits};
    poison((char *)to, nbytes);
}

void commit_copies() { ++current->commits; }

void finish_copies(int still_under_way)
{
    Thread &self = *current;
    int done = 0;
    while (done < self.copies && self.copy[done].number < self.commits - still_under_way) {
        const Copy &copy = self.copy[done++];
        if (copy.from)
            memcpy(copy.to, copy.from, copy.nbytes);
        else
            memset(copy.to, 0, copy.nbytes);
    }
    self.copies -= done;
    memmove(self.copy, self.copy + done, self.copies * sizeof(Copy));
}

}  // namespace simulator
