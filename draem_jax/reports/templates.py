"""Pages from the templates in this folder; all extend `base.html.j2`."""

import re

import jinja2
from markupsafe import Markup

from draem_jax.files import escaped

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("draem_jax.reports", "."),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
)


def fill(template: str, **values: object) -> str:
    """Writes a page.

    Args:
        template: its file's name.
        values: what the template asks for. Texts are escaped, so names may hold any characters.

    Returns:
        The page.
    """
    page = _ENVIRONMENT.get_template(template).render(values)
    # A file's name need not be UTF-8; what is not becomes visible instead of spoiling the page.
    return escaped(page)


def inline(svg: str) -> Markup:
    """Makes an <svg> element part of a page.

    HTML knows the namespaces of SVG; without them the page holds no address at all.
    """
    return Markup(re.sub(r' xmlns(?::\w+)?="[^"]*"', "", svg))
