"""Python's own reader of programs, one thread at a time.

CPython before 3.11.8 and 3.12.1 counts the depth of a tree for all threads together: two that parse at once may end in
"SystemError: AST constructor recursion depth mismatch" (python/cpython#106905).
"""

from __future__ import annotations

import ast
import threading

_LOCK = threading.Lock()


def parse_python(text: str) -> ast.Module:
    """Return the tree of a program. Raises what ast.parse raises: SyntaxError, ValueError, RecursionError, MemoryError."""
    with _LOCK:
        return ast.parse(text)
