"""Data sets: where they are looked for, what is verified, and what the errors say.

No test here touches the network: the data sets of most are small stand-ins, whose files lie in
temporary folders or come from a stand-in for ``pooch.retrieve``.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import platformdirs
import pooch
import pytest
import sklearn.datasets

import gpunn.datasets
from gpunn.data import keras_datasets
from gpunn.data import named as datasets
from gpunn.errors import ArgumentError, ArgumentTypeError, DatasetError, UnknownNameError

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
ARRAYS = (
    np.arange(24, dtype=np.uint8).reshape(6, 2, 2),
    np.array([0, 1, 2, 3, 4, 5], dtype=np.uint8),
    np.arange(8, dtype=np.uint8).reshape(2, 2, 2),
    np.array([9, 8], dtype=np.uint8),
)
MIRRORS = ("https://first.example/mnist/", "https://second.example/mnist/")


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


CONTENT = dict(zip(NAMES, map(idx_bytes, ARRAYS), strict=True))
ZIPPED = {name: gzip.compress(content, mtime=0) for name, content in CONTENT.items()}


class Mirrors:
    """What ``pooch.retrieve`` finds: bytes, or an exception to raise, for each URL."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.served: dict[str, bytes | Exception] = {}

    def retrieve(self, url: str, known_hash: str, *, fname: str, path: str, downloader: Any) -> str:
        self.urls.append(url)
        found = self.served.get(url, ConnectionError("no network in tests"))
        if isinstance(found, Exception):
            raise found
        algorithm, _, expected = known_hash.partition(":")
        if hashlib.new(algorithm, found).hexdigest() != expected:
            raise ValueError("SHA256 hash of downloaded file does not match the known hash")
        file = Path(path) / fname
        file.write_bytes(found)
        return str(file)


@pytest.fixture(autouse=True)
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Mirrors:
    """A network of two mirrors, empty at first; scikit-learn cannot reach anything."""
    stand_in = Mirrors()
    monkeypatch.setattr(pooch, "retrieve", stand_in.retrieve)

    def unreachable(**options: object) -> None:
        raise OSError("<urlopen error no network in tests>")

    monkeypatch.setattr(sklearn.datasets, "fetch_california_housing", unreachable)
    return stand_in


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's cache, empty; no `GPUNN_DATA`."""
    monkeypatch.delenv("GPUNN_DATA", raising=False)
    folder = tmp_path / "cache"
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *names, **options: folder)
    return folder / "data"


@pytest.fixture
def tiny_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """An MNIST of six and two images of 2x2, with the checksums to match."""
    files = tuple(
        datasets._File(
            name,
            len(content),
            hashlib.sha256(content).hexdigest(),
            f"sha256:{hashlib.sha256(ZIPPED[name]).hexdigest()}",
        )
        for name, content in CONTENT.items()
    )
    tiny = replace(datasets._IMAGES["mnist"], files=files, mirrors=MIRRORS)
    monkeypatch.setitem(datasets._IMAGES, "mnist", tiny)


def write_mnist(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    (folder / "mnist").mkdir(parents=True)
    for name in names:
        (folder / "mnist" / f"{name}.gz").write_bytes(ZIPPED[name])
    return folder


def assert_tiny_mnist(dataset: datasets.Dataset) -> None:
    found = (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test)
    for array, expected in zip(found, ARRAYS, strict=True):
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, expected)


