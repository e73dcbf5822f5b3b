"""The machines a plan can run on, one module each; only this package imports numba or CuPy."""
