"""Binders of the CPU: each takes an op's arrays and returns the call, its scratch memory taken.

One file for each family of ops, with its table ``OPERATIONS``. They call `loops` and NumPy;
``dense.py`` also `products`, and ``team.py`` has what a team of threads computes instead, and when.
"""
