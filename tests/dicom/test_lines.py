"""Means and medians along lines are numpy's: the thresholds for damage were set with those."""

import numpy as np
import pytest

from hipedge.dicom.lines import means_of_parts, medians_of_rows


@pytest.mark.parametrize("columns", [1, 2, 3, 46, 47])
def test_a_median_is_that_of_numpy_for_an_even_number_of_values_too(columns):
    values = np.random.default_rng(0).normal(size=(9, columns)).astype(np.float32)
    np.testing.assert_array_equal(medians_of_rows(values), np.median(values, axis=1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("width", [1, 7, 8, 16, 24, 64])
def test_a_mean_is_that_of_numpy(width, dtype):
    most = np.iinfo(dtype).max
    lines = np.random.default_rng(0).integers(0, most, (18, 5 * width), dtype, endpoint=True)[::2]
    lines[0] = most
    expected = lines.reshape(9, 5, width).mean(axis=2)
    np.testing.assert_allclose(means_of_parts(lines, width), expected, rtol=1e-6)
