"""The manual: `make docs` builds it, with warnings as errors, into build/docs/html."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # the notebook's

import cacl  # noqa: E402

project = "cacl"
author = "the cacl authors"
version = release = cacl.__version__
html_title = f"cacl {version}"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["reference"]
myst_enable_extensions = ["attrs_inline", "deflist"]
myst_heading_anchors = 4
smartquotes_action = "qe"  # quotes and ellipses; two dashes begin an option
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 900  # seconds for a cell, on a machine that does other work too
nb_output_stderr = "remove"  # progress bars
nb_ipywidgets_js: dict[str, Any] = {}  # they would be fetched from a CDN

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
maximum_signature_line_length = 60
python_use_unqualified_type_names = True

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["manual.css"]
html_favicon = "static/icon.svg"
html_search_scorer = str(ROOT / "docs" / "static" / "scorer.js")
html_copy_source = False
html_use_index = False
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}

# The project has no public address of its own: these are the ones that the pages name of others.
linkcheck_timeout = 30
linkcheck_anchors = False


def fill(app: object, docname: str, source: list[str]) -> None:
    """Put what is written from the code into the pages that leave a place for it."""
    from docs.reference import commands, recipes
    from launch.jobs.recipe import Recipe
    from launch.sweeping.space import Space

    written = {
        "recipe": lambda: recipes.reference(Recipe),
        "space": lambda: recipes.reference(Space, first=3),
        "commands": commands.reference,
    }
    for name, write in written.items():
        place = f"<!-- written from the code: {name} -->"
        if place in source[0]:
            source[0] = source[0].replace(place, write())
    if not source[0].startswith("{"):  # Markdown, and outside of code: no line begins with the sign
        parts = re.split(r"(^```.*?^```)", source[0], flags=re.DOTALL | re.MULTILINE)
        parts[::2] = [re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", part) for part in parts[::2]]
        source[0] = "".join(parts)
    source[0] = re.sub(r"^\|.*\|$", lambda row: breakable(row[0]), source[0], flags=re.MULTILINE)


def breakable(row: str) -> str:
    """Return a table's row in which intervals stay whole, and long names may break behind / and commas."""
    row = re.sub(r"(\[[-+]?[\d.]+), ([-+]?[\d.]+\])", "\\1,\N{NO-BREAK SPACE}\\2", row)
    return re.sub(
        r"^\| [\w/,=-]{20,} \|", lambda name: re.sub("[/,]", "\\g<0>\N{ZERO WIDTH SPACE}", name[0]), row
    )


def translate(app: object, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Make reStructuredText of a docstring, in place."""
    from docs.reference.docstrings import to_rst

    lines[:] = to_rst(lines)


def shorten(
    app: object,
    what: str,
    name: str,
    thing: object,
    options: object,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    """Make a signature of code that can be read, and linked."""
    from docs.reference.docstrings import short_signature

    return signature and short_signature(signature), returned


def keep_words(app: object, page: str, template: str, context: dict[str, Any], tree: object) -> None:
    """Mark the words of code that any line can hold: an option does not break behind its dashes."""
    if "body" in context:
        context["body"] = re.sub(
            r'<span class="pre">([^<]{1,28})<', r'<span class="pre whole">\1<', context["body"]
        )


def setup(app: Any) -> dict[str, bool]:
    """Hook them in."""
    app.connect("source-read", fill)
    app.connect("autodoc-process-docstring", translate)
    app.connect("autodoc-process-signature", shorten)
    app.connect("html-page-context", keep_words)
    return {"parallel_read_safe": True}
