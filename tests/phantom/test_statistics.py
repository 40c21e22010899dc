from dataclasses import replace

import numpy as np
import pytest

from hipedge.phantom import HOSPITALS, crop
from hipedge.phantom.real import real_crops
from hipedge.phantom.statistics import crop_statistics, distance, fine_factor
from hipedge.types import Category, CropGeometry

GEOMETRY = CropGeometry(size_px=128, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)


def noise(seed, mean=120.0, deviation=20.0):
    rng = np.random.default_rng(seed)
    crops = rng.normal(mean, deviation, size=(4, 128, 128))
    return np.clip(crops, 0, 255).astype(np.uint8)


def test_crops_are_at_no_distance_from_themselves():
    measured = crop_statistics(noise(0))
    assert distance(measured, measured).total == 0.0


def test_brighter_crops_are_as_far_as_they_are_brighter():
    apart = distance(crop_statistics(noise(0)), crop_statistics(noise(0, mean=130.0)))
    assert apart.histogram == pytest.approx(10.0, abs=0.3)
    assert apart.contrast < 0.5


def test_stronger_contrast_is_seen_in_spectrum_and_windows():
    apart = distance(crop_statistics(noise(0)), crop_statistics(noise(0, deviation=30.0)))
    assert apart.spectrum == pytest.approx(2 * np.log10(1.5), abs=0.03)
    assert apart.contrast == pytest.approx(10.0, rel=0.15)


def test_phantoms_are_nearer_to_real_hips_than_to_noise(shared_data, pytestconfig):
    manifest = pytestconfig.rootpath / "hipedge/insertion/data/fracatlas.csv"
    real = crop_statistics(np.array(real_crops(manifest, shared_data / "fracatlas", GEOMETRY)))
    drawn = np.array([crop(seed, GEOMETRY, Category.NORMAL)[0][0] for seed in range(24)])
    apart = distance(real, crop_statistics(drawn))
    assert apart.total < 1.0
    assert apart.total < 0.5 * distance(real, crop_statistics(noise(0))).total


def test_fine_detail_has_the_power_that_it_has_on_real_films(shared_data, pytestconfig):
    manifest = pytestconfig.rootpath / "hipedge/insertion/data/fracatlas.csv"
    fine = replace(GEOMETRY, size_px=256)
    crops = real_crops(manifest, shared_data / "fracatlas", fine, coarsest_mm=160.0 / 256)
    assert len(crops) >= 5
    drawn = np.array(
        [
            crop(seed, fine, Category.NORMAL, style)[0][0]
            for seed in range(10)
            for style in HOSPITALS
        ]
    )
    assert fine_factor(crop_statistics(np.array(crops)), crop_statistics(drawn)) < 1.8
