"""The site of these pages: `make docs` builds it with Sphinx, and takes a broken link for an error."""

from __future__ import annotations

project = "sessionmanager"
author = "The authors of sessionmanager"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "sessionmanager"
html_show_sphinx = False
html_copy_source = False
# Headings are targets of links such as `faults.md#cold`, as GitHub makes them.
myst_heading_anchors = 4
# Notes on changes become the changelog at a release.
exclude_patterns = ["changes/*"]
# A page that GitHub shows as well keeps its own language names in code blocks.
suppress_warnings = ["misc.highlighting_failure"]
