"""scikit-learn's tests of StandardScaler, for `lo.Standardize` with float64 numbers."""

import pytest
from peers.borrowed import borrow, source_of
from peers.standard_scaler import StandardScaler, scale

pytestmark = pytest.mark.usefixtures("x64")

TESTS = [
    "test_raises_value_error_if_sample_weights_greater_than_1d",
    "test_standard_scaler_sample_weight",
    "test_standard_scaler_1d",
    "test_standard_scaler_dtype",
    "test_standard_scaler_constant_features",
    "test_standard_scaler_near_constant_features",
    "test_scale_1d",
    "test_standard_scaler_numerical_stability",
    "test_scaler_2d_arrays",
    "test_scaler_float16_overflow",
    "test_standard_scaler_partial_fit",
    "test_standard_scaler_partial_fit_numerical_stability",
    "test_partial_fit_sparse_input",
    "test_standard_scaler_transform_with_partial_fit",
    "test_standard_check_array_of_inverse_transform",
    "test_scaler_without_centering",
    "test_scaler_n_samples_seen_with_nan",
    "test_scaler_return_identity",
    "test_scaler_int",
    "test_scaler_without_copy",
    "test_scale_sparse_with_mean_raise_exception",
    "test_scale_input_finiteness_validation",
    "test_scale_function_without_centering",
    "test_fit_transform",
    "test_fit_cold_start",
    "test_standard_scaler_sparse_partial_fit_finite_variance",
    "test_standard_scaler_raise_error_for_1d_input",
]
WORDS = "errors have other words"
APART = {
    "test_standard_scaler_near_constant_features": "constant is what varies by at most one rounding step of its mean; "
    "there, also what varies by less than the steps that as many additions could be off",
    "test_standard_scaler_numerical_stability": "there are no warnings, since no digits are lost",
    "test_scale_input_finiteness_validation": WORDS,
    "test_standard_scaler_raise_error_for_1d_input": WORDS,
}
globals().update(
    borrow(
        source_of("sklearn.preprocessing.tests.test_data"),
        {"StandardScaler": StandardScaler, "scale": scale},
        TESTS,
        APART,
    )
)
