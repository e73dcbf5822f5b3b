"""The CPU backend: compiled loops, and matrix products by the BLAS or by threads of its own.

From a plan's bind to a native call, each folder calls those below it::

    backend.py   NumbaCPU: the table of ops, and which of them a team takes over in a program
    ops/         binders, a file for each family: from arrays and constants to a call
    products/    matrix products: the BLAS, and register tiles for a team
    threads/     teams of threads, and the tasks they share
    loops/       loops that numba compiles, a file for each family, and what they are written with

A bound call is a NumPy function or a compiled loop with its arguments (``functools.partial``). A
loop is compiled at its first call for each type of array, and kept on disk (``loops/compile.py``).
"""
