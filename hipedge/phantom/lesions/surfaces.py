"""Measurement and deformation of hip surfaces: clearance, flattening and osteophytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hipedge.phantom.anatomy import Femur, atlas, smoothstep
from hipedge.phantom.mesh import Mesh, Points


def clear_head(hemipelvis: Mesh, femur: Femur, space_mm: float) -> Mesh:
    """Push the hemipelvis out of the femoral head and the joint space around it.

    The surface of the socket is moved first and pulls the surrounding bone with it. If the head
    lies on the ilium instead, vertices that remain inside it are pushed radially outwards.
    """
    return clear_sphere(hemipelvis, femur.at("head"), femur.radius_mm + space_mm)


def clear_sphere(hemipelvis: Mesh, centre: Points, reach_mm: float) -> Mesh:
    """Push the hemipelvis out of a sphere of radius `reach_mm`."""
    mean = atlas()
    vertices = hemipelvis.vertices
    push = _way_out(vertices[mean.socket] - centre, reach_mm)
    vertices = vertices + mean.socket_pull @ push
    return hemipelvis.moved(vertices + _way_out(vertices - centre, reach_mm))


def _way_out(away: Points, reach_mm: float) -> Points:
    """Return the displacements (N, 3) that move points inside a sphere onto its surface.

    `away` (N, 3) holds the points relative to the sphere's centre; others are not displaced.
    """
    distance = np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
    return np.asarray(away * np.maximum(reach_mm / distance - 1.0, 0.0))


def flatten_head(
    femur: Femur, direction_deg: float, half_angle_deg: float, depth_mm: float, step: bool = False
) -> Femur:
    """Depress the head's surface by up to `depth_mm` about a direction.

    With `step`, the depression has a sharp edge.
    """
    if not depth_mm:
        return femur
    x, z = direction(direction_deg)
    inwards = -np.array([x, -0.35, z]) / np.linalg.norm([x, -0.35, z])
    away = femur.mesh.vertices - femur.at("head")
    distance = np.linalg.norm(away, axis=1)
    cosine = -away @ inwards / np.maximum(distance, 1e-6)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    edge = 5.0 if step else 25.0
    sector = 1.0 - smoothstep(angle, half_angle_deg - edge, half_angle_deg + edge)
    on_head = smoothstep(distance, 0.4 * femur.radius_mm, 0.9 * femur.radius_mm)
    on_head *= distance < 1.4 * femur.radius_mm
    sunk = femur.mesh.vertices + (depth_mm * sector * on_head)[:, None] * inwards
    return Femur(femur.mesh.moved(sunk), femur.radius_mm)


def head_osteophytes(femur: Femur, height_mm: float) -> Femur:
    """Raise a collar at the head–neck junction, highest inferomedially and superolaterally."""
    if not height_mm:
        return femur
    head = femur.at("head")
    axis = femur.at("neck") - head
    axis /= np.linalg.norm(axis)
    away = femur.mesh.vertices - head
    along = away @ axis
    radial = away - along[:, None] * axis
    span = np.linalg.norm(radial, axis=1)
    radial /= np.maximum(span, 1e-6)[:, None]
    collar = np.exp(-0.5 * ((along - 0.62 * femur.radius_mm) / (0.16 * femur.radius_mm)) ** 2)
    collar *= span < 1.3 * femur.radius_mm
    below = np.array([-axis[2], 0.0, axis[0]])
    below *= -np.sign(below[2])
    place = np.clip(radial @ below, 0, 1) ** 3 + 0.7 * np.clip(-radial @ below, 0, 1) ** 4 + 0.15
    bump = (height_mm * collar * place)[:, None] * (radial - 0.35 * axis)
    return Femur(femur.mesh.moved(femur.mesh.vertices + bump), femur.radius_mm)


def rim_osteophyte(hemipelvis: Mesh, centre: Points, femur: Femur, height_mm: float) -> Mesh:
    """Extend the lateral edge of the acetabular roof outwards and slightly downwards."""
    edge = roof_edge(hemipelvis, centre)
    away = np.linalg.norm(hemipelvis.vertices - edge, axis=1)
    pull = np.exp(-0.5 * (away / 6.0) ** 2)[:, None] * height_mm
    return hemipelvis.moved(hemipelvis.vertices + pull * np.array([0.9, 0.0, -0.35]))


def roof_edge(hemipelvis: Mesh, centre: Points) -> Points:
    """Return the most lateral point (3,) of the acetabular roof near the head's coronal plane."""
    roof = hemipelvis.vertices[atlas().socket]
    away = roof - centre
    # The posterior and anterior walls reach farther laterally; only the middle of the roof counts
    # as coverage.
    near = (away[:, 1] > -12.0) & (away[:, 1] < 3.0) & (away[:, 2] > 0.0)
    angle = np.where(near, np.arctan2(away[:, 0], away[:, 2]), -np.inf)
    return np.asarray(roof[int(np.argmax(angle))])


def centre_edge_deg(hemipelvis: Mesh, socket_centre: Points, head: Points) -> float:
    """Return the lateral centre-edge angle (Wiberg 1939) of the roof's edge over the head."""
    x, _, z = roof_edge(hemipelvis, socket_centre) - head
    return float(np.degrees(np.arctan2(x, z)))


def direction(angle_deg: float) -> NDArray[np.float64]:
    """Return the unit vector (lateral, up) at an angle from the vertical, lateral positive."""
    return np.array([np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg))])
