"""The house rules that no linter knows, over the syntax tree of every module. `docs/style.md` says why they hold.

A rule is a function from a module to its breaches. `EXEMPT` lists what may break one, with the reason; an entry that
exempts nothing fails, so the list can only shrink.
"""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULE_LINES, FUNCTION_LINES, PARAMETERS, PUBLIC_METHODS = 500, 70, 7, 20
ADR_LINES, SCRIPT_LINES = 60, 25
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "mixins", "base_manager"}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
CLOCKS = {"time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.sleep", "asyncio.sleep"}
MAY_ASK_THE_CLOCK = ("streamlib/clock.py", "streamlib/testing/*", "streamlib/transport/*")
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME)\b")
Function = ast.FunctionDef | ast.AsyncFunctionDef

EXEMPT: dict[tuple[str, str], str] = {}
"""(rule, pattern of ``path::name``) to the reason why a breach is right there."""


@dataclass(frozen=True)
class Module:
    """A parsed file; ``path`` is relative to the root, with slashes."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    def functions(self) -> Iterator[tuple[str, Function]]:
        """Every function with its qualified name."""
        yield from ((name, node) for name, node in named(self.tree) if isinstance(node, Function))

    def classes(self) -> Iterator[tuple[str, ast.ClassDef]]:
        """Every class with its qualified name."""
        yield from ((name, node) for name, node in named(self.tree) if isinstance(node, ast.ClassDef))


def named(scope: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, Function | ast.ClassDef):
            yield prefix + node.name, node
            yield from named(node, f"{prefix}{node.name}.")
        else:
            yield from named(node, prefix)


@cache
def modules(*folders: str) -> list[Module]:
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return [Module(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]


def under(module: Module, *patterns: str) -> bool:
    return any(fnmatchcase(module.path, pattern) for pattern in patterns)


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of an expression, or an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (left := dotted(node.value)):
        return f"{left}.{node.attr}"
    return ""


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(local name, full name) of everything a module imports, wherever it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            heads = [(alias.name.partition(".")[0], alias) for alias in node.names]
            yield from ((a.asname, a.name) if a.asname else (head, head) for head, a in heads)
        elif isinstance(node, ast.ImportFrom):
            yield from ((a.asname or a.name, f"{node.module}.{a.name}") for a in node.names)


def long_module(module: Module) -> Iterator[str]:
    if (lines := len(module.text.splitlines())) > MODULE_LINES:
        yield f"::{lines} lines"


def long_function(module: Module) -> Iterator[str]:
    for name, node in module.functions():
        assert node.end_lineno is not None
        lines = node.end_lineno - node.lineno + 1
        if ast.get_docstring(node) is not None:
            assert node.body[0].end_lineno is not None
            lines -= node.body[0].end_lineno - node.body[0].lineno + 1
        if lines > FUNCTION_LINES:
            yield f"::{name} has {lines} lines"


def many_parameters(module: Module) -> Iterator[str]:
    for name, node in module.functions():
        positional = [arg.arg for arg in node.args.posonlyargs + node.args.args]
        count = len(positional) + len(node.args.kwonlyargs) - (positional[:1] in (["self"], ["cls"]))
        if count > PARAMETERS:
            yield f"::{name} has {count} parameters"


def large_class(module: Module) -> Iterator[str]:
    for name, node in module.classes():
        methods = {entry.name for entry in node.body if isinstance(entry, Function) and not entry.name.startswith("_")}
        if len(methods) > PUBLIC_METHODS:
            yield f"::{name} has {len(methods)} public methods"


def vague_name(module: Module) -> Iterator[str]:
    if vague := VAGUE.intersection(Path(module.path).with_suffix("").parts):
        yield f"::a module named {', '.join(sorted(vague))}"
    for name, _ in module.classes():
        if re.search(r"(?:^|\.)Abstract\w*$|(?:Mixin|Impl)$", name):
            yield f"::a class named {name}"


def clock_or_chance(module: Module) -> Iterator[str]:
    if under(module, *MAY_ASK_THE_CLOCK):
        return
    tree = module.tree
    names = dict(imported(tree))

    def full_name(node: ast.AST) -> str:
        head, _, rest = dotted(node).partition(".")
        return f"{names.get(head, '')}.{rest}".rstrip(".")

    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and full_name(node) in CLOCKS:
            yield f"::{full_name(node)} in line {node.lineno}"
        elif isinstance(node, ast.Call) and full_name(node.func).startswith("random."):
            yield f"::{full_name(node.func)} in line {node.lineno}"


def pickles(module: Module) -> Iterator[str]:
    for _, full in imported(module.tree):
        if full.partition(".")[0] in PICKLES:
            yield f"::imports {full}"


def prints(module: Module) -> Iterator[str]:
    if under(module, "streamlib/*") and not under(module, "streamlib/cli/*"):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and dotted(node.func) == "print":
                yield f"::print in line {node.lineno}"


def no_docstring(module: Module) -> Iterator[str]:
    if not ast.get_docstring(module.tree):
        yield "::no docstring"


Rule = Callable[[Module], Iterator[str]]
RULES: list[Rule] = [
    long_module,
    long_function,
    many_parameters,
    large_class,
    vague_name,
    clock_or_chance,
    prints,
    no_docstring,
]


def exemption(rule: Rule, breach: str) -> tuple[str, str] | None:
    """The entry of `EXEMPT` that covers a breach."""
    subject = breach.partition(" has ")[0]
    found = (entry for entry in EXEMPT if entry[0] == rule.__name__ and fnmatchcase(subject, entry[1]))
    return next(found, None)


def breaches(rule: Rule) -> list[str]:
    return [f"{module.path}{breach}" for module in modules("streamlib", "apps") for breach in rule(module)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_module_breaks_a_rule(rule: Rule) -> None:
    assert [breach for breach in breaches(rule) if exemption(rule, breach) is None] == []


def test_every_exemption_is_needed_and_has_a_reason() -> None:
    used = {exemption(rule, breach) for rule in RULES for breach in breaches(rule)}
    assert set(EXEMPT) - used == set()
    assert all(len(reason) > 20 for reason in EXEMPT.values())


def test_nothing_imports_a_pickle() -> None:
    everything = modules("streamlib", "apps", "benchmarks", "tests", "docs")
    assert [f"{module.path}{breach}" for module in everything for breach in pickles(module)] == []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (long_module, "a.py", "x = 1\n" * (MODULE_LINES + 1)),
        (long_function, "a.py", "def f():\n" + "    x = 1\n" * FUNCTION_LINES),
        (many_parameters, "a.py", "class A:\n    def f(self, a, b, c, d, e, f, *, g, h): ..."),
        (large_class, "a.py", "class A:\n" + "".join(f"    def f{n}(self): ...\n" for n in range(PUBLIC_METHODS + 1))),
        (vague_name, "streamlib/utils/a.py", ""),
        (vague_name, "a.py", "class StoreMixin: ..."),
        (vague_name, "a.py", "class AbstractStore: ..."),
        (clock_or_chance, "streamlib/a.py", "import time\ndef f(): return time.time()"),
        (clock_or_chance, "streamlib/a.py", "from time import monotonic as now\nx = now()"),
        (clock_or_chance, "streamlib/a.py", "import asyncio as aio\nasync def f(): await aio.sleep(1)"),
        (clock_or_chance, "apps/a.py", "import random\nx = random.Random(1)"),
        (clock_or_chance, "apps/a.py", "from random import choice\nx = choice([1])"),
        (pickles, "a.py", "def f():\n    from pickle import loads"),
        (prints, "streamlib/dsl/a.py", "print(1)"),
        (no_docstring, "a.py", "x = 1"),
    ],
)
def test_a_rule_reports_its_breach(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Module(path, text))) != []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (long_function, "a.py", 'def f():\n    """' + "x\n" * 99 + '"""\n' + "    x = 1\n" * (FUNCTION_LINES - 1)),
        (many_parameters, "a.py", "class A:\n    def f(self, a, b, c, d, e, f, *, g): ..."),
        (clock_or_chance, "streamlib/clock.py", "import time\nx = time.time()"),
        (clock_or_chance, "streamlib/testing/a.py", "import random\nx = random.random()"),
        (clock_or_chance, "streamlib/transport/local/a.py", "import time\nx = time.monotonic()"),
        (clock_or_chance, "streamlib/a.py", "import random\ndef f(chance: random.Random): return chance.random()"),
        (clock_or_chance, "streamlib/a.py", "def f(random, time): return random.choice(time.time)"),
        (prints, "streamlib/cli/a.py", "print(1)"),
    ],
)
def test_a_rule_is_silent_when_the_code_keeps_it(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Module(path, text))) == []


def test_the_modules_that_life_of_a_record_names_exist() -> None:
    page = (ROOT / "docs/explanation/life-of-a-record.md").read_text()
    files = re.findall(r"`(streamlib/[\w/]+(?:\.py|/))`", page)
    assert len(files) >= 7
    assert [file for file in files if not (ROOT / file).exists()] == []


def counted(module: Module) -> Iterator[str]:
    """Names of metrics, and reasons for which records are dropped, that a module counts under."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            texts = [entry.value for entry in node.args if isinstance(entry, ast.Constant)]
            if node.func.attr == "dropped" or dotted(node.func.value).endswith("metrics"):
                yield from (text for text in texts if isinstance(text, str))


