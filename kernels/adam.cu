// Adam, on all parameters at once; t = step + 1.
//
//   alpha = learning_rate * sqrt(1 - beta_2**t) / (1 - beta_1**t)
//   w -= learning_rate * weight_decay * w
//   m += (g - m) * (1 - beta_1);  v += (g**2 - v) * (1 - beta_2)
//   v_hat = max(v_hat, v), in the place of v                      (with velocity_hat)
//   w -= alpha * m / (sqrt(v) + epsilon)
//
// m becomes 0 where it is smaller than tiny, v where it is smaller than tiny_square.
//
// Shapes: parameters, gradients, m, v, v_hat (size,); v_hat may be null; learning_rate, step (1,).
// Launch: a grid-stride loop, 16 bytes of each array per thread and turn, 256 threads a block;
// shared memory for one double.

#include "optimizer.cuh"

struct Adam {
    LearningRate learning;
    const int64 *step;
    double *correction;
    double log_beta_1, log_beta_2;
    real rest_1, rest_2, epsilon, tiny, tiny_square, alpha;
    bool amsgrad;

    DEVICE void prepare()
    {
        learning.read();
        // In double, as 1 - 0.999**t keeps only three digits in float; one thread does it for all,
        // as most GPUs are slow at that. 1 - beta**t = -expm1(t * log(beta)) loses nothing.
        if (threadIdx.x == 0) {
            const double t = (double)(step[0] + 1);
            correction[0] = sqrt(-expm1(t * log_beta_2)) / -expm1(t * log_beta_1);
        }
        __syncthreads();
        alpha = learning.rate * (real)correction[0];
    }

    DEVICE void operator()(real &w, real g, real &m, real &v, real &v_hat) const
    {
        m = without_tiny(m + (g - m) * rest_1, tiny);
        v = without_tiny(v + (g * g - v) * rest_2, tiny_square);
        real spread = v;
        if (amsgrad) {
            v_hat = v_hat < v || v != v ? v : v_hat;
            spread = v_hat;
        }
        w = learning.decayed(w) - alpha * m / (sqrt(spread) + epsilon);
    }
};

// log_beta_1 and log_beta_2 are the logarithms of the betas, rest_1 and rest_2 what they lack to 1.
KERNEL(256) adam(real *parameters, const real *gradients, const real *learning_rate,
                 const int64 *step, real *m, real *v, real *v_hat, int64 size, real weight_decay,
                 double log_beta_1, double log_beta_2, real rest_1, real rest_2, real epsilon,
                 real tiny, real tiny_square)
{
    SHARED_MEMORY(double, correction);
    wait_for_predecessor();
    Adam rule = {LearningRate(learning_rate, weight_decay), step, correction, log_beta_1,
                 log_beta_2, rest_1, rest_2, epsilon, tiny, tiny_square, real(0), v_hat != 0};
    update_each(rule, parameters, gradients, m, v, v_hat, size);
}
