"""The documentation site: ``python -m sphinx -W --keep-going -b html docs docs/_build/html``.

Nothing is fetched while it builds. With ``FUSIONCONV_DOCS_INTERSPHINX=1`` names of torch, numpy and pandas become links
to their own pages, which needs a network. ``-D plot_gallery=0`` shows the tutorials without running them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))
sys.path.insert(0, str(DOCS / "_extensions"))

import fusionconv  # noqa: E402

project = "fusionconv"
author = "fusionconv maintainers"
copyright = "2026, fusionconv maintainers. Apache License 2.0"
version = release = fusionconv.__version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_copybutton",
    "entries",
    "mathml",
    "pages_outside",
]
root_doc = "index"
exclude_patterns = ["_build", "tutorials/*", "figures/*.py", "_extensions"]

# MyST: Markdown with directives
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist", "attrs_inline", "dollarmath"]
myst_heading_anchors = 4
myst_dmath_double_inline = True


# API reference
autosummary_generate = False  # the tables list names; the entries are written once, below them
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
python_display_short_literal_types = True
add_module_names = False
toc_object_entries_show_parents = "hide"
default_role = "py:obj"  # `name` in docstrings
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_param = True
napoleon_use_ivar = True
napoleon_use_admonition_for_examples = False
napoleon_custom_sections = [("Options", "params_style")]
viewcode_follow_imported_members = True
viewcode_line_numbers = True

if os.environ.get("FUSIONCONV_DOCS_INTERSPHINX") == "1":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
    }

# tutorials: every docs/tutorials/*.py runs and becomes a page
extensions.append("sphinx_gallery.gen_gallery")
sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "auto_tutorials",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 1,
}

# appearance
html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "fusionconv"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "changelog": []}
html_theme_options = {
    "logo": {"text": "fusionconv", "image_light": "_static/logo.svg", "image_dark": "_static/logo-dark.svg"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 8,
    "show_nav_level": 2,
    "navigation_depth": 3,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "show_prev_next": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
