from importlib.metadata import version as installed_version

project = "skreweight"
author = "skreweight developers"
version = release = installed_version("skreweight")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
]
exclude_patterns = ["_build"]
html_theme = "alabaster"

# skorch and torch document what they bring; our pages show what is ours.
numpydoc_show_class_members = False
myst_heading_anchors = 3
