"""Everything random in gpunn: pure functions of the seed and the position in training.

No generator, and so no generator state: which rows make up a batch, which units dropout
removes and what weights a layer starts from follow from (seed, position) alone. Any step can
be entered directly, every backend sees the same values, and a checkpoint need store no
randomness beyond the seed and how far training has come.

The source is Philox4x32-10, which turns a counter of four 32-bit words and a key of two into
four random words. **This is the layout of key and counter, for all backends**:

========== ============================================================================
key[0]     low 32 bits of the model's 64-bit seed
key[1]     high 32 bits of the seed
counter[0] index of the group of four values within the buffer
counter[1] low 32 bits of the step (of the epoch, for shuffling; zero for initial weights)
counter[2] high 32 bits of the step
counter[3] stream: the purpose in the top 8 bits, the layer or variable in the low 24
========== ============================================================================

Each of the four words is one value: value ``i`` of a buffer is word ``i % 4`` of group
``i // 4``. The stream keeps different uses apart; two of them never read the same word.

Modules
-------
philox
    The words, and the uniform, normal and dropout values made from them.
permutation
    The shuffled order of an epoch's rows, as a keyed bijection that needs no storage.

Both need NumPy alone and are the definition that the other backends are tested against.
"""
