"""What is read from the marker segments of a JPEG."""

import imagecodecs
import numpy as np
import pytest

from hipedge.dicom.jpeg_segments import find_scan

END_MARKER = b"\xff\xd9"


@pytest.fixture(scope="module")
def frame():
    """A JPEG of a megabyte, with one scan."""
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024), np.uint8)
    frame = imagecodecs.jpeg8_encode(noise, level=95)
    assert len(frame) > 1 << 19
    return frame


def test_the_data_of_a_scan_end_at_the_end_marker(frame):
    scan = find_scan(frame)
    assert frame[scan.data_end :] == END_MARKER
    assert scan.data_at < scan.data_end == len(frame) - 2


@pytest.mark.parametrize("beyond", [0, 1, (1 << 18) - 1, 1 << 18, (1 << 18) + 1])
def test_the_first_of_several_end_markers_counts_wherever_it_lies(frame, beyond):
    at = find_scan(frame).data_at + beyond
    twice = frame[:at] + END_MARKER + frame[at + 2 :]
    assert find_scan(twice).data_end == twice.find(END_MARKER, at) == at


@pytest.mark.parametrize("removed", [1, 2])
def test_without_an_end_marker_the_end_is_not_found(frame, removed):
    assert find_scan(frame[:-removed]).data_end == -1
