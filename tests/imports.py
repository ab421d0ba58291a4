"""What a Python file imports, read from its syntax tree: the file is not run."""

import ast
from typing import NamedTuple


class Import(NamedTuple):
    """`import module`, then without a name, or `from module import name as alias`."""

    module: str
    name: str
    alias: str
    line: int

    @property
    def dotted(self):
        """The dotted name that is imported."""
        return f"{self.module}.{self.name}" if self.name else self.module


def imports(path, types=True):
    """The imports of a file in any of its blocks. types: also those under a top-level `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text("utf-8"))
    if not types:
        tree.body = [
            n for n in tree.body if not (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test))
        ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(a.name, "", a.asname or a.name, node.lineno) for a in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (Import(node.module, a.name, a.asname or a.name, node.lineno) for a in node.names)
