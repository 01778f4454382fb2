"""How the documentation is built. Nothing is fetched: MathJax comes with a package, links to other projects are off."""

import os
import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import skreweight

project = "skreweight"
author = "skreweight developers"
copyright = f"2026, {author}"
version = release = skreweight.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "measured",
    "docstrings",
]
exclude_patterns = ["_build", "_templates", "auto_examples/*.ipynb", "auto_examples/*.py"]
templates_path = ["_templates"]
default_role = "py:obj"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_inherit_docstrings = False  # what skorch and torch document is in their own manuals
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # numpydoc's sections say them in words
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# With SKREWEIGHT_DOCS_ONLINE set, names of other projects link to their manuals.
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "skorch": ("https://skorch.readthedocs.io/en/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
    }
    if os.environ.get("SKREWEIGHT_DOCS_ONLINE")
    else {}
)

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(^|/)(?!plot_)[^/]*\.py$",
    "within_subsection_order": "gallery_order.GalleryOrder",
    "doc_module": ("skreweight",),
    "backreferences_dir": "generated/backreferences",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "image_srcset": ["2x"],
    "default_thumb_file": None,
}

with open(Path(__file__).parent.parent / "pyproject.toml", "rb") as file:
    repository = tomllib.load(file)["project"]["urls"]["Repository"]
if ".invalid/" in repository:  # no public address yet: pyproject.toml
    repository = None

# Tables of results are wide: their pages have no list of headings beside them.
wide = [f"results/{page.stem}" for page in Path(__file__).parent.glob("results/*.md")]

html_theme = "pydata_sphinx_theme"
html_title = "skreweight"
html_static_path = ["_static"]
html_css_files = ["skreweight.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "skreweight"},
    "navigation_with_keys": False,
    "header_links_before_dropdown": 7,
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": ["release"],
    "secondary_sidebar_items": {"**": ["page-toc"], **{page: [] for page in wide}},
    "icon_links": [{"name": "Repository", "url": repository, "icon": "fa-brands fa-github"}]
    if repository
    else [],
}
html_context = {"repository": repository}
html_sidebars = {"index": [], "start": [], "changelog": []}
