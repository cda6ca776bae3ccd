"""What released check code may not do: see the reference, name the secret modules, read files, run text.

The authors of checks are trusted. These rules catch slips, such as a public check that borrows a line from a hidden
one; they are strict because a slip that is released cannot be taken back.
"""
from __future__ import annotations

import ast
import re
from pathlib import Path

from autograder.solution.places import fault

SECRET_FIXTURES = ("reference", "request")  # request.getfixturevalue("reference")
_CALLS = frozenset("globals locals vars exec eval compile __import__ open breakpoint __builtins__ __file__ "
                   "__loader__ __spec__".split())
_ATTRIBUTES = frozenset("__globals__ __builtins__ __subclasses__ __code__ __loader__ __spec__ __import__ import_module "
                        "getfixturevalue importorskip".split())
_MODULES = frozenset("importlib imp runpy pkgutil builtins inspect gc ctypes os sys io pathlib shutil glob subprocess "
                     "pickle linecache autograder tests".split())


def check_released(path: Path, node: ast.stmt) -> None:
    """Raise `UsageError` for the first thing in a statement that must not be released."""
    if isinstance(node, ast.FunctionDef) and (node.name.startswith("test") or is_fixture(node)):
        _check_fixtures(path, node)
    for part in ast.walk(node):
        if isinstance(part, ast.Import | ast.ImportFrom):
            _check_import(path, part)
        _check_dynamic(path, part)
        _check_text(path, part)


def is_fixture(node: ast.stmt) -> bool:
    """Whether a function is decorated with `@pytest.fixture` in any of its forms."""
    parts = [part for decorator in getattr(node, "decorator_list", []) for part in ast.walk(decorator)]
    return any("fixture" in (getattr(part, "id", ""), getattr(part, "attr", "")) for part in parts)


def parameters(node: ast.FunctionDef) -> list[str]:
    """The names of a function's parameters."""
    arguments = node.args
    return [argument.arg for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]]


def _check_fixtures(path: Path, node: ast.FunctionDef) -> None:
    in_decorators = {part.value for decorator in node.decorator_list for part in ast.walk(decorator)
                     if isinstance(part, ast.Constant)}
    for name in SECRET_FIXTURES:
        if name in parameters(node) or name in in_decorators:
            raise fault(path, node.lineno, f"{node.name} is released and takes `{name}`, which students do not have; "
                                           "make it hidden, or compare with PyTorch or with a property")


def _check_import(path: Path, node: ast.Import | ast.ImportFrom) -> None:
    if isinstance(node, ast.ImportFrom) and node.level:
        raise fault(path, node.lineno, "released code imports from its own folder, which students do not have")
    module = getattr(node, "module", None)
    for name in [f"{module}.{alias.name}" if module else alias.name for alias in node.names]:
        parts = name.split(".")
        if _is_secret(path, parts):
            raise fault(path, node.lineno, f"released code imports `{name}`, which holds the solution")
        if parts[0] in _MODULES:
            raise fault(path, node.lineno, f"released code imports `{parts[0]}`; public checks neither read files nor "
                                           "load code")


def _is_secret(path: Path, parts: list[str]) -> bool:
    notebook = _notebook(path)
    return "solutions" in parts or parts[0] in (notebook, f"{notebook}_checks") or any(
        part.endswith("_variants") for part in parts)


def _check_dynamic(path: Path, node: ast.AST) -> None:
    if isinstance(node, ast.Name) and node.id in _CALLS:
        raise fault(path, node.lineno, f"released code uses `{node.id}`; public checks neither read files nor run text")
    if isinstance(node, ast.Attribute) and node.attr in _ATTRIBUTES:
        raise fault(path, node.lineno, f"released code uses `.{node.attr}`; public checks use plain names only")


def _check_text(path: Path, node: ast.AST) -> None:
    text = getattr(node, "value", None) if isinstance(node, ast.Constant) else getattr(node, "id", None)
    secret = re.compile(rf"\bsolutions[/.]\w+|\b{re.escape(_notebook(path))}_variants\b")
    if isinstance(text, str) and (found := secret.search(text)):
        raise fault(path, getattr(node, "lineno", 1), f"released code names `{found[0]}`, which students do not have")


def _notebook(path: Path) -> str:
    return path.stem.removesuffix("_checks")
