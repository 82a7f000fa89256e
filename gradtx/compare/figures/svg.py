"""A figure as an SVG element that belongs to the page around it, in few bytes."""

import io
import re

from matplotlib import rc_context
from matplotlib.figure import Figure

from . import style

VARIABLES = {
    style.INK: "--ink",
    style.MUTED: "--muted",
    style.RULE: "--rule",
    style.GHOST: "--ghost",
} | {hue: f"--s{i}" for i, hue in enumerate(style.SERIES)}


def inline(figure: Figure, salt: str) -> str:
    """The SVG element, whose colours and font are those of the page.

    What has a `gid` of "opt-3" and some letters belongs to the optimizer 3 of the page. Names
    inside are the same every time, and unique for each `salt`.
    """
    text = io.StringIO()
    with rc_context({"svg.hashsalt": salt}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would rule the whole page
    svg = re.sub(r"<defs>\s*</defs>", "", svg)
    svg = re.sub(r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", r"<svg \1>", svg, count=1)
    svg = re.sub(r' id="opt-(\d+)[a-z]*"', r' class="opt" data-opt="\1"', svg)
    svg = re.sub(r' id="[A-Za-z]+[\w.]*_\d+[\d._]*"', "", svg)  # numbered, and nobody asks for it
    svg = svg.replace("xlink:href", "href").replace(" clip-path", "\nclip-path")
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    svg = re.sub(r'\b(d|x|y)="([^"]*)"', _rounded, svg)
    svg = re.sub(r'style="([^"]*)"', _style, svg)
    svg = re.sub(r'<path [^>]*style="fill:none(;opacity:0)?"/>', "", svg)
    for hue, variable in VARIABLES.items():
        svg = svg.replace(hue, f"var({variable})")
    svg = re.sub(r">\s+<", "><", svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    while "<g></g>" in svg:
        svg = svg.replace("<g></g>", "")
    return svg.strip()


def _rounded(found: re.Match) -> str:
    """Numbers in tenths of a point, markers (which are small) in hundredths; no idle letters."""
    name, text = found.groups()
    digits = 2 if "C" in text else 1
    text = re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda m: f"{round(float(m[0]), digits):g}", text)
    text = re.sub(r"\s*([A-Za-z])\s*", r"\1", text) if name == "d" else text
    if not re.search("[CQ]", text):
        text = text.replace("L", " ")  # as is understood after M
    return f'{name}="{text.strip()}"'


def _style(found: re.Match) -> str:
    parts = [part.strip() for part in found[1].split(";")]
    kept = [re.sub(r":\s+", ":", part) for part in parts if part and "font-family" not in part]
    return f'style="{";".join(kept)}"'
