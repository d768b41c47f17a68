"""
The house rules, held by reading the source of every module.

A module belongs to a floor; imports go down, or stay on the floor without a cycle. The core and
the wire compute and touch nothing outside; modules and functions stay short; importing the
package never installs a reactor.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import twisted_mesh

#: Lowest floor first. A name is what follows `twisted_mesh.`, up to the next dot: `core` stands
#: for all in it. A new module is entered here, on the lowest floor that has what it imports.
FLOORS = {
    "ground": ["errors", "flags", "config", "message", "network", "identity", "version"],
    "wire": ["wire"],
    "core": ["core"],
    "simulation": ["simulation"],
    "shell": [
        "address*",
        "catching_up",
        "client_endpoints",
        "connections",
        "correspondence",
        "consumer",
        "delivery",
        "dialler",
        "dialling",
        "disconnected",
        "factory",
        "forked",
        "gathering",
        "handover",
        "hub",
        "interfaces",
        "keeper",
        "link*",
        "listeners",
        "listening",
        "logs",
        "members",
        "names",
        "observer",
        "on_its_way",
        "outlet",
        "protocol",
        "ranges",
        "reactor_thread",
        "receipt",
        "run",
        "seeker",
        "service",
        "settings",
        "silence",
        "steady",
        "store*",
        "timers",
        "tls",
        "trust",
        "waiters",
    ],
    "doors": [
        "base",
        "lines",
        "memory*",
        "mesh",
        "printing",
        "socket_node",
        "standard_error",
        "stdio",
        "tap",
        "terminal",
        "testing",
        "threadsafe",
    ],
    "package": ["__init__"],
    "plugin": ["twisted_mesh_plugin"],
}

#: Clocks, randomness, I/O and threads are handed to the wire and the core from above.
OUTSIDE = {
    *("twisted", "OpenSSL", "asyncio", "select", "socket", "ssl", "threading"),
    *("datetime", "os", "random", "secrets", "time"),
}

MODULE_LINES = 400
FUNCTION_LINES = 60

PACKAGE = "twisted_mesh"
PLUGIN = "twisted.plugins.twisted_mesh_plugin"
ROOT = Path(twisted_mesh.__file__).parent.parent


def read_package() -> dict[str, str]:
    """
    Read every module of the package and the plugin.

    :return: dotted name -> source; a package is named with its `.__init__`.
    """
    paths = [*(ROOT / PACKAGE).rglob("*.py"), ROOT.joinpath(*PLUGIN.split(".")).with_suffix(".py")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text("utf-8") for path in paths
    }


def floors_of(module: str) -> list[str]:
    """Name each floor whose entries fit a module: one, if the table is right."""
    key = module.rpartition(".")[2] if module == PLUGIN else module.split(".")[1]
    return [
        floor
        for floor, patterns in FLOORS.items()
        if any(fnmatchcase(key, pattern) for pattern in patterns)
    ]


def imported_names(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """
    Yield the line and the full dotted name of everything a module imports, wherever it does.

    `from a.b import c` gives `a.b.c`, whether c is a module or a name in one.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            # One dot is the package a module stands in; each further dot is one package up.
            base = module.split(".")[: -node.level] if node.level else []
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                yield node.lineno, ".".join([*base, alias.name])


