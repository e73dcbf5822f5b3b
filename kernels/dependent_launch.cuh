// Kernels that are put in place while the one before them still runs (programmatic dependent
// launch, sm_90 and later): every kernel begins with wait_for_predecessor(), before it reads or
// writes global memory. Compiled without GPUNN_DEPENDENT_LAUNCH it is nothing.
//
// What it is made of (PTX ISA, griddepcontrol):
//
//   launch_dependents  when all blocks of this kernel have come here or have ended, the next one's
//                      blocks may take the room that is left, if it was launched so
//   wait               goes on when the kernel before has completed, all of it, and all that it
//                      has written is to be seen; at once, where there is none to wait for
//
// Why results are those of kernels that run one after the other:
//
// - A kernel completes when all its threads have ended, and each of them has waited for the kernel
//   before to complete. So behind its wait a thread has all earlier kernels behind it, not only
//   the last one, with all that they have read and written. Nothing is read before the wait, not
//   even weights, which the update of the step before writes; so nothing is read too early, and
//   nothing is overwritten that somebody still reads.
// - A kernel after a copy, a fill, an event or a library's product, and the first of a graph, begins
//   when all that is before it is done, as ever: what begins early is only what follows a kernel
//   that has said launch_dependents, or whose blocks have all ended. A library's kernel may say it
//   too; the wait is for its end. Copies, events and kernels launched in the ordinary way wait for
//   the end of the kernel before them, and that comes behind its own wait.
// - Blocks that wait hold registers and shared memory, but nobody is kept from running by them.
//   Blocks of kernel n + 1 exist only when all blocks of kernel n have begun. So of the kernels
//   that have not completed, the first has all its blocks in place, or else competes with no later
//   one for room; its wait is over, so it ends, and the next one is first.
// - grid_barrier (grid.cuh) needs all blocks of its kernel in place at once. They are, before the
//   first block of the next kernel takes room, by the same rule. The host launches cooperative
//   kernels in the ordinary way nonetheless: none of their blocks waits for an earlier kernel.
// - What is read through `__restrict__` or __ldg is taken for constant as long as the kernel lives,
//   and it now lives while others write; so no kernel has these.
//
// tests/backends/cuda/test_dependent_launch.py looks into what the compiler makes of every kernel: for
// loads and stores ahead of the wait, and for those of constants (ld.global.nc).

#pragma once

#if defined(GPUNN_DEPENDENT_LAUNCH) && !defined(GPUNN_SIMULATOR)

#if __CUDA_ARCH__ < 900
#error "a kernel that is put in place early must wait, and before sm_90 it cannot"
#endif

DEVICE void wait_for_predecessor()
{
    // For the compiler, all memory may change here: it moves no load or store across.
    asm volatile("griddepcontrol.launch_dependents;\n\tgriddepcontrol.wait;" : : : "memory");
}

#else

DEVICE void wait_for_predecessor() {}

#endif
