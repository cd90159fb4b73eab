"""A line plot as SVG, by hand: nothing to install for one picture."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, TOP, GAP = 900, 130, 70, 30, 26


def svg(title: str, minutes: Sequence[float], series: Mapping[str, Sequence[float]], warm_up: float) -> str:
    """Return one panel a series, each on its own scale from zero; the warm-up is shaded."""
    height = TOP + len(series) * (HEIGHT + GAP) + 20
    last = max(minutes[-1], 1e-9)
    grey = WIDTH * min(warm_up, last) / last
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 20} {height}">',
        "<style>text { font: 12px sans-serif }</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>',
    ]
    for number, (name, values) in enumerate(series.items()):
        top = TOP + number * (HEIGHT + GAP)
        highest = max(*values, 1e-9) * 1.1
        points = " ".join(
            f"{LEFT + WIDTH * minute / last:.1f},{top + HEIGHT - (HEIGHT - 16) * value / highest:.1f}"
            for minute, value in zip(minutes, values, strict=True)
        )
        parts += [
            f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#ccc"/>',
            f'<rect x="{LEFT}" y="{top}" width="{grey:.1f}" height="{HEIGHT}" fill="#eee"/>',
            f'<text x="{LEFT + 6}" y="{top + 15}">{escape(name)}</text>',
            f'<text x="{LEFT - 6}" y="{top + 22}" text-anchor="end">{highest / 1.1:.4g}</text>',
            f'<text x="{LEFT - 6}" y="{top + HEIGHT}" text-anchor="end">0</text>',
            f'<polyline points="{points}" fill="none" stroke="#1565c0" stroke-width="1.5"/>',
        ]
    parts.append(f'<text x="{LEFT + WIDTH}" y="{height - 6}" text-anchor="end">{last:.1f} minutes</text></svg>')
    return "\n".join(parts) + "\n"
