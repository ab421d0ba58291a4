"""Sphinx's settings for the course's site; build.py says what the pages are."""

import re
from typing import Any

from course_lib import __version__

project = "Local AI, Measured"
author = "the authors of Local AI, Measured"
project_copyright = "code: MIT, text and data: CC BY 4.0"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc"]
root_doc = "index"
nb_execution_mode = "off"  # the chapters show the outputs that are saved in them
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # else scripts of other servers
myst_enable_extensions = ["html_image"]
myst_heading_anchors = 3

default_role = "literal"  # docstrings write `name`, as Markdown does
add_module_names = False
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True

html_theme = "furo"  # light and dark as the reader's system, nothing from other servers
html_title = "Local AI, Measured"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_domain_indices = False
html_copy_source = False
html_show_sphinx = False


def separate_arguments(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Give each description of an argument (`name: ...`) and each "Raises ..." a paragraph of its own."""
    text = "\n".join(lines)
    lines[:] = re.sub(r"(?<=\.)[ \n](?=Raises |[a-z_]\w*(, \w+)*: )", "\n\n", text).splitlines()


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", separate_arguments)
