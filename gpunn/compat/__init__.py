"""What other libraries call what gpunn has: parts of Keras, and the words of TensorFlow 1."""
