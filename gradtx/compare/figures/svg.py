"""A figure as an SVG element that belongs to the page around it, in few bytes."""

import io
import re
from collections import Counter

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
    return _without_idle_groups(svg.replace("<g/>", "")).strip()


def compact(page: str) -> str:
    """A page in which the styles that figures repeat are classes of its style sheet."""
    often = Counter(re.findall(r'style="((?:fill|stroke|font-size)[^"]*)"', page)).most_common(150)
    names = {text: f"k{i}" for i, (text, count) in enumerate(often) if count > 3}
    page = re.sub(
        r'style="([^"]*)"', lambda m: f'class="{names[m[1]]}"' if m[1] in names else m[0], page
    )
    rules = "".join(f".{name}{{{text}}}" for text, name in names.items())
    return page.replace("</style>", f"{rules}\n</style>", 1)


def _without_idle_groups(svg: str) -> str:
    """Without the groups that say nothing of what is in them."""
    kept, idle = [], []
    for part in re.split(r"(</?g(?: [^>]*)?>)", svg):
        if part.startswith("<g"):
            idle.append(part == "<g>")
        if not ((part == "<g>") or (part == "</g>" and idle[-1])):
            kept.append(part)
        if part == "</g>":
            idle.pop()
    return "".join(kept)


def _rounded(found: re.Match) -> str:
    """Numbers in tenths of a point, markers (which are small) in hundredths."""
    name, text = found.groups()
    if name == "d" and not re.search("[CQ]", text):
        return f'd="{_relative(text)}"'
    digits = 2 if "C" in text else 1
    text = re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda m: f"{round(float(m[0]), digits):g}", text)
    text = re.sub(r"\s*([A-Za-z])\s*", r"\1", text) if name == "d" else text
    return f'{name}="{text.strip()}"'


def _relative(text: str) -> str:
    """A path of straight lines, each point but the first of a line by its way from the last."""
    parts = []
    last = (0, 0)
    for letter, numbers in re.findall(r"([MLz])([^MLz]*)", text):
        if letter == "z":
            parts.append("z")
            continue
        x, y = (round(10 * float(number)) for number in numbers.split())
        if letter == "M":
            parts += ["M", _tenths(x), " ", _tenths(y), "l"]
        elif (x, y) != last or parts[-1] == "l":
            parts += [_tenths(x - last[0]), " ", _tenths(y - last[1]), " "]
        last = (x, y)
    short = "".join(parts).replace(" -", "-")
    return re.sub(r"\s*([A-Za-z])", r"\1", short).replace("lM", "M").replace("lz", "z").rstrip("l ")


def _tenths(value: int) -> str:
    return f"{value / 10:g}".replace("0.", ".") if abs(value) < 10 else f"{value / 10:g}"


def _style(found: re.Match) -> str:
    parts = [part.strip() for part in found[1].split(";")]
    kept = [re.sub(r":\s+", ":", part) for part in parts if part and "font-family" not in part]
    return f'style="{";".join(kept)}"'
