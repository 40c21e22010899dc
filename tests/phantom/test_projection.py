import numpy as np
import pytest

from hipedge.phantom.anatomy import LANDMARKS_MM, atlas, landmark_of
from hipedge.phantom.mesh import Mesh, cut, normals, volume_mm3
from hipedge.phantom.projection import View, thickness_mm
from hipedge.phantom.spine import ellipsoid

# A focus far away makes rays parallel, so that shadows are as wide as what casts them.
FAR = View((200, 300), 0.5, (-75.0, 50.0), (0.0, -1e6, 0.0), 0.0)
NEAR = View((200, 300), 0.5, (-75.0, 50.0), (0.0, -1000.0, 0.0), 150.0)


def ball(radius, centre=(0.0, 0.0, 0.0)):
    return ellipsoid(np.array(centre), np.eye(3), (radius, radius, radius))


def edges_pair_up(mesh):
    pairs = mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    forwards = {tuple(edge) for edge in pairs.tolist()}
    return len(forwards) == len(pairs) and all((b, a) in forwards for a, b in forwards)


def test_a_shadow_holds_the_volume_that_casts_it():
    mesh = ball(20.0, (5.0, 0.0, -8.0))
    shadow = thickness_mm(FAR, mesh)
    assert shadow.sum() * 0.5**2 == pytest.approx(volume_mm3(mesh), rel=2e-3)
    assert shadow.min() >= -1e-3


def test_the_middle_of_a_ball_is_as_thick_as_the_ball():
    assert thickness_mm(FAR, ball(20.0)).max() == pytest.approx(40.0, abs=0.9)


def test_every_shipped_bone_is_closed_and_leaves_no_pixel_open():
    bones = atlas()
    for mesh in (bones.hemipelvis, bones.sacrum, bones.femur):
        assert edges_pair_up(mesh)
        assert volume_mm3(mesh) > 100_000
        middle = mesh.vertices[np.unique(mesh.faces)].mean(axis=0)
        shadow = thickness_mm(NEAR, Mesh(mesh.vertices - middle, mesh.faces))
        assert shadow.min() > -1e-2


@pytest.mark.parametrize("name", LANDMARKS_MM)
def test_a_ball_on_a_landmark_is_seen_where_the_landmark_is_projected(name):
    at = landmark_of(atlas().femur, name) - np.array([90.0, 0.0, -100.0])
    view = View((700, 700), 0.5, (-175.0, 175.0), (10.0, -1000.0, 20.0), 150.0)
    shadow = thickness_mm(view, ball(3.0, at))
    y, x = np.indices(shadow.shape) + 0.5
    seen = ((x * shadow).sum() / shadow.sum(), (y * shadow).sum() / shadow.sum())
    assert seen == pytest.approx(tuple(view.project(at[None])[0]), abs=0.15)


def test_things_nearer_the_focus_are_magnified_more():
    near, far = (thickness_mm(NEAR, ball(20.0, (0.0, y, 0.0))) > 0 for y in (-60.0, 60.0))
    assert near.sum() / far.sum() == pytest.approx(((1000 + 60) / (1000 - 60)) ** 2, rel=0.02)


def test_a_window_sees_what_the_whole_view_sees_there():
    mesh = ball(20.0, (5.0, 0.0, -8.0))
    part = NEAR.window(100, 40, (120, 150), 1.0)
    np.testing.assert_allclose(
        thickness_mm(part, mesh), thickness_mm(NEAR, mesh)[40:160, 100:250], atol=1e-3
    )


def test_a_cut_bone_put_together_again_shows_no_trace():
    femur = atlas().femur
    femur = Mesh(femur.vertices - landmark_of(femur, "neck"), femur.faces)
    level = femur.vertices @ np.array([0.5, 0.2, -0.8]) + np.sin(femur.vertices[:, 1])
    proximal, distal = cut(femur, level)
    assert volume_mm3(proximal) + volume_mm3(distal) == pytest.approx(volume_mm3(femur))
    assert volume_mm3(proximal) > 10_000
    assert edges_pair_up(proximal)
    assert edges_pair_up(distal)
    whole, parts = thickness_mm(NEAR, femur), thickness_mm(NEAR, proximal, distal)
    assert np.abs(whole - parts).max() < 1e-2


def test_normals_point_out_of_a_bone():
    femur = atlas().femur
    grown = femur.moved(femur.vertices + normals(femur))
    assert volume_mm3(grown) > volume_mm3(femur)
