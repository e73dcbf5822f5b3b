"""The compiled loops that the ops of the CPU call; one file for each family of ops."""
