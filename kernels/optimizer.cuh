// What all optimizers share: the learning rate, weight decay, and the end of tiny averages.

#pragma once

#include "parameters.cuh"

struct LearningRate {
    const real *array;
    real weight_decay, rate, shrink;

    DEVICE LearningRate(const real *learning_rate, real decay)
        : array(learning_rate), weight_decay(decay), rate(0), shrink(0)
    {
    }

    DEVICE void read()
    {
        rate = array[0];
        shrink = rate * weight_decay;
    }

    DEVICE real decayed(real w) const { return weight_decay != real(0) ? w - w * shrink : w; }
};

// A moving average smaller than `tiny` becomes 0; see gpunn/plan/ops.py.
DEVICE real without_tiny(real value, real tiny) { return fabs(value) < tiny ? real(0) : value; }
