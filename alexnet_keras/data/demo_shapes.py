"""The outlines of the demonstration's shapes, by group and class, within a circle of radius 1."""

from __future__ import annotations

import math
from collections.abc import Callable

Point = tuple[float, float]


def _polar(radius: Callable[[float], float], points: int = 90) -> list[Point]:
    """The closed curve ``radius(angle)``, its first point straight up."""
    angles = [2 * math.pi * step / points for step in range(points)]
    return [
        (radius(angle) * math.sin(angle), -radius(angle) * math.cos(angle)) for angle in angles
    ]


def _circle(radius: float = 1.0, x: float = 0.0) -> list[Point]:
    return [(px + x, py) for px, py in _polar(lambda _: radius)]


def _heart(angle: float) -> Point:
    return (
        0.95 * math.sin(angle) ** 3,
        -(
            13 * math.cos(angle)
            - 5 * math.cos(2 * angle)
            - 2 * math.cos(3 * angle)
            - math.cos(4 * angle)
        )
        / 16,
    )


def _drop(angle: float) -> Point:
    return 0.8 * math.sin(angle) * math.sin(angle / 2) ** 1.6, -math.cos(angle)


def _trace(curve: Callable[[float], Point]) -> list[Point]:
    return [curve(2 * math.pi * step / 90) for step in range(90)]


# Each shape: its outline, the outlines cut out of it, and how far it turns either way, in degrees.
SHAPES = {
    "demo": {
        "circle": ([_circle()], 180),
        "square": ([_polar(lambda _: 1, 4)], 180),
        "triangle": ([_polar(lambda _: 1, 3)], 180),
        "star": (
            [
                [
                    (x * r, y * r)
                    for (x, y), r in zip(_polar(lambda _: 1, 10), [1, 0.42] * 5, strict=True)
                ]
            ],
            180,
        ),
        "cross": (
            [
                [
                    (-0.3, -1),
                    (0.3, -1),
                    (0.3, -0.3),
                    (1, -0.3),
                    (1, 0.3),
                    (0.3, 0.3),
                    (0.3, 1),
                    (-0.3, 1),
                    (-0.3, 0.3),
                    (-1, 0.3),
                    (-1, -0.3),
                    (-0.3, -0.3),
                ]
            ],
            180,
        ),
        "ring": ([_circle(), _circle(0.58)], 180),
        "crescent": ([_circle(), _circle(0.8, 0.5)], 180),
        "heart": ([_trace(_heart)], 180),
        "arrow": (
            [
                [
                    (0, -1),
                    (0.75, -0.15),
                    (0.27, -0.15),
                    (0.27, 1),
                    (-0.27, 1),
                    (-0.27, -0.15),
                    (-0.75, -0.15),
                ]
            ],
            180,
        ),
    },
    "demo-new": {
        "house": (
            [
                [
                    (0, -1),
                    (0.95, -0.2),
                    (0.7, -0.2),
                    (0.7, 0.85),
                    (-0.7, 0.85),
                    (-0.7, -0.2),
                    (-0.95, -0.2),
                ],
                [(-0.2, 0.9), (-0.2, 0.25), (0.2, 0.25), (0.2, 0.9)],
            ],
            30,
        ),
        "drop": ([_trace(_drop)], 60),
        "flower": ([_polar(lambda angle: 0.7 + 0.3 * math.cos(6 * angle)), _circle(0.24)], 180),
        "hourglass": ([[(-0.75, -1), (0.75, -1), (0.1, 0), (0.75, 1), (-0.75, 1), (-0.1, 0)]], 60),
        "lightning": (
            [
                [
                    (0.15, -1),
                    (-0.6, 0.15),
                    (-0.08, 0.15),
                    (-0.25, 1),
                    (0.6, -0.25),
                    (0.08, -0.25),
                    (0.5, -1),
                ]
            ],
            60,
        ),
    },
}
