"""Settings of Sphinx, which makes a site of this folder: `make docs`."""

import os
import pathlib
import sys

os.environ["PATH"] = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # for `imagegen` in pages
sys.path.insert(0, str(pathlib.Path(__file__).parent / "extensions"))

project = "imagegen_jax"
author = "the authors of imagegen_jax"
html_title = "imagegen_jax"
html_theme = "furo"
extensions = ["myst_nb", "sphinx.ext.apidoc", "sphinx.ext.autodoc", "prose", "gallery"]
default_role = "code"
exclude_patterns = ["jupyter_execute", ".jupyter_cache"]  # what another build has executed

apidoc_modules = [
    {
        "path": "../imagegen_jax",
        "destination": "reference",
        "exclude_patterns": ["../imagegen_jax/moved.py"],
        "module_first": True,
        "max_depth": 4,
    }
]
autodoc_member_order = "bysource"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
