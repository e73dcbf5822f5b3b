// RMSprop, on all parameters at once.
//
//   w -= learning_rate * weight_decay * w
//   v = rho * v + (1 - rho) * g**2
//   a = rho * a + (1 - rho) * g;                v less a**2     (with average_gradient)
//   u = learning_rate * g / sqrt(v + epsilon)
//   m = momentum * m + u;  u = m                                (with momentum)
//   w -= u
//
// a and m become 0 where they are smaller than tiny, v where it is smaller than tiny_square.
//
// Shapes: parameters, gradients, velocity, average, moment (size,); the last two may be null;
// learning_rate (1,).
// Launch: a grid-stride loop, 16 bytes of each array per thread and turn, 256 threads a block.

#include "optimizer.cuh"

struct RMSprop {
    LearningRate learning;
    real rho, rest, beta, epsilon, tiny, tiny_square;
    bool centered, has_momentum;

    DEVICE void prepare() { learning.read(); }

    DEVICE void operator()(real &w, real g, real &v, real &average, real &moment) const
    {
        v = without_tiny(rho * v + rest * g * g, tiny_square);
        real spread = v;
        if (centered) {
            average = without_tiny(rho * average + rest * g, tiny);
            spread -= average * average;
        }
        real update = learning.rate * g / sqrt(spread + epsilon);
        if (has_momentum) {
            moment = without_tiny(beta * moment + update, tiny);
            update = moment;
        }
        w = learning.decayed(w) - update;
    }
};

KERNEL(256) rmsprop(real *parameters, const real *gradients, const real *learning_rate,
                    real *velocity, real *average, real *moment, int64 size, real weight_decay,
                    real rho, real rest, real beta, real epsilon, real tiny, real tiny_square)
{
    wait_for_predecessor();
    RMSprop rule = {LearningRate(learning_rate, weight_decay), rho,  rest,        beta,
                    epsilon, tiny, tiny_square, average != 0, moment != 0};
    update_each(rule, parameters, gradients, velocity, average, moment, size);
}
