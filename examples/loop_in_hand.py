"""The training loop in your own hands: steps, epochs and a state to come back to.

python examples/loop_in_hand.py
"""

import gpunn

(x_train, y_train), (x_test, y_test) = gpunn.datasets.digits.load_data()

model = gpunn.Sequential(
    [
        gpunn.Input((8, 8)),
        gpunn.layers.Rescaling(1 / 16),
        gpunn.layers.Flatten(),
        gpunn.layers.Dense(64, activation="relu", name="hidden"),
        gpunn.layers.Dense(10, activation="softmax", name="outputs"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"], seed=1)
stopping = gpunn.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)

# Callbacks see training begin with the first step and end with the block.
with gpunn.Trainer(model, x_train, y_train, batch_size=32, callbacks=[stopping]) as trainer:
    for _ in range(10):
        logs = trainer.step()
    print(f"after 10 steps: loss {logs['loss']:.3f}")
    state = trainer.state_dict()
    while trainer.epoch_index < 5 and not trainer.stop_training:
        logs = trainer.epoch()
        print(f"epoch {trainer.epoch_index}: {logs['loss']:.3f}, {logs['accuracy']:.3f}")
loss, accuracy = model.evaluate(x_test, y_test)
print(f"test accuracy {accuracy:.3f}")

trainer.load_state_dict(state)
print(f"back at step {trainer.step_count}, in the middle of epoch {trainer.epoch_index + 1}")
