// Gradient descent with momentum, on all parameters at once.
//
//   w -= learning_rate * weight_decay * w
//   v = momentum * v - learning_rate * g;  0 where |v| < tiny
//   w += v, or with nesterov momentum * v - learning_rate * g
//
// Shapes: parameters, gradients, velocity (the slot "momentum") (size,); learning_rate (1,).
// Launch: a grid-stride loop, 16 bytes of each array per thread and turn, 256 threads a block.

#include "optimizer.cuh"

struct Momentum {
    LearningRate learning;
    real beta, tiny;
    int nesterov;

    DEVICE void prepare() { learning.read(); }

    DEVICE void operator()(real &w, real g, real &v, real &, real &) const
    {
        const real pull = learning.rate * g;
        v = without_tiny(beta * v - pull, tiny);
        w = learning.decayed(w) + (nesterov ? beta * v - pull : v);
    }
};

KERNEL(256) momentum(real *parameters, const real *gradients, const real *learning_rate,
                     real *velocity, int64 size, real weight_decay, real beta, real tiny,
                     int nesterov)
{
    wait_for_predecessor();
    Momentum rule = {LearningRate(learning_rate, weight_decay), beta, tiny, nesterov};
    update_each(rule, parameters, gradients, velocity, 0, 0, size);
}
