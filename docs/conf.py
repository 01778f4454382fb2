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

numpydoc_show_class_members = False  # autosummary lists them
suppress_warnings = ["ref.ref"]  # inherited docstrings refer to the manuals of scikit-learn and skorch
myst_heading_anchors = 3
