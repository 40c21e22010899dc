"""Implants must be closed bodies, of real sizes, in the places where surgeons put them."""

import re
from dataclasses import replace

import numpy as np
import pytest

from hipedge.phantom.hardware import (
    ARTHROPLASTIES,
    FIXATIONS,
    AcetabulumFrame,
    FemurFrame,
    Material,
    measure_femur,
)
from hipedge.phantom.hardware.fixation import CANNULATED, tip_apex_mm
from hipedge.phantom.hardware.solids import (
    arc,
    rod,
    screw,
    slotted_plate,
    turned,
    volume_mm3,
)

MIRROR = np.array([-1.0, 1.0, 1.0])
SEEDS = range(12)
FAMILIES = [*ARTHROPLASTIES, *FIXATIONS]
HEAD_RADIUS_MM = 22.8


def femur_frame(side=1.0, cortex_mm=5.0):
    """A femur of average measures: `side` 1 is left, -1 right."""
    height = [-300.0, -180.0, -120.0, -60.0, -30.0, 0.0, 15.0, 25.0, 30.0, 45.0, 56.0, 59.0]
    medial = [14.0, 13.7, 14.7, 15.2, 16.5, 21.5, 28.7, 37.2, 54.4, 65.2, 64.6, 63.0]
    lateral = [23.0, 13.7, 12.5, 14.5, 15.5, 17.5, 21.3, 24.6, 24.7, 20.4, 14.0, -20.0]
    anterior = [2.0, 9.2, 13.9, 14.1, 12.9, 13.3, 15.8, 18.7, 20.6, 22.1, 22.0, 20.3]
    posterior = [32.0, 20.1, 15.1, 13.3, 14.6, 25.4, 21.1, 21.0, 20.4, 22.8, 22.1, 20.3]
    return FemurFrame(
        lesser_trochanter=np.array([side * 105.0, 21.0, -55.0]),
        medial=np.array([-side, 0.0, 0.0]),
        posterior=np.array([0.0, 1.0, 0.0]),
        up=np.array([0.0, 0.0, 1.0]),
        head=np.array([43.0, 0.0, 50.0]),
        head_radius_mm=HEAD_RADIUS_MM,
        neck=np.array([0.805, 0.088, 0.587]) / np.linalg.norm([0.805, 0.088, 0.587]),
        neck_radius_mm=12.3,
        trochanter_tip=np.array([-5.2, 6.3, 59.4]),
        profile=np.column_stack([height, medial, lateral, anterior, posterior]),
        cortex_mm=cortex_mm,
    )


def acetabulum_frame(femur):
    lateral = np.array([1.0 if femur.medial[0] < 0 else -1.0, 0.0, 0.0])
    return AcetabulumFrame(femur.to_patient(femur.head), HEAD_RADIUS_MM + 4.2, lateral)


def operated(family, seed, femur=None):
    femur = femur_frame() if femur is None else femur
    rng = np.random.default_rng(seed)
    if family in FIXATIONS:
        return FIXATIONS[family](femur, rng)
    return ARTHROPLASTIES[family](femur, acetabulum_frame(femur), rng)


def in_femur(femur, part):
    """Vertices in the femur's axes: medial, posterior, up."""
    axes = np.stack([femur.medial, femur.posterior, femur.up])
    return (part.vertices - femur.lesser_trochanter) @ axes.T


def assert_closed(faces, vertex_count):
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    forth = np.sort(edges[:, 0] * vertex_count + edges[:, 1])
    back = np.sort(edges[:, 1] * vertex_count + edges[:, 0])
    assert len(np.unique(forth)) == len(forth)
    np.testing.assert_array_equal(forth, back)


