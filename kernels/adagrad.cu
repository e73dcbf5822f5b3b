// Adagrad, on all parameters at once.
//
//   w -= learning_rate * weight_decay * w
//   a += g**2;  w -= learning_rate * g / sqrt(a + epsilon)
//
// Shapes: parameters, gradients, accumulator (size,); learning_rate (1,).
// Launch: a grid-stride loop, 16 bytes of each array per thread and turn, 256 threads a block.

#include "optimizer.cuh"

struct Adagrad {
    LearningRate learning;
    real epsilon;

    DEVICE void prepare() { learning.read(); }

    DEVICE void operator()(real &w, real g, real &accumulator, real &, real &) const
    {
        accumulator += g * g;
        w = learning.decayed(w) - learning.rate * g / sqrt(accumulator + epsilon);
    }
};

KERNEL(256) adagrad(real *parameters, const real *gradients, const real *learning_rate,
                    real *accumulator, int64 size, real weight_decay, real epsilon)
{
    wait_for_predecessor();
    Adagrad rule = {LearningRate(learning_rate, weight_decay), epsilon};
    update_each(rule, parameters, gradients, accumulator, 0, 0, size);
}