def in_data_dir(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return folder


def in_environment(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUNN_DATA", str(folder))


def in_cache(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.mkdir()
    folder.rename(cache)


@pytest.mark.usefixtures("tiny_mnist")
class TestWhereFilesAreLookedFor:
    @pytest.mark.parametrize("place", [in_data_dir, in_environment, in_cache])
    def test_each_place(
        self,
        place: Callable[..., Path | None],
        tmp_path: Path,
        cache: Path,
        mirrors: Mirrors,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        data_dir = place(write_mnist(tmp_path / "data"), cache, monkeypatch)
        assert_tiny_mnist(datasets.load("mnist", data_dir))
        assert mirrors.urls == []

    def test_files_that_are_not_compressed(self, tmp_path: Path) -> None:
        (tmp_path / "mnist").mkdir()
        for name, content in CONTENT.items():
            (tmp_path / "mnist" / name).write_bytes(content)
        assert_tiny_mnist(datasets.load("mnist", tmp_path))

    def test_what_data_dir_lacks_is_looked_for_in_the_next_place(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = write_mnist(tmp_path / "first", NAMES[:2])
        monkeypatch.setenv("GPUNN_DATA", str(write_mnist(tmp_path / "second", NAMES[2:])))
        assert_tiny_mnist(datasets.load("mnist", first))

    def test_data_dir_goes_before_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        damaged = write_mnist(tmp_path / "damaged")
        (damaged / "mnist" / f"{NAMES[0]}.gz").write_bytes(b"damaged")
        monkeypatch.setenv("GPUNN_DATA", str(damaged))
        assert_tiny_mnist(datasets.load("mnist", write_mnist(tmp_path / "good")))
        monkeypatch.setenv("GPUNN_DATA", str(tmp_path / "good"))
        with pytest.raises(DatasetError, match="damaged"):
            datasets.load("mnist", damaged)

    def test_home_is_expanded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_mnist(tmp_path / "data")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        assert_tiny_mnist(datasets.load("mnist", "~/data"))


@pytest.mark.usefixtures("tiny_mnist")
class TestDamage:
    def test_a_local_file_with_other_content_is_an_error(
        self, tmp_path: Path, mirrors: Mirrors
    ) -> None:
        path = write_mnist(tmp_path) / "mnist" / f"{NAMES[1]}.gz"
        wrong = CONTENT[NAMES[1]][:-1] + b"\7"
        path.write_bytes(gzip.compress(wrong))
        with pytest.raises(DatasetError) as caught:
            datasets.load("mnist", tmp_path)
        for part in (path, wrong, CONTENT[NAMES[1]]):
            shown = str(part) if isinstance(part, Path) else hashlib.sha256(part).hexdigest()
            assert shown in str(caught.value)
        assert mirrors.urls == []

    def test_a_truncated_local_file_is_an_error(self, tmp_path: Path) -> None:
        path = write_mnist(tmp_path) / "mnist" / f"{NAMES[3]}.gz"
        path.write_bytes(ZIPPED[NAMES[3]][:-4])
        with pytest.raises(DatasetError, match="truncated") as caught:
            datasets.load("mnist", tmp_path)
        assert str(caught.value).startswith(str(path))


@pytest.mark.usefixtures("tiny_mnist")
class TestDownload:
    def test_the_second_mirror_serves_what_the_first_does_not(
        self, mirrors: Mirrors, cache: Path
    ) -> None:
        for name in NAMES:
            mirrors.served[f"{MIRRORS[1]}{name}.gz"] = ZIPPED[name]
        mirrors.served[f"{MIRRORS[0]}{NAMES[0]}.gz"] = b"another file"
        mirrors.served[f"{MIRRORS[0]}{NAMES[1]}.gz"] = ZIPPED[NAMES[1]]

        assert_tiny_mnist(datasets.load("mnist", progress=False))
        hosts_and_names = [tuple(url.split("/")[2::2]) for url in mirrors.urls]
        assert hosts_and_names == [
            ("first.example", f"{NAMES[0]}.gz"),
            ("second.example", f"{NAMES[0]}.gz"),
            ("first.example", f"{NAMES[1]}.gz"),
            ("first.example", f"{NAMES[2]}.gz"),
            ("second.example", f"{NAMES[2]}.gz"),
            ("first.example", f"{NAMES[3]}.gz"),
            ("second.example", f"{NAMES[3]}.gz"),
        ]
        assert sorted(path.name for path in (cache / "mnist").iterdir()) == sorted(
            f"{name}.gz" for name in NAMES
        )

        mirrors.served.clear()
        mirrors.urls.clear()
        assert_tiny_mnist(datasets.load("mnist", progress=False))
        assert mirrors.urls == []

    def test_only_what_is_missing_is_downloaded(self, tmp_path: Path, mirrors: Mirrors) -> None:
        mirrors.served[f"{MIRRORS[0]}{NAMES[2]}.gz"] = ZIPPED[NAMES[2]]
        folder = write_mnist(tmp_path / "data", (*NAMES[:2], NAMES[3]))
        assert_tiny_mnist(datasets.load("mnist", folder, progress=False))
        assert mirrors.urls == [f"{MIRRORS[0]}{NAMES[2]}.gz"]

    def test_content_that_is_not_the_expected_one_never_enters_the_cache(
        self, mirrors: Mirrors, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Fashion-MNIST's public checksums are md5: the .gz may match and the content not.
        tiny = datasets._IMAGES["mnist"]
        first = replace(tiny.files[0], sha256="0" * 64)
        monkeypatch.setitem(
            datasets._IMAGES, "mnist", replace(tiny, files=(first, *tiny.files[1:]))
        )
        for mirror in MIRRORS:
            mirrors.served[f"{mirror}{NAMES[0]}.gz"] = ZIPPED[NAMES[0]]
        with pytest.raises(DatasetError, match=r"second\.example: wrong checksum"):
            datasets.load("mnist", progress=False)
        assert list((cache / "mnist").iterdir()) == []

    def test_the_error_names_the_places_the_reasons_and_the_ways_out(
        self, tmp_path: Path, cache: Path, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GPUNN_DATA", str(tmp_path / "environment"))
        not_found = OSError("404 Client Error")
        not_found.response = SimpleNamespace(status_code=404)  # type: ignore[attr-defined]
        mirrors.served[f"{MIRRORS[0]}{NAMES[1]}.gz"] = not_found
        folder = write_mnist(tmp_path / "given", NAMES[:1])
        with pytest.raises(DatasetError) as caught:
            datasets.load("mnist", folder, progress=False)
        assert str(caught.value) == (
            f"mnist: did not find {', '.join(NAMES[1:])} in {folder / 'mnist'}, "
            f"{tmp_path / 'environment' / 'mnist'}, {cache / 'mnist'}, and the download failed "
            "(first.example: HTTP 404; second.example: ConnectionError).\n"
            "Pass data_dir (--data-dir), set GPUNN_DATA, or run once with network access; "
            "the data set 'digits' needs no download."
        )
        assert isinstance(caught.value, OSError)

    def test_a_cache_that_cannot_be_written_is_named(self, cache: Path, mirrors: Mirrors) -> None:
        cache.parent.write_text("a file where the folder should be")
        with pytest.raises(DatasetError, match="a download cannot be stored there") as caught:
            datasets.load("mnist", progress=False)
        assert str(cache / "mnist") in str(caught.value)
        assert mirrors.urls == []

    def test_the_logger_of_pooch_is_left_as_it_was(self) -> None:
        before = pooch.get_logger().level
        with pytest.raises(DatasetError):
            datasets.load("mnist", progress=False)
        assert pooch.get_logger().level == before != logging.WARNING


def test_pooch_downloads_with_our_progress_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Response:
        def __init__(self) -> None:
            self.headers = {"content-length": "250000"}

        def raise_for_status(self) -> None:
            """Nothing went wrong."""

        def iter_content(self, chunk_size: int) -> list[bytes]:
            return [bytes(chunk_size)] * 3 + [bytes(250_000 - 3 * chunk_size)]

    monkeypatch.setattr("requests.get", lambda url, **options: Response())
    file = tmp_path / "file.gz"
    with datasets._progress_bar("file.gz", True) as bar:
        pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16)("https://a.example/", file, None)
        assert isinstance(bar, datasets._Bar)
        (task,) = bar._progress.tasks
        assert (task.completed, task.total, bar.total) == (250_000, 250_000, 250_000)
    assert file.stat().st_size == 250_000
    assert capsys.readouterr().out == ""


class TestNames:
    def test_unknown(self) -> None:
        with pytest.raises(UnknownNameError, match="did you mean 'fashion-mnist'") as caught:
            datasets.load("fashion-minst")
        assert "california-housing, digits, fashion-mnist, mnist" in str(caught.value)
        with pytest.raises(UnknownNameError, match="Unknown dataset 7"):
            datasets.load(7)  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["fashion_mnist", "california_housing"])
    def test_underscores(self, name: str) -> None:
        with pytest.raises(DatasetError, match=f"^{name.replace('_', '-')}: did not find"):
            datasets.load(name, progress=False)


class TestDigits:
    def test_every_image_once(self) -> None:
        dataset = datasets.load("digits")
        assert dataset.x_train.shape == (1437, 8, 8) and dataset.x_test.shape == (360, 8, 8)
        assert dataset.x_train.dtype == dataset.y_test.dtype == np.uint8
        assert (dataset.task, dataset.classes) == ("classification", 10)
        ours = np.concatenate([dataset.x_train, dataset.x_test]).reshape(-1, 64)
        labels = np.concatenate([dataset.y_train, dataset.y_test])
        bundled = sklearn.datasets.load_digits()
        rows = sorted(zip(ours.tolist(), labels.tolist(), strict=True))
        assert rows == sorted(zip(bundled.data.tolist(), bundled.target.tolist(), strict=True))

    def test_stratified_and_shuffled(self) -> None:
        dataset = datasets.load("digits")
        train, test = np.bincount(dataset.y_train), np.bincount(dataset.y_test)
        assert np.all(np.abs(test - (train + test) / 5) < 1)
        for labels in (dataset.y_train, dataset.y_test):
            assert set(labels[:60]) == set(range(10))

    def test_always_the_same_split(self) -> None:
        # Recorded from this code: published accuracies depend on the split staying as it is.
        dataset = datasets.load("digits")
        assert dataset.y_test[:12].tolist() == [4, 0, 2, 7, 3, 1, 0, 9, 5, 6, 8, 7]
        found = hashlib.sha256(dataset.x_train.tobytes() + dataset.x_test.tobytes()).hexdigest()
        assert found.startswith("8a5a13d9ff8f64c1")


def test_splitmix64_is_the_published_one() -> None:
    # First outputs for the seed 1234567, as in the tests of many implementations.
    assert datasets._splitmix64(3, 1234567).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@pytest.mark.parametrize("seed", [0, -1, 2**64 + 5])
def test_shuffled_is_a_permutation(seed: int) -> None:
    assert sorted(datasets._shuffled(1000, seed)) == list(range(1000))


HOUSING_CSV = """\
longitude,latitude,housing_median_age,total_rooms,total_bedrooms,population,households,\
median_income,median_house_value,ocean_proximity
-122.23,37.88,41.0,880.0,129.0,322.0,126.0,8.3252,452600.0,NEAR BAY
-122.22,37.86,21.0,7099.0,,2401.0,1138.0,8.3014,358500.0,NEAR BAY
-122.24,37.85,52.0,1467.0,190.0,496.0,177.0,7.2574,352100.0,<1H OCEAN
"""


class TestHousing:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        content = HOUSING_CSV.encode()
        (tmp_path / "california-housing").mkdir()
        (tmp_path / "california-housing" / "housing.csv").write_bytes(content)
        file = datasets._File("housing.csv", len(content), hashlib.sha256(content).hexdigest())
        monkeypatch.setattr(datasets, "_HOUSING_CSV", file)
        return tmp_path

    def test_features_of_the_complete_rows(self, folder: Path) -> None:
        dataset = datasets.load_california_housing(folder, test_split=0)
        order = np.argsort(dataset.y_train)
        # The first and the third row of the data set, by the formulas of scikit-learn.
        expected = [
            [7.2574, 52.0, 8.28813559, 1.07344633, 496.0, 2.80225989, 37.85, -122.24],
            [8.3252, 41.0, 6.98412698, 1.02380952, 322.0, 2.55555556, 37.88, -122.23],
        ]
        np.testing.assert_allclose(dataset.x_train[order], expected, rtol=1e-6)
        np.testing.assert_allclose(dataset.y_train[order], [3.521, 4.526], rtol=1e-6)
        assert dataset.x_train.dtype == dataset.y_train.dtype == np.float32
        assert dataset.x_test.shape == (0, 8) and dataset.y_test.shape == (0,)
        assert (dataset.task, dataset.classes) == ("regression", None)
        assert len(dataset.feature_names) == 8

    def test_from_scikit_learn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        x = np.arange(20_640 * 8, dtype=np.float64).reshape(20_640, 8)
        monkeypatch.setattr(
            sklearn.datasets, "fetch_california_housing", lambda **options: (x, x[:, 0])
        )
        first = datasets.load("california-housing")
        assert first.x_train.shape == (16_512, 8) and first.x_test.shape == (4128, 8)
        np.testing.assert_array_equal(first.x_test[:, 0], first.y_test)
        rows = np.concatenate([first.y_train, first.y_test])
        np.testing.assert_array_equal(np.sort(rows), x[:, 0].astype(np.float32))

        again = datasets.load("california-housing")
        np.testing.assert_array_equal(first.x_train, again.x_train)
        other = datasets.load_california_housing(seed=114)
        assert not np.array_equal(first.x_train, other.x_train)

    def test_an_array_that_is_not_the_data_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            sklearn.datasets,
            "fetch_california_housing",
            lambda **options: (np.zeros((3, 8)), np.zeros(3)),
        )
        with pytest.raises(DatasetError, match=r"shape \(3, 8\), not the 20,640 complete rows"):
            datasets.load("california-housing")

    def test_nowhere(self, tmp_path: Path, cache: Path) -> None:
        with pytest.raises(DatasetError) as caught:
            datasets.load("california-housing", tmp_path)
        assert str(caught.value).splitlines() == [
            f"california-housing: did not find housing.csv in {tmp_path / 'california-housing'}, "
            f"{cache / 'california-housing'}, and the download failed "
            "(scikit-learn: <urlopen error no network in tests>).",
            "Pass data_dir (--data-dir), set GPUNN_DATA, or run once with network access; "
            "the data set 'digits' needs no download.",
        ]

    def test_a_damaged_file(self, folder: Path) -> None:
        path = folder / "california-housing" / "housing.csv"
        path.write_text(HOUSING_CSV.replace("880.0", "881.0"))
        with pytest.raises(DatasetError, match=r"housing\.csv: .* sha256 .*, expected "):
            datasets.load("california-housing", folder)

    @pytest.mark.parametrize("test_split", [1, -0.1, float("nan"), "0.2"])
    def test_split_out_of_range(self, test_split: Any) -> None:
        with pytest.raises(ArgumentError, match="test_split must be a number, 0 <= test_split < 1"):
            datasets.load_california_housing(test_split=test_split)

    @pytest.mark.parametrize("seed", [1.0, None, True])
    def test_seed_of_another_type(self, seed: Any) -> None:
        with pytest.raises(ArgumentTypeError, match="seed must be an integer"):
            datasets.load_california_housing(seed=seed)


class TestKerasNames:
    @pytest.mark.usefixtures("tiny_mnist")
    def test_mnist(self, tmp_path: Path) -> None:
        (x_train, y_train), (x_test, y_test) = gpunn.datasets.mnist.load_data(write_mnist(tmp_path))
        for found, expected in zip((x_train, y_train, x_test, y_test), ARRAYS, strict=True):
            np.testing.assert_array_equal(found, expected)

    def test_digits(self) -> None:
        (x_train, y_train), (x_test, y_test) = gpunn.datasets.digits.load_data()
        assert x_train.shape == (1437, 8, 8) and x_test.shape == (360, 8, 8)
        assert y_train.shape == (1437,) and y_test.shape == (360,)

    def test_every_name_is_there(self) -> None:
        assert all(hasattr(gpunn.datasets, name) for name in keras_datasets.__all__)
        assert sorted(keras_datasets.__all__) == [name.replace("-", "_") for name in datasets.NAMES]


def test_importing_costs_numpy_only() -> None:
    code = (
        "import sys, gpunn.datasets;"
        "print(*{'pooch', 'sklearn', 'rich', 'platformdirs', 'requests'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_real_images(name: str, real_data: Path) -> None:
    dataset = datasets.load(name, real_data)
    assert dataset.x_train.shape == (60_000, 28, 28) and dataset.x_test.shape == (10_000, 28, 28)
    assert dataset.y_train.shape == (60_000,) and dataset.y_test.shape == (10_000,)
    # Published means of the training pixels, after / 255.
    expected = {"mnist": 0.1307, "fashion-mnist": 0.2860}[name]
    assert dataset.x_train.mean() / 255 == pytest.approx(expected, abs=5e-5)
    assert len(dataset.class_names) == dataset.classes == len(np.unique(dataset.y_train))


def test_real_housing(real_data: Path) -> None:
    (x_train, y_train), (x_test, y_test) = gpunn.datasets.california_housing.load_data(real_data)
    assert x_train.shape == (16_346, 8) and x_test.shape == (4087, 8)
    assert x_train.dtype == y_train.dtype == np.float32
    y = np.concatenate([y_train, y_test])
    assert y.min() > 0.14 and y.max() == np.float32(5.00001)
    assert np.isfinite(x_train).all() and np.isfinite(x_test).all()
