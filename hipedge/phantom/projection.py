"""Compute thickness maps: path lengths of a divergent beam through closed surfaces.

The path length of a ray through a watertight mesh is the sum of the signed distances from the focus
to the intersected faces: positive where the ray leaves the mesh, negative where it enters.
Therefore neither sorting nor a volume is needed: each face adds its signed distance to the pixels
that it covers.

Patient coordinates are in mm: x to the patient's left, y to the back, z to the head. The focus
is in front of the patient (antero-posterior projection), the detector behind. In the usual display
of a radiograph, image x has the direction of patient x, and image y that opposite to patient z.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hipedge.phantom.compiled import compiled
from hipedge.phantom.mesh import Mesh

Image = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """Projection geometry: a flat detector and an X-ray focus in front of it.

    `origin_mm` is the position of the detector's upper left corner, (patient x, patient z), in the
    plane y = `detector_y_mm`. `shape` is the number of (rows, columns), and `pixel_mm` the pixel
    size.
    """

    shape: tuple[int, int]
    pixel_mm: float
    origin_mm: tuple[float, float]
    focus_mm: tuple[float, float, float]
    detector_y_mm: float

    @property
    def source_to_detector_mm(self) -> float:
        """Distance from the focus to the plane of the detector, in mm."""
        return self.detector_y_mm - self.focus_mm[1]

    def project(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Project points (N, 3) to image coordinates (N, 2), in pixels."""
        fx, fy, fz = self.focus_mm
        magnification = self.source_to_detector_mm / (points_mm[:, 1] - fy)
        x = fx + (points_mm[:, 0] - fx) * magnification
        z = fz + (points_mm[:, 2] - fz) * magnification
        return np.column_stack(
            [(x - self.origin_mm[0]) / self.pixel_mm, (self.origin_mm[1] - z) / self.pixel_mm]
        )

    def magnification(self, y_mm: float) -> float:
        """Return the magnification on the detector of objects at depth `y_mm`."""
        return self.source_to_detector_mm / (y_mm - self.focus_mm[1])

    def window(self, x0: float, y0: float, shape: tuple[int, int], pixels: float) -> View:
        """Return a view of the same detector from image point (x0, y0), of another `shape`.

        The size of its pixels is `pixels` times that of this view.
        """
        origin = (
            self.origin_mm[0] + x0 * self.pixel_mm,
            self.origin_mm[1] - y0 * self.pixel_mm,
        )
        return replace(self, shape=shape, pixel_mm=self.pixel_mm * pixels, origin_mm=origin)


def thickness_mm(view: View, *meshes: Mesh) -> NDArray[np.float32]:
    """Return the summed path lengths of the rays through closed meshes: float32 (H, W), in mm."""
    total = np.zeros(view.shape, np.float32)
    for mesh in meshes:
        add_thickness(total, view, mesh)
    return total


def add_thickness(total: NDArray[np.float32], view: View, mesh: Mesh, sign: float = 1.0) -> None:
    """Add the path lengths through a closed mesh to `total` (H, W); `sign` -1 subtracts them."""
    image = view.project(mesh.vertices)
    distance = np.linalg.norm(mesh.vertices - np.asarray(view.focus_mm), axis=1)
    _splat(total, image, distance, mesh.faces, sign)


@compiled
def _splat(
    total: Image, image: Floats, distance: Floats, faces: NDArray[np.int32], sign: float
) -> None:
    """Rasterise each face, adding its signed distance from the focus to the pixels it covers.

    A face covers a pixel if it covers the pixel's centre. Adjacent faces compute their shared edge
    identically, so that no pixel is missed or counted twice. The sign follows the orientation of
    the face in image coordinates: `turn` is negative for faces that point towards the focus, where
    rays enter.
    """
    height, width = total.shape
    order = np.empty(3, np.int64)
    for f in range(faces.shape[0]):
        order[0], order[1], order[2] = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay = image[order[0], 0], image[order[0], 1]
        bx, by = image[order[1], 0], image[order[1], 1]
        cx, cy = image[order[2], 0], image[order[2], 1]
        turn = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if turn == 0.0:
            continue
        top, bottom = min(ay, by, cy), max(ay, by, cy)
        if bottom < 0.5 or top > height or max(ax, bx, cx) < 0.5 or min(ax, bx, cx) > width:
            continue
        da, db, dc = distance[order[0]], distance[order[1]], distance[order[2]]
        slope_x = ((db - da) * (cy - ay) - (dc - da) * (by - ay)) / turn
        slope_y = ((dc - da) * (bx - ax) - (db - da) * (cx - ax)) / turn
        weight = sign if turn > 0.0 else -sign
        first = max(0, int(np.ceil(top - 0.5)))
        last = min(height - 1, int(np.ceil(bottom - 0.5)) - 1)
        for row in range(first, last + 1):
            y = row + 0.5
            left, right = 1e18, -1e18
            for k in range(3):
                p, q = order[k], order[(k + 1) % 3]
                if p > q:
                    p, q = q, p
                py, qy = image[p, 1], image[q, 1]
                if (py <= y) != (qy <= y):
                    x = image[p, 0] + (y - py) * (image[q, 0] - image[p, 0]) / (qy - py)
                    left = min(left, x)
                    right = max(right, x)
            start = max(0, int(np.ceil(left - 0.5)))
            stop = min(width - 1, int(np.ceil(right - 0.5)) - 1)
            depth = da + (y - ay) * slope_y - ax * slope_x
            for column in range(start, stop + 1):
                total[row, column] += weight * (depth + (column + 0.5) * slope_x)
