"""Objects on a film that are unrelated to the hips: calcifications, clips, clothing, shields."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hipedge.phantom.soft_tissue import Body, Ellipsoid, Streak


def draw_distractors(body: Body, rng: np.random.Generator) -> Body:
    """Add incidental objects, each with a low probability, independently of the hips' findings."""
    ellipsoids, streaks = list(body.ellipsoids), list(body.streaks)
    if rng.uniform() < 0.35:
        ellipsoids += _phleboliths(rng)
    if rng.uniform() < 0.12:
        streaks += _calcified_artery(rng)
    if rng.uniform() < 0.16:
        ellipsoids += _buttons(rng)
    if rng.uniform() < 0.14:
        streaks += _tube(rng)
    if rng.uniform() < 0.10:
        streaks += _clips(rng)
    if rng.uniform() < 0.04:
        streaks += _spine_screws(rng)
    if rng.uniform() < 0.03:
        ellipsoids.append(
            Ellipsoid("lead", rng.normal(0, 6), body.physique.crotch_z + rng.uniform(20, 60),
                      rng.uniform(28, 40), rng.uniform(35, 55), 1.0)
        )  # fmt: skip
    return replace(body, ellipsoids=tuple(ellipsoids), streaks=tuple(streaks))


def _phleboliths(rng: np.random.Generator) -> list[Ellipsoid]:
    """Return phleboliths: calcified thrombi in the pelvic veins."""
    found = []
    for _ in range(rng.integers(1, 5)):
        radius = rng.uniform(1.2, 3.0)
        x, z = rng.choice([-1, 1]) * rng.uniform(20, 55), rng.uniform(-25, 25)
        found.append(Ellipsoid("bone", x, z, radius, radius, rng.uniform(1.0, 3.0)))
        if rng.uniform() < 0.5:
            found.append(Ellipsoid("bone", x, z, 0.5 * radius, 0.5 * radius, -0.8))
    return found


def _calcified_artery(rng: np.random.Generator) -> list[Streak]:
    """Return interrupted calcifications along both walls of a femoral artery."""
    side = rng.choice([-1.0, 1.0])
    x, z = side * rng.uniform(50, 70), rng.uniform(20, 60)
    dx = side * rng.uniform(0.05, 0.3)
    found = []
    for _ in range(rng.integers(6, 20)):
        down, length = rng.uniform(0, 180), rng.uniform(3, 12)
        for wall in (-3.5, 3.5):
            if rng.uniform() < 0.7:
                start = (x + dx * down + wall, z - down)
                stop = (x + dx * (down + length) + wall, z - down - length)
                found.append(Streak("bone", start, stop, 0.5, rng.uniform(0.5, 2.0)))
    return found


def _buttons(rng: np.random.Generator) -> list[Ellipsoid]:
    """Return buttons and studs of clothing, of plastic or metal."""
    found: list[Ellipsoid] = []
    x = rng.uniform(-120, 120)
    for k in range(rng.integers(1, 5)):
        z = rng.uniform(40, 170) if k == 0 else found[-1].z - rng.uniform(35, 60)
        material = str(rng.choice(["steel", "polyethylene"]))
        depth = 1.0 if material == "steel" else 3.0
        radius = rng.uniform(4, 9)
        found.append(Ellipsoid(material, x + rng.normal(0, 3), z, radius, radius, depth))
    return found


def _tube(rng: np.random.Generator) -> list[Streak]:
    """Return a catheter or line with a radiopaque stripe, on an irregular path over the film."""
    x, z = rng.uniform(-60, 60), rng.uniform(-120, -60)
    heading = rng.uniform(0.2, np.pi - 0.2)
    found = []
    for _ in range(rng.integers(12, 30)):
        heading += rng.normal(0, 0.22)
        stop = (x + 9 * np.cos(heading), z + 9 * np.sin(heading))
        found.append(Streak("bone", (x, z), stop, 1.6, 1.6, rod=True))
        x, z = stop
    return found


def _clips(rng: np.random.Generator) -> list[Streak]:
    """Return surgical clips."""
    found = []
    x, z = rng.uniform(-90, 90), rng.uniform(-40, 120)
    for _ in range(rng.integers(2, 9)):
        start = (x + rng.normal(0, 25), z + rng.normal(0, 25))
        angle = rng.uniform(0, np.pi)
        stop = (start[0] + 5 * np.cos(angle), start[1] + 5 * np.sin(angle))
        found.append(Streak("titanium", start, stop, 0.6, 1.5, rod=True))
    return found


def _spine_screws(rng: np.random.Generator) -> list[Streak]:
    """Return pedicle screws and rods in the lumbar spine."""
    found = []
    for side in (-1.0, 1.0):
        x = side * rng.uniform(16, 22)
        found.append(
            Streak("titanium", (x, 125.0), (x + rng.normal(0, 3), 215.0), 2.75, 5.5, rod=True)
        )
        for z in (130.0, 165.0, 200.0):
            found.append(
                Streak(
                    "titanium", (x, z), (x - side * 14, z + rng.normal(0, 3)), 2.9, 6.0, rod=True
                )
            )
    return found
