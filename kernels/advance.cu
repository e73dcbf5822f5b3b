// The end of a step: counters move on, and with them the learning rate of a schedule.
//
//   step += 1; offset += rows
//   learning_rate = rates[step - first_step] where there is such a rate, else as it was
//
// Shapes: all (1,), but rates (count,); learning_rate is null where the rate does not change.
// Launch: one thread.

#include "prelude.cuh"

KERNEL(32) advance(int64 *step, int64 *offset, int64 rows, const real *rates, int64 count,
                   const int64 *first_step, real *learning_rate)
{
    wait_for_predecessor();
    const int64 next = step[0] + 1;
    step[0] = next;
    offset[0] += rows;
    if (!learning_rate)
        return;
    const int64 i = next - first_step[0];
    if (i >= 0 && i < count)
        learning_rate[0] = rates[i];
}
