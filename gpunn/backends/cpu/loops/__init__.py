"""The compiled loops that the binders of the CPU call; one file for each family of ops.

One pass over the data where NumPy would take several. All are serial: at these sizes a thread pool
beside the one of the BLAS costs more than it saves. Each is compiled on its first use, which a user
waits for, so the loops are plain and few. Arrays are C-contiguous; an optional array that is left
out has size 0. Nothing checks its arguments. Formulas are those of the reference backend, which the
tests compare with.

``compile.py`` and ``intrinsics.py`` are what loops are written with, ``random.py`` draws the words
and orders of all of them, and ``perceptron.py`` is a training loop of its own for the estimators.
"""
