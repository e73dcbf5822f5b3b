"""CUDA: the kernels of ``kernels/``, launched through CuPy or run by the simulator.

Binding an op makes its launches, pure descriptions of kernel, grid and arguments, which the driver
then prepares: a kernel is compiled when it is first met (NVRTC, or the host's compiler), kept in
the user's cache and loaded; a call is one launch. Steps that are repeated become CUDA graphs.
Layers, top to bottom; each knows only those below::

    backend.py            Backend of a plan: regions, and op -> launches through the tables
    graphs.py               repeated steps as CUDA graphs
    tuning.py               the table of what was measured to be best
    ops/                  geometry and arguments of each op's launches; pure, no device
      data dense activations joins losses expressions normalization optimizers
      reductions            sums of arrays, and of columns over the batch
      launches              what the families are written with
    tilings.py            tile and split of a matrix product
    geometry.py           blocks and threads of simple launches
    cupy_driver.py        a driver on a GPU: kernels, launches, graph capture
    dependent_launch.py     kernels put in place before the last one ends
    cublaslt.py             matrix products by NVIDIA's library
    nvrtc.py                compiling for a GPU
    cupy_memory.py          its memory, and arrays of other libraries
    cupy_copy_stream.py     copies beside the calls
    cupy_context.py         its device and stream, and what CUDA's errors mean
    simulator/            a driver on NumPy memory
      driver                memory, and launches
      checks                what CUDA would refuse of a launch
      copy_stream           copies that run as late as they may
      compiler              compiling for the host
    kernel_loader.py      where the sources are, what they include, their hash and cache
    driver.py             Launch, and the narrow interface of a device (allocate ... synchronize)

``detect.py`` stands beside them: what GPU, driver and CuPy there are, without using them.
"""
