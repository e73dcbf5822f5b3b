"""The launches of the ops of a plan; one file for each family of ops."""
