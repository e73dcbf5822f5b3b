// Activation functions and their derivatives, as in gpunn/specs/activations.py.
//
// The function is a run-time number, the same for all threads of a launch: the branch costs next
// to nothing beside the memory access around it, and one compiled kernel serves every network.
// The numbers are those of ACTIVATIONS in gpunn/backends/cuda/ops/launches.py.

#pragma once

#include "prelude.cuh"

enum Activation {
    LINEAR, RELU, LEAKY_RELU, ELU, SELU, SIGMOID, TANH, SOFTPLUS, GELU, SILU, STEP, SIGN
};

#define SELU_SCALE real(1.0507009873554805)
#define SELU_ALPHA real(1.6732632423543772)
#define SQRT_HALF real(0.70710678118654752440)
#define INVERSE_SQRT_2PI real(0.39894228040143267794)

DEVICE real sigmoid(real z)
{
    const real e = exp(-fabs(z));  // of no positive number: never overflows
    const real p = real(1) / (real(1) + e);
    return z >= real(0) ? p : e * p;
}

// activation(z); `parameter` is the slope below 0 (leaky_relu) or alpha (elu).
DEVICE real activate(real z, int activation, real parameter)
{
    switch (activation) {
    case RELU: return z > real(0) || z != z ? z : real(0);  // NaN stays NaN
    case LEAKY_RELU: return z > real(0) ? z : z * parameter;
    case ELU: return z > real(0) ? z : parameter * expm1(z);
    case SELU: return SELU_SCALE * (z > real(0) ? z : SELU_ALPHA * expm1(z));
    case SIGMOID: return sigmoid(z);
    case TANH: return tanh(z);
    case SOFTPLUS: return maximum(z, real(0)) + log1p(exp(-fabs(z)));
    case GELU: return real(0.5) * z * (real(1) + erf(z * SQRT_HALF));
    case SILU: return z * sigmoid(z);
    case STEP: return z >= real(0) ? real(1) : real(0);
    case SIGN: return z > real(0) ? real(1) : z < real(0) ? real(-1) : z;
    default: return z;
    }
}

// Whether the derivative is taken from the activation's input; else from its output.
DEVICE bool derivative_reads_input(int activation)
{
    return activation == GELU || activation == SILU;
}

// The derivative, from the output `value` (the input, where derivative_reads_input).
DEVICE real derivative(real value, int activation, real parameter)
{
    switch (activation) {
    case RELU: return value > real(0) ? real(1) : real(0);
    case LEAKY_RELU: return value > real(0) ? real(1) : parameter;
    case ELU: return value > real(0) ? real(1) : value + parameter;
    case SELU: return value > real(0) ? SELU_SCALE : value + SELU_SCALE * SELU_ALPHA;
    case SIGMOID: return value * (real(1) - value);
    case TANH: return real(1) - value * value;
    case SOFTPLUS: return -expm1(-value);
    case GELU:
        return real(0.5) * (real(1) + erf(value * SQRT_HALF))
            + value * exp(real(-0.5) * value * value) * INVERSE_SQRT_2PI;
    case SILU: {
        const real s = sigmoid(value);
        return s * (real(1) + value * (real(1) - s));
    }
    default: return real(1);
    }
}
