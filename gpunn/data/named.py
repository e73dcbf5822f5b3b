"""The named data sets: found on this machine or downloaded, verified, split.

Each file is searched in the folder given, in ``$GPUNN_DATA`` and in the user's cache (all with the
same layout: ``mnist/train-images-idx3-ubyte.gz``, ``california-housing/housing.csv``, ...), then
downloaded. Whatever its source, the decompressed content must have the checksum written here: a
damaged file is an error and never silently skipped.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from gpunn.cache_folder import user_cache
from gpunn.data.idx import parse_idx, read_verified
from gpunn.errors import ArgumentError, ArgumentTypeError, DatasetError, UnknownNameError

NAMES = ("california-housing", "digits", "fashion-mnist", "mnist")

_DIGIT_NAMES = tuple("0123456789")
_FASHION_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_DIGITS_SEED = 0


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split into training and test rows.

    Attributes
    ----------
    name : str
        One of `NAMES`.
    x_train, x_test : ndarray
        Inputs, one row (or image) each.
    y_train, y_test : ndarray, shape (n,)
        Class numbers from 0, or the values to predict.
    task : {'classification', 'regression'}
        Type of the targets.
    classes : int or None
        The number of classes; None for regression.
    feature_names : tuple of str
        Names of the input columns; empty for images.
    target_name : str or None
        Name of the target, with its unit.
    class_names : tuple of str
        Names of the classes; empty for regression.
    """

    name: str
    x_train: NDArray[Any] = field(repr=False)
    y_train: NDArray[Any] = field(repr=False)
    x_test: NDArray[Any] = field(repr=False)
    y_test: NDArray[Any] = field(repr=False)
    task: Literal["classification", "regression"]
    classes: int | None = None
    feature_names: tuple[str, ...] = ()
    target_name: str | None = None
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _File:
    """A published file: its name without .gz, its size and checksums."""

    name: str
    size: int
    sha256: str
    download_hash: str | None = None  # of the public .gz, in pooch's form


@dataclass(frozen=True)
class _Images:
    """Four IDX files (training and test images and labels, in this order) and their mirrors."""

    files: tuple[_File, ...]
    mirrors: tuple[str, ...]
    target_name: str
    class_names: tuple[str, ...]


def _files(*checksums: tuple[str, str]) -> tuple[_File, ...]:
    """Return the four files of MNIST or Fashion-MNIST, which differ only in their checksums."""
    names_and_sizes = (
        ("train-images-idx3-ubyte", 47_040_016),
        ("train-labels-idx1-ubyte", 60_008),
        ("t10k-images-idx3-ubyte", 7_840_016),
        ("t10k-labels-idx1-ubyte", 10_008),
    )
    return tuple(_File(*a, *b) for a, b in zip(names_and_sizes, checksums, strict=True))


