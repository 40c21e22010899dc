"""Means and medians along lines are numpy's: the thresholds for damage were set with those."""

import numpy as np
import pytest

from hipedge.dicom.lines import means_of_parts, medians_of_rows


@pytest.mark.parametrize("columns", [1, 2, 3, 46, 47])
def test_a_median_is_that_of_numpy_for_an_even_number_of_values_too(columns):
    values = np.random.default_rng(0).normal(size=(9, columns)).astype(np.float32)
    np.testing.assert_array_equal(medians_of_rows(values), np.median(values, axis=1))


@pytest.mark.parametrize("width", [8, 16, 24])
def test_a_mean_is_that_of_numpy(width):
    lines = np.random.default_rng(0).integers(0, 65536, (9, 5 * width), np.uint16)
    expected = lines.reshape(9, 5, width).mean(axis=2)
    np.testing.assert_allclose(means_of_parts(lines, width), expected, rtol=1e-6)
