"""CUDA: the kernels of ``kernels/``, launched through CuPy or run by the simulator.

Layers, top to bottom; each knows only those below::

    backend.py            Backend of a plan: regions, and op -> launches through the tables
    ops_*.py              geometry and arguments of the launches of each op; pure, no device
    tilings.py       tile and split of a matrix product
    tuning.py               the table of what was measured to be best
    reductions.py           sums of arrays, and of columns over the batch
    launches.py             the tables, and what they are written with
    geometry.py             blocks and threads of simple launches
    cupy_driver.py        a driver on a GPU: streams, launches, graphs
    dependent_launch.py     kernels put in place before the last one ends
    cupy_memory.py          its memory, and arrays of other libraries
    driver_errors.py        what the driver's errors mean
    cublaslt.py             matrix products by NVIDIA's library
    nvrtc.py                compiling for a GPU
    simulator.py          a driver on NumPy memory
    host_compiler.py        compiling for the host
    kernel_loader.py      where the sources are, what they include, their hash and cache
    driver.py             Launch, and the narrow interface of a device (allocate ... synchronize)

``detect.py`` stands beside them: what GPU, driver and CuPy there are, without using them.
"""
