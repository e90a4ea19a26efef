"""Curves with bands as SVG, for notebooks and pages, in colours that are told apart on white and on black."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

from imagegen_jax.studies.inference import Band

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 30, 40
_POINTS = 400  # of a curve at most
COLOURS = ("#3b7dd8", "#d9772b", "#2f9e62", "#b0508e", "#8a7a2f", "#6d63c6", "#2a9aa5", "#c24d4d")  # in turn

Curves = Mapping[str, tuple[np.ndarray, Band]]  # label -> (steps, band)


def svg_of(title: str, curves: Curves, labels: Sequence[str], logarithmic: bool | None = None) -> str:
    """Draws the means of groups over steps, each with its band, in the colours that `labels` have by their places.

    `logarithmic` None: where all is above 0 and varied.
    """
    thin = {label: _thinned(steps, band) for label, (steps, band) in curves.items()}
    values = np.concatenate([np.concatenate([v[np.isfinite(v)] for v in band]) for _, band in thin.values()])
    means = np.concatenate([band.mean for _, band in thin.values()])
    positive = bool((means > 0).all())
    if logarithmic is None:
        logarithmic = positive and means.max() > 20 * means.min()
    if logarithmic:
        if not positive:
            raise ValueError(f"{title} has values of 0 and below: they have no logarithm")
        values = values[values > 0]
    across = _Axis([float(steps[0]) for steps, _ in thin.values()], [float(steps[-1]) for steps, _ in thin.values()],
                   _LEFT, WIDTH - _RIGHT, False)  # fmt: skip
    up = _Axis([float(values.min())], [float(values.max())], HEIGHT - _BOTTOM, _TOP, logarithmic, room=0.04)
    parts = [_axes(title, across, up)]
    for label, (steps, band) in thin.items():
        parts.append(_curve(label, steps, band, across, up, COLOURS[labels.index(label) % len(COLOURS)]))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{html.escape(title)}" '
        'style="max-width:100%;height:auto" font-family="system-ui, sans-serif" font-size="12" fill="currentColor">'
        f"{''.join(parts)}</svg>"
    )


def legend_of(labels: Sequence[str]) -> str:
    """Writes the colour of each label."""
    return "".join(
        f'<span style="white-space:nowrap;margin-right:1.2em"><span style="color:{COLOURS[i % len(COLOURS)]}">&#9632;'
        f"</span> {html.escape(label)}</span> "
        for i, label in enumerate(labels)
    )


class _Axis:
    """A scale from values to places."""

    def __init__(
        self,
        lows: Sequence[float],
        highs: Sequence[float],
        start: float,
        end: float,
        logarithmic: bool,
        room: float = 0,
    ) -> None:
        self.map = math.log10 if logarithmic else float
        low, high = self.map(min(lows)), self.map(max(highs))
        more = (high - low) * room if high > low else abs(high) * 0.1 or 1.0
        self.low, self.high = low - more, high + more
        self.start, self.end, self.logarithmic = start, end, logarithmic

    def at(self, value: float) -> float:
        """Returns the place of a value; one below what a logarithm has lies at the lower edge."""
        mapped = self.low if self.logarithmic and value <= 0 else self.map(value)
        return self.start + (self.end - self.start) * (mapped - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[float]:
        """Returns round values to name."""
        if self.logarithmic:
            decades = range(math.ceil(self.low), math.floor(self.high) + 1)
            if len(decades) > 1:
                return [10.0**power for power in decades[:: -(-len(decades) // most)]]
            return [value for value in _round(10**self.low, 10**self.high, most) if value > 0]
        return _round(self.low, self.high, most)


def _round(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _axes(title: str, across: _Axis, up: _Axis) -> str:
    lines = [
        f'<text x="{_LEFT}" y="18" font-weight="600">{html.escape(title)}'
        f"{' (logarithmic)' if up.logarithmic else ''}</text>",
        f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle" opacity=".7">training steps'
        "</text>",
    ]
    for value in up.ticks():
        y = up.at(value)
        lines.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
                     'opacity=".15"/>')  # fmt: skip
        lines.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" opacity=".7">{value:.4g}</text>')
    for value in across.ticks():
        x = across.at(value)
        anchor = "end" if x > WIDTH - 40 else "middle"
        lines.append(
            f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="{anchor}" opacity=".7">{value:,.0f}</text>'
        )
    return "".join(lines)


def _curve(label: str, steps: np.ndarray, band: Band, across: _Axis, up: _Axis, colour: str) -> str:
    def points(values: np.ndarray) -> list[str]:
        return [f"{across.at(float(s)):.1f},{up.at(float(v)):.1f}" for s, v in zip(steps, values, strict=True)]

    title = f"<title>{html.escape(label)}</title>"
    mean, parts = points(band.mean), []
    if np.isfinite(band.low).all() and len(steps) > 1:
        edge = " ".join([*points(band.low), *reversed(points(band.high))])
        parts.append(f'<polygon points="{edge}" fill="{colour}" opacity=".18">{title}</polygon>')
    if len(mean) == 1:
        x, _, y = mean[0].partition(",")
        parts.append(f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}">{title}</circle>')
    else:
        parts.append(f'<polyline points="{" ".join(mean)}" fill="none" stroke="{colour}" stroke-width="1.8" '
                     f'stroke-linejoin="round">{title}</polyline>')  # fmt: skip
    return "".join(parts)


def _thinned(steps: np.ndarray, band: Band) -> tuple[np.ndarray, Band]:
    """Keeps at most `_POINTS` points, evenly chosen, with both ends."""
    if len(steps) <= _POINTS:
        return steps, band
    kept = np.linspace(0, len(steps) - 1, _POINTS).round().astype(int)
    return steps[kept], Band(*(part[kept] for part in band))
