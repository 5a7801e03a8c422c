"""How Sphinx builds this documentation: ``.ci/docs``. What the tables of the reference are made from is in `_ext`."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "streamlib"
author = "The streamlib authors"
release = installed_version("streamlib")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "from_code"]
exclude_patterns = ["_build", "_parts", "changelog.d"]
default_role = "code"  # `name` in a docstring is code
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!streamlib\.).*"),  # other projects' names, and short names in Raises sections
    (r"py:obj", r"streamlib\..*\.[KV]R?"),  # type variables
]

html_theme = "furo"
html_title = "streamlib"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures stay readable; types are in the source
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
