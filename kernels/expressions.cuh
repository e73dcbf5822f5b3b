// What the formulas of expressions call besides CUDA's own functions; NaN stays NaN, as in NumPy.

#pragma once

#include "prelude.cuh"

DEVICE real larger(real a, real b) { return a > b || a != a ? a : b; }
DEVICE real smaller(real a, real b) { return a < b || a != a ? a : b; }
DEVICE real sign_of(real x) { return x > real(0) ? real(1) : x < real(0) ? real(-1) : x; }

DEVICE real sigmoid(real x)
{
    const real e = exp(-fabs(x));  // of no positive number: never overflows
    const real p = real(1) / (real(1) + e);
    return x >= real(0) ? p : e * p;
}

DEVICE real softplus(real x) { return larger(x, real(0)) + log1p(exp(-fabs(x))); }
