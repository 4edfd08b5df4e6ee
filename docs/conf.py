"""Sphinx configuration of the site. ``make docs`` builds it, without a network."""

import re
from typing import Any

from sphinx.pycode import ModuleAnalyzer

import redset

project = "redset"
author = "The redset authors"
copyright = "The redset authors"
version = release = redset.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
# Pages include these.
exclude_patterns = ["benchmarks/*.md", "chaos/*.md"]
html_theme = "furo"
html_title = f"redset {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False

myst_heading_anchors = 3

# The button copies commands and statements: no prompts, no output.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

# Source order is reading order.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88

# The constructor has an overload for sets with a serializer and one for sets without: the page shows one signature.
for module, constructor in [
    ("redset.core.base", "BaseSet.__init__"),
    ("redset.core.base", "BasePeriodic.__init__"),
    ("redset.core.base", "BaseExpiring.__init__"),
]:
    analyzer = ModuleAnalyzer.for_module(module)
    analyzer.analyze()
    analyzer.overloads.pop(constructor)


def name_functions(*event: Any) -> tuple[str | None, Any]:
    """A default that is a function is shown by its name, so that Sphinx can read the signature."""
    *_, signature, returned = event
    return signature and re.sub(r"<function (\w+)>", r"\1", signature), returned


def setup(app: Any) -> None:
    app.connect("autodoc-process-signature", name_functions)
