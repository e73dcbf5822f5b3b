"""What binds the ops of a plan to calls on the CPU; one file for each family of ops."""
