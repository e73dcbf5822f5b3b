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
trainer = gpunn.Trainer(model, x_train, y_train, batch_size=32)

for _ in range(10):
    logs = trainer.step()
print(f"after 10 steps: loss {logs['loss']:.3f}")

state = trainer.state_dict()
for _ in range(5):
    logs = trainer.epoch()
    print(f"epoch {trainer.epoch_index}: loss {logs['loss']:.3f} accuracy {logs['accuracy']:.3f}")
loss, accuracy = model.evaluate(x_test, y_test)
print(f"test accuracy {accuracy:.3f}")

trainer.load_state_dict(state)
print(f"back at step {trainer.step_count}, in the middle of epoch {trainer.epoch_index + 1}")