def test_every_metric_and_reason_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text()
    names = {name for module in modules("streamlib") for name in counted(module)}
    assert {"records_processed_total", "null-key"} <= names
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_decisions_are_short_and_complete() -> None:
    records = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    assert len(records) >= 8
    for record in records:
        lines = record.read_text().splitlines()
        assert len(lines) <= ADR_LINES, record.name
        headings = [line[3:] for line in lines if line.startswith("## ")]
        wanted = ["Context", "Decision", "Alternatives", "Consequences", "How we would know it was wrong"]
        assert headings == wanted, record.name


def test_every_package_is_shipped() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = [path.parent.relative_to(ROOT) for path in (ROOT / "streamlib").rglob("__init__.py")]
    packages = {".".join(folder.parts) for folder in folders}
    assert set(settings["packages"]) == packages | set(settings["package-dir"])


def test_scripts_are_short() -> None:
    assert {
        path.name for path in (ROOT / ".ci").iterdir() if len(path.read_text().splitlines()) > SCRIPT_LINES
    } == set()


def test_nothing_is_left_to_be_done_later() -> None:
    folders = ("streamlib", "apps", "benchmarks", "tests", "docs", ".ci")
    kinds = {".py", ".md", ".toml", ".xml", ""}
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = [ROOT / "README.md", *(path for path in paths if path.suffix in kinds and "_build" not in path.parts)]
    assert [str(path.relative_to(ROOT)) for path in texts if UNFINISHED.search(path.read_text())] == []
