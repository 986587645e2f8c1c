"""The pages' templates: every value escaped, and a name that is not given is an error."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **content: object) -> str:
    """A page.

    Args:
        template: Name of its file, beside this module.
        content: What the template refers to.
    """
    return _environment().get_template(template).render(content)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fgpipe.report", "."),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["percent"] = lambda value, digits=1: (
        f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"
    )
    environment.filters["rough_percent"] = lambda value: (
        ("under 1" if value < 0.01 else f"{100 * value:.0f}") + "\N{NO-BREAK SPACE}%"
    )
    environment.filters["points"] = lambda value: f"{100 * value:+.1f}"
    return environment
