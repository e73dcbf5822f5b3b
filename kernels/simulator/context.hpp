// Fibers: stacks of their own, switched in user space.
//
// A switch saves the registers that a called function must keep, and takes the other stack. No
// system call is made (swapcontext makes two), so a switch costs a few nanoseconds. Processors
// other than x86-64 and AArch64 fall back on ucontext.

#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#define GPUNN_SIMULATOR_UCONTEXT
#endif

#ifdef GPUNN_SIMULATOR_UCONTEXT
#include <ucontext.h>
#endif

namespace simulator {

#ifdef GPUNN_SIMULATOR_UCONTEXT

struct Context {
    ucontext_t state;
};

inline void switch_context(Context &from, Context &to) { swapcontext(&from.state, &to.state); }

inline void make_context(Context &context, char *stack, size_t nbytes, void (*entry)())
{
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = stack;
    context.state.uc_stack.ss_size = nbytes;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}

#else

struct Context {
    void *stack_pointer;
};

void switch_stacks(void **save, void *load) __asm__("gpunn_simulator_switch")
    __attribute__((visibility("hidden")));

#if defined(__x86_64__)

static const int SAVED_WORDS = 6;  // below the return address

__asm__(R"(
    .text
    .p2align 4
gpunn_simulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

#else

static const int SAVED_WORDS = 11;  // x19 .. x29 below x30, the return address

__asm__(R"(
    .text
    .p2align 4
gpunn_simulator_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");

#endif

inline void switch_context(Context &from, Context &to)
{
    switch_stacks(&from.stack_pointer, to.stack_pointer);
}

inline void make_context(Context &context, char *stack, size_t nbytes, void (*entry)())
{
    // What switch_stacks takes from the stack: registers, then where to go on. 32 words leave
    // room for all of them.
    uintptr_t *top = (uintptr_t *)(((uintptr_t)stack + nbytes) & ~(uintptr_t)15) - 32;
    for (int i = 0; i < 32; ++i)
        top[i] = 0;
    top[SAVED_WORDS] = (uintptr_t)entry;
    context.stack_pointer = top;
}

#endif

// Stacks are kept for the next launch. They hold what a kernel's thread keeps on a GPU in
// registers, so they are small; pages that are never touched cost nothing.
static const size_t STACK_BYTES = 64 * 1024;
static const int STACKS_AT_ONCE = 64;
static const uint64_t CANARY = 0x5ca1ab1e0ddba11full;

struct Fiber {
    Context context;
    char *stack;
};

inline uint64_t &canary(Fiber *fiber) { return *(uint64_t *)fiber->stack; }

inline void start_fiber(Fiber *fiber, int number, void (*entry)())
{
    canary(fiber) = CANARY;
    // Not all at the same place of their pages, or they would share a few cache sets.
    make_context(fiber->context, fiber->stack, STACK_BYTES - (size_t)(number % 31) * 128, entry);
}

inline char *map_stacks()
{
    int flags = MAP_PRIVATE | MAP_ANON;
#ifdef MAP_NORESERVE
    flags |= MAP_NORESERVE;
#endif
    const size_t nbytes = STACKS_AT_ONCE * STACK_BYTES;
    void *memory = mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    return memory == MAP_FAILED ? nullptr : (char *)memory;
}

}  // namespace simulator
