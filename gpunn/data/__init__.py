"""Named data sets, the files they are read from, and the batches made of them."""
