"""gpunn's estimators in scikit-learn's pipelines and searches, and TF.Learn's DNNClassifier.

python examples/estimators.py
"""

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, root_mean_squared_error
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import gpunn

# A classifier in a pipeline, and a search for its parameters in two processes.
x, y = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0, stratify=y)
classifier = gpunn.MLPClassifier((64,), early_stopping=True, random_state=0)
search = GridSearchCV(
    make_pipeline(StandardScaler(), classifier),
    {"mlpclassifier__alpha": [0.0001, 1.0], "mlpclassifier__dropout": [0.0, 0.3]},
    cv=3,
    n_jobs=2,
).fit(x_train, y_train)
print(f"digits: {search.score(x_test, y_test):.1%} with {search.best_params_}")

# What is inside is a gpunn model: it can be saved, and read without scikit-learn.
best = search.best_estimator_[-1]
print(f"{best.n_iter_} epochs, best validation score {best.best_validation_score_:.3f}")
best.model_.summary()

# Columns of different kinds: rents by size, age and part of town.
rng = np.random.default_rng(0)
rows = 600
size, age = rng.uniform(20, 140, rows), rng.integers(0, 100, rows)
parts = {"harbour": 4.0, "hill": 2.0, "plain": 0.0}
part = rng.choice(list(parts), rows)
rent = size * (9 + np.vectorize(parts.get)(part) - 0.03 * age) + rng.normal(0, 30, rows)
table = np.column_stack([size, age, part]).astype(object)  # or a data frame, with names
columns = ColumnTransformer([("numbers", StandardScaler(), [0, 1]), ("part", OneHotEncoder(), [2])])
regressor = gpunn.MLPRegressor(
    hidden_layer_sizes=(30, 30), learning_rate_init=0.01, batch_size=50, tol=10, random_state=0
)
model = make_pipeline(columns, regressor).fit(table[:500], rent[:500])
error = root_mean_squared_error(rent[500:], model.predict(table[500:]))
print(f"rents of {rent.mean():.0f} on average, predicted with an error of {error:.0f}")
print("a flat of 60, 10 years old, on the hill:", model.predict([[60, 10, "hill"]])[0].round())

# TF.Learn's way: steps instead of epochs, and `evaluate`.
scaler = StandardScaler().fit(x_train)
feature_columns = gpunn.estimators.infer_real_valued_columns_from_input(x_train)
dnn_clf = gpunn.DNNClassifier(
    hidden_units=[300, 100], n_classes=10, feature_columns=feature_columns, random_state=0
)
dnn_clf.fit(x=scaler.transform(x_train), y=y_train, batch_size=50, steps=500)
y_pred = list(dnn_clf.predict(scaler.transform(x_test)))
print(f"DNNClassifier: {accuracy_score(y_test, y_pred):.1%}")
print(dnn_clf.evaluate(scaler.transform(x_test), y_test))