@pytest.mark.parametrize("side", [1.0, -1.0], ids=["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_part_is_closed_and_faces_outwards_on_both_sides(family, side):
    for seed in SEEDS:
        implant = operated(family, seed, femur_frame(side))
        assert sum(len(part.faces) for part in implant.parts) < 20_000
        for part in implant.parts:
            assert part.vertices.dtype == np.float32
            assert part.faces.dtype == np.int32
            assert np.isfinite(part.vertices).all()
            assert_closed(part.faces, len(part.vertices))
            assert volume_mm3(part.vertices, part.faces) > 10.0


def test_a_ball_has_the_volume_of_a_sphere():
    ball = turned(arc(14.0, 0.1, 179.9, 24), 32)
    volume = volume_mm3(ball.vertices, ball.faces)
    assert volume == pytest.approx(4 / 3 * np.pi * 14.0**3, rel=0.02)


def test_a_joined_outline_makes_a_ring():
    ring = turned([[-1.0, 4.0], [-1.0, 6.0], [1.0, 6.0], [1.0, 4.0]], 64, joined=True)
    assert_closed(ring.faces, len(ring.vertices))
    volume = volume_mm3(ring.vertices, ring.faces)
    assert volume == pytest.approx(np.pi * (6.0**2 - 4.0**2) * 2.0, rel=0.01)


def test_a_bent_rod_keeps_its_radius():
    turn = np.linspace(0.0, np.pi / 2, 40)
    bent = rod(100.0 * np.column_stack([np.cos(turn), 0 * turn, np.sin(turn)]), 5.0, 32)
    length = 100.0 * np.pi / 2
    volume = volume_mm3(bent.vertices, bent.faces)
    assert volume == pytest.approx(np.pi * 5.0**2 * length, rel=0.02)


def test_a_plate_lacks_what_its_slots_take():
    path = np.column_stack([np.zeros(20), np.linspace(0.0, 100.0, 20)])
    outward = np.tile([-1.0, 0.0], (20, 1))
    plate = slotted_plate(path, outward, 18.0, 5.0, [20.0, 50.0, 80.0], 8.0)
    assert_closed(plate.faces, len(plate.vertices))
    volume = volume_mm3(plate.vertices, plate.faces)
    assert volume == pytest.approx(18.0 * 5.0 * 100.0 - 3 * 8.0 * 6.0 * 5.0, rel=1e-6)


def test_a_screw_has_its_length_its_bore_and_a_thread_at_its_tip_only():
    kind = CANNULATED[7.3]
    body = screw(kind, 90.0, 16.0)
    radius, height = np.hypot(body.vertices[:, 0], body.vertices[:, 1]), body.vertices[:, 2]
    assert height.max() == pytest.approx(90.0)
    assert height.min() == pytest.approx(-kind.head[1])
    assert radius.min() == pytest.approx(kind.bore / 2)
    threaded = (height > 75.0) & (height < 85.0)
    assert radius[threaded].max() == pytest.approx(kind.thread / 2, rel=0.05)
    assert radius[(height > 1.0) & (height < 74.0)].max() == pytest.approx(kind.shank / 2)
    core_only = np.pi * ((kind.core / 2) ** 2 - (kind.bore / 2) ** 2) * 90.0
    assert 0.9 * core_only < volume_mm3(body.vertices, body.faces) < 1.7 * core_only


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_generator_gives_the_same_implant_and_another_a_different_one(family):
    first, again, other = (operated(family, seed) for seed in (3, 3, 4))
    assert first.description == again.description
    for part, same in zip(first.parts, again.parts, strict=True):
        np.testing.assert_array_equal(part.vertices, same.vertices)
    assert first.description != other.description


@pytest.mark.parametrize("family", FIXATIONS)
def test_a_right_hip_is_the_mirror_image_of_a_left_one(family):
    left, right = (operated(family, 5, femur_frame(side)) for side in (1.0, -1.0))
    for one, other in zip(left.parts, right.parts, strict=True):
        np.testing.assert_allclose(one.vertices * MIRROR, other.vertices, atol=1e-3)


@pytest.mark.parametrize("family", ARTHROPLASTIES)
def test_a_right_stem_and_cup_are_the_mirror_image_of_left_ones_in_extent(family):
    left, right = (operated(family, 5, femur_frame(side)) for side in (1.0, -1.0))
    for plane, other in zip(left.resection, right.resection, strict=True):
        np.testing.assert_allclose(plane.point * MIRROR, other.point)
        np.testing.assert_allclose(plane.normal * MIRROR, other.normal, atol=1e-12)
    everything = [np.concatenate([part.vertices for part in hip.parts]) for hip in (left, right)]
    np.testing.assert_allclose(
        np.ptp(everything[0] * MIRROR, axis=0), np.ptp(everything[1], axis=0), atol=6.0
    )


@pytest.mark.parametrize("cortex_mm", [3.5, 5.0, 6.5])
@pytest.mark.parametrize("family", FIXATIONS)
def test_screws_end_inside_the_head_and_never_in_the_joint(family, cortex_mm):
    femur = femur_frame(cortex_mm=cortex_mm)
    for seed in range(60):
        implant = operated(family, seed, femur)
        points = np.concatenate([in_femur(femur, part) for part in implant.parts])
        in_head = points[(points - femur.head) @ femur.neck > -8.0]
        depth = femur.head_radius_mm - np.linalg.norm(in_head - femur.head, axis=1)
        assert len(in_head)
        assert depth.min() >= 3.0


def test_three_cannulated_screws_are_parallel_and_form_an_inverted_triangle():
    femur = femur_frame()
    seen = 0
    for seed in range(30):
        implant = operated("cannulated_screws", seed, femur)
        if implant.description.endswith("poorly placed"):
            continue
        seen += 1
        screws = [in_femur(femur, part) for part in implant.parts[:3]]
        axes = np.array([np.linalg.svd(s - s.mean(axis=0))[2][0] for s in screws])
        assert np.degrees(np.arccos(np.clip(np.abs(axes @ axes[0]), 0, 1))).max() < 6.0
        near_head = [s[s[:, 0] > 20.0].mean(axis=0) for s in screws]
        heights, backs = (np.array([p[k] for p in near_head]) for k in (2, 1))
        assert heights.argmin() == 0
        assert min(abs(backs[1] - backs[2]), abs(backs[1] - backs[0])) > 2.0
    assert seen > 15


@pytest.mark.parametrize("family", ["sliding_hip_screw", "proximal_plate"])
def test_a_plate_lies_on_the_lateral_cortex_and_its_screws_take_both_cortices(family):
    femur = femur_frame()
    for seed in SEEDS:
        implant = operated(family, seed, femur)
        plate = max(implant.parts, key=lambda part: np.ptp(in_femur(femur, part)[:, 2]))
        on_shaft = in_femur(femur, plate)
        on_shaft = on_shaft[on_shaft[:, 2] < -10.0]
        inner = np.abs(on_shaft[:, 0]).reshape(-1) - femur.lateral_reach(on_shaft[:, 2])
        assert inner.min() > -1.0
        assert np.abs(inner).min() < 1.0
        assert inner.max() < 12.0
        shaft_screws = [
            points
            for points in (in_femur(femur, part) for part in implant.parts if part is not plate)
            if points[:, 2].max() < -5.0
        ]
        assert shaft_screws
        for points in shaft_screws:
            beyond = points[:, 0].max() - femur.medial_reach(points[:, 2].mean())
            assert 0.0 < beyond < 6.0


@pytest.mark.parametrize("cortex_mm", [3.5, 5.0, 6.5])
def test_a_nail_runs_in_the_canal_from_the_trochanters_tip(cortex_mm):
    femur = femur_frame(cortex_mm=cortex_mm)
    for seed in range(30):
        implant = operated("cephalomedullary_nail", seed, femur)
        nail = in_femur(femur, implant.parts[0])
        assert -12.0 < nail[:, 2].max() - femur.trochanter_tip[2] < 12.0
        assert np.ptp(nail[:, 2]) > 165.0
        assert_in_canal(femur, nail[nail[:, 2] < -40.0])


@pytest.mark.parametrize("cortex_mm", [3.5, 5.0, 6.5])
@pytest.mark.parametrize(
    "family", ["cemented_total_hip", "uncemented_total_hip", "hemiarthroplasty"]
)
def test_a_stem_and_its_cement_stand_in_the_canal(family, cortex_mm):
    femur = femur_frame(cortex_mm=cortex_mm)
    for seed in range(30):
        for part in operated(family, seed, femur).parts:
            points = in_femur(femur, part)
            assert_in_canal(femur, points[points[:, 2] < -40.0])


def assert_in_canal(femur, points):
    if len(points):
        aside = np.abs(points - femur.centre_line(points[:, 2]))
        height, medial, lateral, anterior, posterior = femur.profile.T
        across = np.interp(points[:, 2], height, (medial + lateral) / 2) - femur.cortex_mm
        deep = np.interp(points[:, 2], height, (anterior + posterior) / 2) - femur.cortex_mm
        assert (aside[:, 0] - across).max() < 0.5
        assert (aside[:, 1] - deep).max() < 0.5


@pytest.mark.parametrize(
    "family", ["cemented_total_hip", "uncemented_total_hip", "hemiarthroplasty"]
)
def test_the_saw_takes_head_and_neck_and_spares_trochanters_and_shaft(family):
    femur = femur_frame()
    kept = np.array([femur.trochanter_tip, [0.0, 0.0, 0.0], [15.0, 15.0, 0.0], [0.0, 0.0, -80.0]])
    gone = np.array([femur.head, femur.head - 28.0 * femur.neck, [36.0, 0.0, 33.0]])
    for seed in SEEDS:
        planes = operated(family, seed, femur).resection
        for points, expected in ((kept, False), (gone, True)):
            beyond = [
                (femur.to_patient(points) - plane.point) @ plane.normal > 0 for plane in planes
            ]
            np.testing.assert_array_equal(np.all(beyond, axis=0), expected)


@pytest.mark.parametrize("family", ARTHROPLASTIES)
@pytest.mark.parametrize("radius_mm", [18.0, 21.0, 24.0, 34.0])
def test_every_prosthesis_comes_for_the_smallest_and_the_largest_socket(family, radius_mm):
    femur = femur_frame()
    socket = replace(acetabulum_frame(femur), radius_mm=radius_mm)
    for seed in range(10):
        implant = ARTHROPLASTIES[family](femur, socket, np.random.default_rng(seed))
        for part in implant.parts:
            assert_closed(part.faces, len(part.vertices))


def test_resurfacing_keeps_the_femur():
    assert operated("resurfacing", 0).resection == ()


def test_a_press_fit_cup_has_the_size_and_inclination_that_it_says():
    for seed in SEEDS:
        implant = operated("uncemented_total_hip", seed)
        size, angle = re.search(r"cup (\d+) mm at (\d+) degrees", implant.description).groups()
        centre = acetabulum_frame(femur_frame()).centre
        shell = implant.parts[0].vertices - centre
        assert implant.parts[0].material is Material.TITANIUM
        assert 2 * np.linalg.norm(shell, axis=1).max() == pytest.approx(float(size), abs=0.1)
        opening = -shell.mean(axis=0)
        on_film = np.degrees(np.arctan2(opening[0], -opening[2]))
        assert 30.0 <= float(angle) <= 50.0
        assert on_film == pytest.approx(float(angle), abs=1.0)
        assert opening[1] < 0.0  # anteverted


@pytest.mark.parametrize(
    "family", ["cemented_total_hip", "uncemented_total_hip", "hemiarthroplasty"]
)
def test_the_new_head_turns_about_the_sockets_centre(family):
    femur = femur_frame()
    centre = acetabulum_frame(femur).centre
    for seed in SEEDS:
        implant = operated(family, seed, femur)
        balls = [
            np.linalg.norm(part.vertices - centre, axis=1)
            for part in implant.parts
            if part.material in (Material.COBALT_CHROME, Material.CERAMIC)
        ]
        assert any(10.0 < far.max() < 25.5 for far in balls)


def test_a_screw_on_the_necks_axis_has_twice_its_depth_as_tip_apex_distance():
    femur = replace(femur_frame(), neck=np.array([0.8, 0.0, 0.6]))
    tip = femur.head + (femur.head_radius_mm - 9.0) * femur.neck
    assert tip_apex_mm(femur, tip) == pytest.approx(18.0)


def test_about_a_quarter_of_hip_screws_are_placed_poorly_and_those_are_mostly_too_shallow():
    good, poor = [], []
    for seed in range(200):
        description = operated("sliding_hip_screw", seed).description
        distance = float(re.search(r"tip-apex distance (\d+) mm", description).group(1))
        (poor if description.endswith("poorly placed") else good).append(distance)
    assert 0.15 < len(poor) / 200 < 0.35
    assert np.mean(np.array(good) < 25.0) > 0.9
    assert np.mean(np.array(poor) > 25.0) > 0.7


@pytest.fixture(scope="module")
def bones(shared_data):
    path = shared_data / "anatomy" / "llp26_pelvis_femur_10modes.npz"
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files if name.startswith("femur")}


HEAD_MM = np.array([114.1, 0.0, 1204.0])


def measured(bones, scores=(), mirror=False):
    vertices = bones["femur_left_vertices"].astype(float)
    for mode, score in enumerate(scores):
        vertices = vertices + score * bones["femur_left_modes"][mode]
    on_head = np.linalg.norm(bones["femur_left_vertices"] - HEAD_MM, axis=1)
    head = np.abs(on_head - HEAD_RADIUS_MM) < 1.0
    system = np.column_stack([2 * vertices[head], np.ones(head.sum())])
    solution = np.linalg.lstsq(system, (vertices[head] ** 2).sum(axis=1), rcond=None)[0]
    centre = solution[:3]
    radius = float(np.sqrt(solution[3] + centre @ centre))
    faces = bones["femur_left_faces"]
    if mirror:
        vertices, centre, faces = vertices * MIRROR, centre * MIRROR, faces[:, ::-1]
    return measure_femur(vertices, faces, centre, radius, cortex_mm=4.5)


def test_a_real_femur_is_measured_as_a_surgeon_would(bones):
    femur = measured(bones)
    assert 120.0 < femur.neck_shaft_deg < 135.0
    assert 44.0 < femur.head[2] < 58.0  # the head's centre above the lesser trochanter
    assert 35.0 < femur.head[0] < 50.0  # offset
    assert 10.0 < femur.neck_radius_mm < 16.0
    height, *reach = femur.profile.T
    shaft = (height < -30.0) & (height > -120.0)
    assert 12.0 < np.mean(np.sum(reach, axis=0)[shaft]) / 4 < 17.0
    assert 5.0 < femur.canal_radius_mm < 12.0
    assert -10.0 < femur.trochanter_tip[2] - femur.head[2] < 20.0


def test_a_mirrored_femur_has_the_same_measures(bones):
    left, right = measured(bones), measured(bones, mirror=True)
    np.testing.assert_allclose(left.profile, right.profile, atol=1e-6)
    np.testing.assert_allclose(left.neck, right.neck, atol=1e-6)
    np.testing.assert_allclose(left.medial * MIRROR, right.medial, atol=1e-6)


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("family", FAMILIES)
def test_implants_fit_real_femora_of_other_shapes(bones, family, mode):
    for score in (-2.0, 2.0):
        femur = measured(bones, [0.0] * mode + [score])
        for seed in range(4):
            implant = operated(family, seed, femur)
            for part in implant.parts:
                assert_closed(part.faces, len(part.vertices))
                assert volume_mm3(part.vertices, part.faces) > 10.0
            points = np.concatenate([in_femur(femur, part) for part in implant.parts])
            if family in FIXATIONS:
                in_head = points[(points - femur.head) @ femur.neck > -8.0]
                depth = femur.head_radius_mm - np.linalg.norm(in_head - femur.head, axis=1)
                assert depth.min() >= 3.0
