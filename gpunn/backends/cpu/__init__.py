"""The CPU backend: compiled loops, and matrix products by the BLAS or by threads of its own."""
