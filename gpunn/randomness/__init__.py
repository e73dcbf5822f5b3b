"""Everything random in gpunn: pure functions of the seed and the position in training.

There is no generator, and so no generator state: the rows of a batch, the units that dropout
drops and the initial weights of a layer depend on (seed, position) alone. Training can start at
any step, every backend sees the same values, and a checkpoint need not store any random state
beyond the seed and the position.

The source is Philox4x32-10, which maps a counter of four 32-bit words and a key of two to four
random words. **This is the layout of key and counter, for all backends**:

========== ============================================================================
key[0]     low 32 bits of the model's 64-bit seed
key[1]     high 32 bits of the seed
counter[0] index of the group of four values within the buffer
counter[1] low 32 bits of the step (of the epoch, for shuffling; zero for initial weights)
counter[2] high 32 bits of the step
counter[3] stream: the purpose in the top 8 bits, the layer or variable in the low 24
========== ============================================================================

Each of the four words is one value: value ``i`` of a buffer is word ``i % 4`` of group
``i // 4``. The stream separates different uses; no two of them read the same word.

Modules
-------
philox
    The words, and the uniform, normal and dropout values derived from them.
permutation
    The shuffled order of an epoch's rows, as a keyed bijection that needs no storage.

Both need only NumPy and are the reference for the other backends.
"""
