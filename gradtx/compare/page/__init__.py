"""The page of a report: a template with its style sheet and script, the files beside this one."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(**values: Any) -> str:
    """A whole HTML document that needs nothing from elsewhere."""
    template = _environment().get_template("report.html.j2")
    return template.render(style=source("style.css"), script=source("report.js"), **values) + "\n"


def source(name: str) -> Markup:
    """The text of a file beside this one, put into the page as it is."""
    environment = _environment()
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("gradtx.compare.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
