"""Matrix products on the CPU.

``blas.py`` calls NumPy's BLAS for what `numpy.matmul` cannot ask for. ``tasks.py`` has our
own products for a team of threads, made of the register tiles in ``tiles.py``; ``ops/team.py``
binds them.
"""
