"""The comment behind a field of a record is its documentation, in the code as in the site: there most shapes stand."""

import ast
import re
from typing import Any

import griffe

COMMENT = re.compile(r"#\s*(?!noqa|type:)(.+)$")


class Comments(griffe.Extension):
    """Takes the comment at the end of an attribute's line for its docstring, where it has none."""

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **kwargs: Any) -> None:
        """Look behind one attribute of a class."""
        if attr.docstring or not isinstance(node, ast.AnnAssign) or not attr.parent or not attr.parent.is_class:
            return
        line = attr.module.filepath.read_text("utf-8").splitlines()[(node.end_lineno or node.lineno) - 1]
        if comment := COMMENT.search(line[node.end_col_offset or 0 :]):
            attr.docstring = griffe.Docstring(comment[1], parent=attr)
