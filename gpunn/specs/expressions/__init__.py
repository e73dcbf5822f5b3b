"""User-defined functions as data: elementwise expressions over a closed set of operations.

A Python function is called once with symbols instead of numbers (`tracing`), which gives an
`Expression`: a list of operations that every backend can run, and that can be differentiated
(`derivatives`), checked against finite differences (`checks`) and saved as JSON.

To add an operation: its formula in ``OPERATIONS``, its derivative, a function in `gpunn.ops`, its
name in ``gpunn/backends/cuda/ops/expressions.py`` and, if NumPy has no function for it, its
calls in ``gpunn/backends/cpu/ops/expressions.py``. The tests cover all operations.
"""

from gpunn.specs.expressions.expression import Expression as Expression
from gpunn.specs.expressions.expression import evaluate as evaluate
from gpunn.specs.expressions.expression import join as join
