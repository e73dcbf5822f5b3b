// Stochastic gradient descent, on all parameters at once.
//
//   w -= learning_rate * weight_decay * w
//   w -= learning_rate * g
//
// Shapes: parameters, gradients (size,); learning_rate (1,).
// Launch: a grid-stride loop, 16 bytes of each array per thread and turn, 256 threads a block.

#include "optimizer.cuh"

struct SGD {
    LearningRate learning;

    DEVICE void prepare() { learning.read(); }

    DEVICE void operator()(real &w, real g, real &, real &, real &) const
    {
        w = learning.decayed(w) - learning.rate * g;
    }
};

KERNEL(256) sgd(real *parameters, const real *gradients, const real *learning_rate, int64 size,
                real weight_decay)
{
    wait_for_predecessor();
    SGD rule = {LearningRate(learning_rate, weight_decay)};
    update_each(rule, parameters, gradients, 0, 0, 0, size);
}
