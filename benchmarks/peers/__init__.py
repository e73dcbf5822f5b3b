"""Other frameworks on the same task, each a small program in a process of its own.

`processes.py` starts them, for ``gpunn bench --compare`` and for the comparisons of this folder.
`worker.py` is what is started; ``NAME_peer.py`` holds a class `Peer` each. None of these imports
gpunn, so that any Python with NumPy and the framework runs them. All follow one pattern:

- ``Peer(images, labels, weights, threads, device)`` imports the framework and takes the data:
  `images` float32 of shape (rows, inputs), scaled; `labels` int64; `weights` kernel, bias, kernel,
  bias, ... of a net with ReLU layers and softmax outputs.
- ``setup(batch_size, optimizer, rate, dropout, precision)`` makes the net with these weights.
- ``epoch(steps, shuffle)`` trains that many steps on the first rows and returns the mean loss,
  when all is computed.
- ``predict(rows, start=0)`` returns probabilities of that many rows as a NumPy array.
- ``versions`` says which framework it is.
"""
