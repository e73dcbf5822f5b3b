"""The machines a plan can run on, a folder each; only this package imports numba or CuPy.

``select.py`` goes from ``device="..."`` to a `Backend` (``interface.py``). A bound plan
(`gpunn.plan.bind`) asks it once for each program to bind the steps, ``bind_program``: each op is
looked up by its name in the backend's table ``OPERATIONS`` and becomes a call without arguments, on
arrays that stay where they are. The first bind of an op on a machine is slow (numba, NVRTC or the
C++ compiler compile what it calls, and keep it in the user's cache); later ones are look-ups. After
that a step is a list of calls: no names, no checks, no allocation.

The table of each backend is made of those of its family files, which have the same names and the
same ops on all: data, dense, activations, joins, losses, expressions, normalization, optimizers.

- ``reference/``: every op once in plain NumPy, the truth that the others are compared with.
- ``cpu/``: compiled loops and matrix products, with numba.
- ``cuda/``: launches of the kernels in ``kernels/``, on a GPU or in the simulator.
- ``host.py``: memory of the two that compute in NumPy arrays.
- ``roofline.py``, ``timing.py``: what bounds a step on a device, and timers for its calls.
"""
