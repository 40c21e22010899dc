"""How surfaces of a hip are measured, pressed, flattened and overgrown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hipedge.phantom.anatomy import Femur, atlas, smoothstep
from hipedge.phantom.mesh import Mesh, Points


def clear_head(hemipelvis: Mesh, femur: Femur, space_mm: float) -> Mesh:
    """Push the pelvis out of the head and the space around it.

    The socket's surface goes first and takes the bone around with it; where the head lies on the
    ilium instead, what is left inside it is pushed straight out.
    """
    return clear_sphere(hemipelvis, femur.at("head"), femur.radius_mm + space_mm)


def clear_sphere(hemipelvis: Mesh, centre: Points, reach_mm: float) -> Mesh:
    """Push the pelvis out of a sphere."""
    mean = atlas()
    vertices = hemipelvis.vertices
    push = _way_out(vertices[mean.socket] - centre, reach_mm)
    vertices = vertices + mean.socket_pull @ push
    return hemipelvis.moved(vertices + _way_out(vertices - centre, reach_mm))


def _way_out(away: Points, reach_mm: float) -> Points:
    """Return how to move points (N, 3), given from a sphere's centre, onto it if inside."""
    distance = np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
    return np.asarray(away * np.maximum(reach_mm / distance - 1.0, 0.0))


def flatten_head(
    femur: Femur, direction_deg: float, half_angle_deg: float, depth_mm: float, step: bool = False
) -> Femur:
    """Sink the head's surface by up to `depth_mm` about a direction; a step has a sharp edge."""
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
    """Raise a collar where head meets neck, highest below and medially, and above and laterally."""
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
    """Draw the lateral edge of the socket's roof outwards and a little down."""
    edge = roof_edge(hemipelvis, centre)
    away = np.linalg.norm(hemipelvis.vertices - edge, axis=1)
    pull = np.exp(-0.5 * (away / 6.0) ** 2)[:, None] * height_mm
    return hemipelvis.moved(hemipelvis.vertices + pull * np.array([0.9, 0.0, -0.35]))


def roof_edge(hemipelvis: Mesh, centre: Points) -> Points:
    """Return the most lateral point (3,) of the socket's roof, near the head's coronal plane."""
    roof = hemipelvis.vertices[atlas().socket]
    away = roof - centre
    # The walls behind and in front reach farther out; only the roof's middle covers.
    near = (away[:, 1] > -12.0) & (away[:, 1] < 3.0) & (away[:, 2] > 0.0)
    angle = np.where(near, np.arctan2(away[:, 0], away[:, 2]), -np.inf)
    return np.asarray(roof[int(np.argmax(angle))])


def centre_edge_deg(hemipelvis: Mesh, socket_centre: Points, head: Points) -> float:
    """Return the lateral centre-edge angle (Wiberg 1939): of the roof's edge over the head."""
    x, _, z = roof_edge(hemipelvis, socket_centre) - head
    return float(np.degrees(np.arctan2(x, z)))


def direction(angle_deg: float) -> NDArray[np.float64]:
    """Return (lateral, up) of a direction by its angle from the vertical, lateral positive."""
    return np.array([np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg))])