_IMAGES = {
    "mnist": _Images(
        files=_files(
            (
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            (
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            (
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            (
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        target_name="digit",
        class_names=_DIGIT_NAMES,
    ),
    "fashion-mnist": _Images(
        files=_files(
            (
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            ),
            (
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "md5:25c81989df183df01b3e8a0aad5dffbe",
            ),
            (
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "md5:bef4ecab320f06d8554ea6380940ec79",
            ),
            (
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                "md5:bb300cfdad3c16e7a12a480ee83cd310",
            ),
        ),
        mirrors=(
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
            # Plain HTTP is safe, as the content is verified by its checksum.
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        target_name="kind of clothing",
        class_names=_FASHION_NAMES,
    ),
}

_HOUSING_CSV = _File(
    "housing.csv",
    1_423_529,
    "8a3727f4cf54ac1a327f69b1d5b4db54c5834ea81c6e4efc0d163300022a685e",
)
_HOUSING_ROWS = 20_640
_HOUSING_FEATURES = (
    *("MedInc", "HouseAge", "AveRooms", "AveBedrms"),
    *("Population", "AveOccup", "Latitude", "Longitude"),
)


def load(
    name: str, data_dir: str | os.PathLike[str] | None = None, progress: bool = True
) -> Dataset:
    """Load a data set by name.

    Parameters
    ----------
    name : {'digits', 'mnist', 'fashion-mnist', 'california-housing'}
        The data set; underscores may replace hyphens.
    data_dir : str or path-like, optional
        A folder to search first. Files that are not there are searched in ``$GPUNN_DATA`` and in
        the user's cache, then downloaded into the cache.
    progress : bool, default True
        Whether a download shows its progress on standard error.

    Returns
    -------
    Dataset
        ``mnist`` and ``fashion-mnist``: uint8 images (60000, 28, 28) and (10000, 28, 28), labels
        uint8. ``digits``: see `load_digits`. ``california-housing``: see `load_california_housing`.

    Raises
    ------
    UnknownNameError
        There is no data set of this name.
    DatasetError
        A file is neither on this machine nor can be downloaded, or its content is wrong.
    """
    known = name.replace("_", "-") if isinstance(name, str) else name
    if known == "digits":
        return load_digits()
    if known == "california-housing":
        return load_california_housing(data_dir)
    if known in ("mnist", "fashion-mnist"):
        return _load_images(known, data_dir, progress)
    raise UnknownNameError("dataset", name, NAMES)


def load_digits() -> Dataset:
    """Load scikit-learn's handwritten digits, which it includes: no download.

    Returns
    -------
    Dataset
        uint8 images of shape (n, 8, 8) with values 0 to 16, labels uint8; 1,437 images to train and
        360 to test. The split is fixed and stratified: a fifth of the images of every class, within
        one, are in the test rows.
    """
    x, y = _read_digits()
    order = _shuffled(len(x), _DIGITS_SEED)
    by_class = order[np.argsort(y[order], kind="stable")]
    test = np.zeros(len(x), dtype=bool)
    test[by_class[::5]] = True
    train_rows, test_rows = order[~test[order]], order[test[order]]
    return Dataset(
        "digits",
        x[train_rows],
        y[train_rows],
        x[test_rows],
        y[test_rows],
        task="classification",
        classes=10,
        target_name="digit",
        class_names=_DIGIT_NAMES,
    )


def load_california_housing(
    data_dir: str | os.PathLike[str] | None = None, *, test_split: float = 0.2, seed: int = 113
) -> Dataset:
    """Load the California housing data (1990 census; Pace and Barry, 1997).

    Parameters
    ----------
    data_dir : str or path-like, optional
        A folder to search first, for ``california-housing/housing.csv``.
    test_split : float, default 0.2
        The fraction of test rows, 0 <= test_split < 1.
    seed : int, default 113
        Seed of the shuffle, which is the same on every machine.

    Returns
    -------
    Dataset
        float32 inputs of shape (n, 8), scikit-learn's features; float32 targets of shape (n,), the
        median house value in 100,000 dollars. ``housing.csv`` gives the 20,433 of its 20,640 rows
        that have a number of bedrooms; scikit-learn's download (kept in its own cache) gives all
        20,640.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        `test_split` or `seed` is not valid.
    DatasetError
        As for `load`.
    """
    if not (isinstance(test_split, Real) and 0 <= test_split < 1):
        raise ArgumentError(f"test_split must be a number, 0 <= test_split < 1, not {test_split!r}")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise ArgumentTypeError(f"seed must be an integer, not {seed!r}")

    folders = _folders("california-housing", data_dir)
    path = _find(folders, _HOUSING_CSV.name)
    x, y = _fetch_housing(folders) if path is None else _read_housing(path)

    # Shuffled before incomplete rows are removed, so that the order is the same for both sources.
    order = _shuffled(len(x), int(seed))
    order = order[np.isfinite(x[order]).all(axis=1)]
    train_rows, test_rows = np.split(order, [int(len(order) * (1 - test_split))])
    return Dataset(
        "california-housing",
        x[train_rows],
        y[train_rows],
        x[test_rows],
        y[test_rows],
        task="regression",
        feature_names=_HOUSING_FEATURES,
        target_name="median house value, 100,000 dollars",
    )


def _load_images(name: str, data_dir: str | os.PathLike[str] | None, progress: bool) -> Dataset:
    images = _IMAGES[name]
    folders = _folders(name, data_dir)
    paths = [_find(folders, file.name, f"{file.name}.gz") for file in images.files]
    missing = [file.name for file, path in zip(images.files, paths, strict=True) if path is None]
    arrays = []
    for file, path in zip(images.files, paths, strict=True):
        if path is not None:
            content = read_verified(path, file.sha256, file.size)
        else:
            downloaded, failures = _download(file, images.mirrors, folders[-1], progress)
            if downloaded is None:
                raise _unavailable(name, missing, folders, failures)
            content = downloaded
        arrays.append(parse_idx(content, str(path or file.name)))
    x_train, y_train, x_test, y_test = arrays
    return Dataset(
        name,
        x_train,
        y_train,
        x_test,
        y_test,
        task="classification",
        classes=len(images.class_names),
        target_name=images.target_name,
        class_names=images.class_names,
    )


def _folders(name: str, data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Return the folders to search for the files of a data set, in order; the cache is the last."""
    places = [place for place in (data_dir, os.environ.get("GPUNN_DATA")) if place]
    cache = user_cache(appauthor=False) / "data"
    return [Path(place).expanduser() / name for place in (*places, cache)]


def _find(folders: Sequence[Path], *names: str) -> Path | None:
    paths = (folder / name for folder in folders for name in names)
    return next((path for path in paths if path.is_file()), None)


def _unavailable(
    name: str, missing: Sequence[str], folders: Sequence[Path], failures: Sequence[str]
) -> DatasetError:
    return DatasetError(
        f"{name}: did not find {', '.join(missing)} in {', '.join(map(str, folders))}, "
        f"and the download failed ({'; '.join(failures)}).\n"
        "Pass data_dir (--data-dir), set GPUNN_DATA, or run once with network access; "
        "the data set 'digits' needs no download."
    )


def _download(
    file: _File, mirrors: Sequence[str], cache: Path, progress: bool
) -> tuple[bytearray | None, list[str]]:
    """Download a file into the cache from the first mirror that has it.

    Return its content, or None, and the reason of each mirror that failed.
    """
    import pooch

    failures: list[str] = []
    target = f"{file.name}.gz"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        staging = TemporaryDirectory(dir=cache, prefix=".download-")
    except OSError as error:
        reason = error.strerror or error
        raise DatasetError(
            f"{cache}: a download cannot be stored there: {reason}. Make this folder writable, or "
            "pass data_dir (--data-dir) or set GPUNN_DATA to a folder that has the data."
        ) from error
    # A file is moved into place only once it is verified, so no reader sees a partial one.
    with staging, _quiet(pooch.get_logger()):
        for mirror in mirrors:
            host = urlsplit(mirror).hostname
            try:
                with _progress_bar(target, progress) as bar:
                    path = pooch.retrieve(
                        mirror + target,
                        file.download_hash,
                        fname=target,
                        path=staging.name,
                        downloader=pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16),
                    )
                content = read_verified(path, file.sha256, file.size)
                Path(path).replace(cache / target)
            except (OSError, ValueError) as error:
                failures.append(f"{host}: {_reason(error)}")
            else:
                return content, failures
    return None, failures


def _reason(error: OSError | ValueError) -> str:
    """Return briefly why a mirror failed."""
    if isinstance(error, DatasetError) or not isinstance(error, OSError):
        return "wrong checksum"  # pooch's is a ValueError, ours a DatasetError
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"HTTP {status}" if status else error.strerror or type(error).__name__


@contextmanager
def _quiet(logger: Any) -> Iterator[None]:
    """Suppress pooch's messages about temporary files."""
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)


class _Bar:
    """The part of tqdm's interface that pooch uses, for a task of rich."""

    def __init__(self, progress: Any, description: str) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=None)

    @property
    def total(self) -> int:
        return self._progress.tasks[self._task].total or 0

    @total.setter
    def total(self, value: int) -> None:
        self._progress.update(self._task, total=value or None)

    def update(self, n: int) -> None:
        self._progress.update(self._task, advance=n)

    def reset(self) -> None:
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """Do nothing: the `rich.progress.Progress` is closed by its own context."""


@contextmanager
def _progress_bar(description: str, shown: bool) -> Iterator[_Bar | Literal[False]]:
    if not shown:
        yield False
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(progress, description)


def _read_digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read the images and labels that scikit-learn includes."""
    # Importing sklearn.datasets takes about 1 s, half of a short training; reading its file 10 ms.
    spec = importlib.util.find_spec("sklearn")  # does not import it
    folders = (spec.submodule_search_locations if spec else None) or ()
    for folder in folders:
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            with gzip.open(path, "rt", encoding="ascii") as lines:
                values = np.loadtxt(lines, delimiter=",", dtype=np.int64)
            if values.shape == (1797, 65):
                images, labels = values[:, :-1].reshape(-1, 8, 8), values[:, -1]
                return images.astype(np.uint8), labels.astype(np.uint8)
    try:
        from sklearn.datasets import load_digits as load_bundled
    except ImportError as error:
        raise DatasetError(
            f"digits: part of scikit-learn, which cannot be imported ({error}); "
            "pip install scikit-learn."
        ) from error
    bundled = load_bundled()
    return bundled.images.astype(np.uint8), bundled.target.astype(np.uint8)


def _read_housing(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    content = read_verified(path, _HOUSING_CSV.sha256, _HOUSING_CSV.size)
    lines = content.decode("ascii").splitlines()
    columns = np.genfromtxt(lines, delimiter=",", skip_header=1, usecols=range(9), unpack=True)
    longitude, latitude, age, rooms, bedrooms, population, households, income, value = columns
    # The order and the formulas of scikit-learn's fetch_california_housing.
    features = (
        income,
        age,
        rooms / households,
        bedrooms / households,
        population,
        population / households,
        latitude,
        longitude,
    )
    x = np.stack(features, axis=1)
    return x.astype(np.float32), (value / 100_000.0).astype(np.float32)


def _fetch_housing(
    folders: Sequence[Path],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    from sklearn.datasets import fetch_california_housing

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Retry downloading": the error is enough
            x, y = fetch_california_housing(return_X_y=True, n_retries=1)
    # Unpickling a damaged file of scikit-learn's cache may raise anything.
    except Exception as error:
        reason = str(error).replace("\n", " ") or type(error).__name__
        failures = [f"scikit-learn: {reason}"]
        raise _unavailable("california-housing", [_HOUSING_CSV.name], folders, failures) from error
    if x.shape != (_HOUSING_ROWS, len(_HOUSING_FEATURES)) or not np.isfinite(x).all():
        raise DatasetError(
            f"california-housing: scikit-learn gave an array of shape {x.shape}, not the "
            f"{_HOUSING_ROWS:,} complete rows; remove its cached copy (cal_housing_py3.pkz)"
        )
    return x.astype(np.float32), y.astype(np.float32)


def _shuffled(n: int, seed: int) -> NDArray[np.int64]:
    """Return row numbers 0 to n-1, ordered by a hash: the same in every version of NumPy."""
    return np.argsort(_splitmix64(n, seed), kind="stable")


def _splitmix64(n: int, seed: int) -> NDArray[np.uint64]:
    """The first `n` outputs of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(seed % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
