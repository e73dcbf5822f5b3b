"""``gpunn search``: hyperparameters by Optuna, shared by any number of processes.

A search is a folder. Its journal (``search.journal``) is the one record of what is searched and of
every trial; processes that run the same command on the same folder take trials in turn. They may
be on several machines, if the folder is on a file system whose locks (flock) hold for all of them.
"""