def module_of(name: str, modules: Mapping[str, str]) -> str:
    """Find the module of ours that a dotted name is or lies in; the name itself if none is."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        for candidate in (prefix, f"{prefix}.__init__"):
            if candidate in modules:
                return candidate
    return name


def wrong_imports(modules: Mapping[str, str]) -> Iterator[str]:
    """Say of each import whether it leads up, outside or round in a circle."""
    ranks = list(FLOORS)
    graph: dict[str, set[str]] = {}
    for module, source in modules.items():
        floor = floors_of(module)[0]
        for line, name in imported_names(module, ast.parse(source)):
            top = name.partition(".")[0]
            if floor in ("wire", "core") and top in OUTSIDE:
                yield f"{module}:{line}: {floor} must not import {top}, have it passed in"
            target = module_of(name, modules)
            if target not in modules:
                continue
            graph.setdefault(module, set()).add(target)
            if ranks.index(floors_of(target)[0]) > ranks.index(floor):
                yield f"{module}:{line}: imports {target}, which lies above it"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "imports in a circle: " + " <- ".join(error.args[1])


def wrong_shapes(module: str, source: str) -> Iterator[str]:
    """Say what is wrong with one module read by itself: its length, its words, its functions."""
    tree = ast.parse(source)
    if ast.get_docstring(tree) is None:
        yield f"{module}:1: has no docstring"
    for number, text in enumerate(source.splitlines(), 1):
        if marker := re.search(r"\b(TODO|FIXME)\b", text):
            yield f"{module}:{number}: says {marker[0]}: do it or drop it"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                where = f"{module}:{node.lineno}: {node.name}"
                yield f"{where} has {lines} lines, above {FUNCTION_LINES}"
    if module.endswith(".__init__"):
        for statement in tree.body:
            if not is_facade(statement):
                yield f"{module}:{statement.lineno}: more than docstring, imports and __all__"


def long_modules(modules: Mapping[str, str]) -> Iterator[str]:
    """Name each module above the soft bound: longer is a warning, since a split can make it worse."""
    for module, source in modules.items():
        if (lines := len(source.splitlines())) > MODULE_LINES:
            yield f"{module}:1: has {lines} lines, above {MODULE_LINES}: is it still one concern?"


def is_facade(statement: ast.stmt) -> bool:
    """Tell whether a statement is one that an `__init__` may hold."""
    match statement:
        case ast.Import() | ast.ImportFrom():
            return True
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
    return False


def complaints(modules: Mapping[str, str]) -> list[str]:
    """
    List each break of the rules.

    :param modules: dotted name -> source, as read_package returns it.
    """
    homeless = [
        f"{module}: fits {fitting or 'no floor'}; enter it in FLOORS of tests/test_house.py, once"
        for module in modules
        if len(fitting := floors_of(module)) != 1
    ]
    if homeless:
        return homeless
    shapes = [text for module, source in modules.items() for text in wrong_shapes(module, source)]
    return [*shapes, *wrong_imports(modules)]


class TestHouse(SynchronousTestCase):
    """The package as it is."""

    def test_every_module_keeps_the_rules(self) -> None:
        modules = read_package()
        self.assertIn(f"{PACKAGE}.__init__", modules)
        self.assertIn(PLUGIN, modules)
        found = complaints(modules)
        self.assertEqual(found, [], "\n" + "\n".join(found))
        for text in long_modules(modules):
            warnings.warn(text, stacklevel=1)

    def modules_after(self, imported: str) -> set[str]:
        """Import a module in a fresh interpreter and return what it has loaded by then."""
        code = f"import sys, {imported}; print(*sys.modules, sep='\\n')"
        # In ROOT, so that a checkout which is not installed is found as well.
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return set(done.stdout.split())

    def test_importing_the_package_installs_no_reactor(self) -> None:
        loaded = self.modules_after(PACKAGE)
        self.assertIn(PACKAGE, loaded)
        self.assertNotIn("twisted.internet.reactor", loaded)

    def test_the_plugin_loads_nothing_of_ours(self) -> None:
        # twistd and trial load every plugin at every start, whoever's command they run.
        loaded = self.modules_after(PLUGIN)
        self.assertIn(PLUGIN, loaded)
        self.assertEqual([name for name in loaded if name.split(".")[0] == PACKAGE], [])
        self.assertNotIn("twisted.internet.reactor", loaded)


class TestChecker(SynchronousTestCase):
    """The checker is able to find each fault, and finds none where there is none."""

    def found(self, **sources: str) -> list[str]:
        """Check small modules, named below the package with `__` for a dot, docstrings added."""
        modules = {
            f"{PACKAGE}.{name.replace('__', '.')}": f'"""Doc."""\n{source}\n'
            for name, source in sources.items()
        }
        return complaints(modules)

    def assert_one(self, found: list[str], *parts: str) -> None:
        """Assert that there is one complaint and that it names all that is needed to act."""
        self.assertEqual(len(found), 1, found)
        for part in parts:
            self.assertIn(part, found[0])

    def test_imports_down_and_along_the_floor_pass(self) -> None:
        found = self.found(
            errors="import os",
            wire__framing="from twisted_mesh import errors\nimport struct",
            core__streams="from ..wire.framing import Frame\nfrom ..errors import MeshError",
            core__node="from . import streams\nfrom twisted_mesh.core.streams import Stream",
            service="from twisted_mesh.core import node\nimport time, twisted.internet.defer",
            tap="def make():\n    from twisted_mesh.service import MeshService",
        )
        self.assertEqual(found, [])

    def test_import_of_a_higher_floor(self) -> None:
        for statement in (
            "from twisted_mesh import service",
            "from twisted_mesh.service import MeshService",
            "import twisted_mesh.service as shell",
            "from .. import service",
            "from ..service import MeshService",
            "def late():\n    from ..service import MeshService",
        ):
            found = self.found(core__node=statement, service="")
            self.assert_one(found, "core.node:", "imports twisted_mesh.service", "above")

    def test_import_of_what_the_package_re_exports(self) -> None:
        facade = {f"{PACKAGE}.__init__": '"""Doc."""', f"{PACKAGE}.mesh": '"""Doc."""\n'}
        for statement in ("import twisted_mesh", "from twisted_mesh import MeshService"):
            found = complaints({**facade, f"{PACKAGE}.mesh": f'"""Doc."""\n{statement}'})
            self.assert_one(found, "mesh:2", "imports twisted_mesh.__init__")

    def test_import_in_a_circle(self) -> None:
        found = self.found(core__tree="from . import repair", core__repair="from .tree import Tree")
        self.assert_one(found, "circle", "core.tree", "core.repair")

    def test_clocks_and_io_in_the_pure_floors(self) -> None:
        for pure in ("core__node", "wire__framing"):
            for statement, name in (
                ("import time", "time"),
                ("import os.path as path", "os"),
                ("from twisted.internet import defer", "twisted"),
                ("def late():\n    from random import random", "random"),
            ):
                self.assert_one(self.found(**{pure: statement}), f"must not import {name},")

    def test_module_without_a_floor(self) -> None:
        self.assert_one(self.found(cellar=""), "twisted_mesh.cellar", "FLOORS", "test_house.py")

    def test_module_on_two_floors(self) -> None:
        self.patch(sys.modules[__name__], "FLOORS", {**FLOORS, "attic": ["service"]})
        self.assert_one(self.found(service=""), "twisted_mesh.service", "shell", "attic")

    def test_module_without_a_docstring(self) -> None:
        self.assert_one(complaints({f"{PACKAGE}.errors": "import os\n"}), "errors:1", "docstring")

    def test_long_module_is_a_warning(self) -> None:
        self.assertEqual(list(long_modules({"errors": "\n" * MODULE_LINES})), [])
        found = list(long_modules({"errors": "\n" * (MODULE_LINES + 1)}))
        self.assert_one(found, f"has {MODULE_LINES + 1} lines")

    def test_function_too_long(self) -> None:
        for head in ("def f():", "async def f():", "class C:\n  def f(self):"):
            body = "\n   pass"
            self.assertEqual(self.found(errors=head + body * (FUNCTION_LINES - 1)), [])
            found = self.found(errors=head + body * FUNCTION_LINES)
            self.assert_one(found, f"f has {FUNCTION_LINES + 1} lines")

    def test_marker_of_unfinished_work(self) -> None:
        for marker in ("TODO", "FIXME"):
            self.assert_one(self.found(errors=f"x = 1  # {marker}: y"), "errors:2", marker)

    def test_code_in_an_init(self) -> None:
        fine = '"""Doc."""\nfrom .mesh import MeshSocket\n__all__ = ["MeshSocket"]\n'
        modules = {f"{PACKAGE}.__init__": fine, f"{PACKAGE}.mesh": '"""Doc."""'}
        self.assertEqual(complaints(modules), [])
        modules[f"{PACKAGE}.__init__"] += "x = 1\n"
        self.assert_one(complaints(modules), "__init__:4", "more than")
