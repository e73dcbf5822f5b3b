"""Construction and execution apart: a graph of placeholders, variables and operations, run later.

python examples/lower_level.py
"""

import tempfile
from pathlib import Path

import numpy as np

import gpunn
from gpunn import symbolic as tf

n_inputs = 8 * 8
n_hidden1 = 300
n_hidden2 = 100
n_outputs = 10
learning_rate = 0.01
n_epochs = 40
batch_size = 50

# Construction phase

X = tf.placeholder(tf.float32, shape=(None, n_inputs), name="X")
y = tf.placeholder(tf.int64, shape=(None,), name="y")


def neuron_layer(X, n_neurons, name, activation=None):
    with tf.name_scope(name):
        n_inputs = int(X.get_shape()[1])
        stddev = 2 / np.sqrt(n_inputs)
        init = tf.truncated_normal((n_inputs, n_neurons), stddev=stddev)
        W = tf.Variable(init, name="kernel")
        b = tf.Variable(tf.zeros([n_neurons]), name="bias")
        Z = tf.matmul(X, W) + b
        return Z if activation is None else activation(Z)


with tf.name_scope("dnn"):
    hidden1 = neuron_layer(X, n_hidden1, name="hidden1", activation=tf.nn.relu)
    hidden2 = neuron_layer(hidden1, n_hidden2, name="hidden2", activation=tf.nn.relu)
    logits = neuron_layer(hidden2, n_outputs, name="outputs")

with tf.name_scope("loss"):
    xentropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
    loss = tf.reduce_mean(xentropy, name="loss")

with tf.name_scope("train"):
    optimizer = tf.train.GradientDescentOptimizer(learning_rate)
    training_op = optimizer.minimize(loss)

with tf.name_scope("eval"):
    correct = tf.nn.in_top_k(logits, y, 1)
    accuracy = tf.reduce_mean(tf.cast(correct, tf.float32))

init = tf.global_variables_initializer()
saver = tf.train.Saver()

# Execution phase

(X_train, y_train), (X_test, y_test) = gpunn.datasets.digits.load_data()
X_train, X_test = (images.reshape(-1, n_inputs) / 16.0 for images in (X_train, X_test))


def shuffle_batch(X, y, batch_size, rng):
    for rows in np.array_split(rng.permutation(len(X)), len(X) // batch_size):
        yield X[rows], y[rows]


folder = tempfile.TemporaryDirectory()
rng = np.random.default_rng(42)

with tf.Session(seed=42) as sess:
    init.run()
    for epoch in range(n_epochs):
        for X_batch, y_batch in shuffle_batch(X_train, y_train, batch_size, rng):
            sess.run(training_op, feed_dict={X: X_batch, y: y_batch})
        acc_train = accuracy.eval(feed_dict={X: X_batch, y: y_batch})
        acc_test = accuracy.eval(feed_dict={X: X_test, y: y_test})
        print(f"{epoch:2d} train accuracy: {acc_train:.4f}  test accuracy: {acc_test:.4f}")
    save_path = saver.save(sess, Path(folder.name, "my_model_final.ckpt"))

# Using the neural network

with tf.Session() as sess:
    saver.restore(sess, save_path)
    Z = logits.eval(feed_dict={X: X_test[:20]})
    y_pred = np.argmax(Z, axis=1)

print("predicted classes:", y_pred)
print("actual classes:   ", y_test[:20])

# The file is gpunn's own, and so is the network.
model = gpunn.load_model(save_path)
print("the same logits:   ", np.array_equal(model.predict(X_test[:20]), Z))
folder.cleanup()
