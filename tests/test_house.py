"""Who may import whom, and that every name is there once: the rules of the house, read from the code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Floors of pnm/, from the ground up; a module imports from its own room and from lower floors only.
FLOORS = (
    {"errors", "programs", "usable_cores", "read_ahead", "cityscapes_classes"}
    | {"ade20k_classes", "kernel_arguments", "memory_reuse"},
    {"machine_code"},
    {"kernels"},
    {"masks", "network_backends", "shards"},
    {"compiling", "formats", "metrics", "null_model", "boundary_patches", "interior_offsets", "panoptic_grouping"}
    | {"panoptic_fusion", "silhouettes", "fcos", "region_pooling"},
    {"pictures"},
    {"annotations", "object_refinement"},
    {"predictions", "scoring"},
    {"reporting"},
)
# PNM IoU weights pixels as the null model says; weight maps are stored as PNGs.
MAY_IMPORT_SIDEWAYS = {("metrics", "null_model"), ("null_model", "formats"), ("interior_offsets", "formats")}
MAY_IMPORT_SIDEWAYS |= {("metrics", "interior_offsets")}  # errors are counted by their distance to the boundary
PAPERS = {"pnm_heads", "bpr", "segfix", "prn", "se_psnet", "universal"}
SHARED = {"dataset_mappers", "semantic_networks", "refining"}
WRITERS = {"os.replace", "os.rename", "shutil.move"}


def files(*folders: str) -> list[Path]:
    return [
        path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")) if "__pycache__" not in path.parts
    ]


def imported(path: Path) -> set[str]:
    """Full names of the modules and names that a file of pnm/, projects/ or tools/ imports, inside functions, too."""
    relative = path.relative_to(ROOT).with_suffix("")
    package = [*(() if relative.parts[0] == "pnm" else ("pnm",)), *relative.parts[:-1]]
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def room_of(name: str) -> str:
    """The room of pnm/ that a full name is in."""
    return name.split(".")[1]


def floor_of(room: str) -> int:
    return next(n for n, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("path", files("pnm"), ids=lambda path: str(path.relative_to(ROOT)))
def test_pnm_imports_downwards_and_no_detectron2(path):
    names = imported(path)
    assert not [name for name in names if name.split(".")[0] == "detectron2"]
    own = path.relative_to(ROOT / "pnm").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for name in names:
        if name.startswith("pnm.") and room_of(name) != own:
            other = room_of(name)
            below = floor_of(other) < floor_of(own) or (own, other) in MAY_IMPORT_SIDEWAYS
            assert below, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("path", files("projects"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_no_other_papers_room_and_not_the_launcher(path):
    own = path.relative_to(ROOT / "projects").parts[0]
    others = {name.split(".")[2] for name in imported(path) if name.startswith("pnm.projects.")} - {own}
    if own in PAPERS or own in SHARED:
        assert others <= SHARED
    elif own == "launcher":
        assert not others & PAPERS  # it knows a list of rooms, and no paper


def test_shared_rooms_form_no_circle():
    order = ("dataset_mappers", "semantic_networks", "refining")
    for path in files(*(f"projects/{room}" for room in order)):
        own = path.relative_to(ROOT / "projects").parts[0]
        for name in imported(path):
            if name.startswith("pnm.projects.") and name.split(".")[2] != own:
                assert order.index(name.split(".")[2]) < order.index(own), f"{path.relative_to(ROOT)}: {name}"


def test_modules_form_no_circle():
    """Of modules, imports inside functions left out, a package standing for what it brings in."""
    modules = {}
    for path in files("pnm", "projects", "tools"):
        relative = path.relative_to(ROOT).with_suffix("")
        parts = [*(() if relative.parts[0] == "pnm" else ("pnm",)), *relative.parts]
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    edges = {}
    for module, path in modules.items():
        targets = {next((m for m in (n, n.rpartition(".")[0]) if m in modules), "") for n in imported(path)}
        edges[module] = {t for t in targets if t and t != module and not module.startswith(f"{t}.")}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above[above.index(module) :], module])
        if module not in done:
            for target in edges[module]:
                visit(target, (*above, module))
            done.add(module)

    for module in modules:
        visit(module, ())


def test_one_atomic_writer():
    allowed = {"pnm/formats/atomic_files.py"}
    allowed |= {"pnm/predictions/prediction_writer.py", "datasets/make_shapes.py"}  # which move whole folders
    for path in files("pnm", "projects", "tools", "datasets"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in WRITERS:
                assert str(path.relative_to(ROOT)) in allowed, f"{path.relative_to(ROOT)}, line {node.lineno}"


# Whoever else needs a compiled function asks pnm.kernels: it starts without numba, whatever became of numba's cache.
MAY_IMPORT_NUMBA = {"pnm/kernels.py", "pnm/kernel_arguments.py", "pnm/machine_code.py", "pnm/masks/simd_intrinsics.py"}


def test_numba_is_used_by_one_way():
    for path in [ROOT / "train_net.py", *files("pnm", "projects", "tools", "datasets", "embedded")]:
        imports_it = "numba" in {name.split(".")[0] for name in imported(path)}
        assert not imports_it or path.relative_to(ROOT).as_posix() in MAY_IMPORT_NUMBA, path.relative_to(ROOT)


def test_no_module_under_a_second_name():
    for path in files("pnm", "projects", "tools", "tests", "benchmarks", "datasets"):
        strange = {name for name in imported(path) if name.split(".")[0] in ("projects", "tools", "embedded")}
        assert not strange, path
    for name in ("projects", "embedded"):
        with pytest.raises(ImportError, match="import pnm"):
            __import__(name)


NOT_FILES = {"Image", "PathManager", "self.path_manager", "webbrowser"}  # whose open() has another second argument


def mode_of(call: ast.Call, place: int) -> str:
    """The mode that a call of open() gives, as its argument number ``place`` or by name."""
    named = [word.value for word in call.keywords if word.arg == "mode"]
    value = named[0] if named else call.args[place] if len(call.args) > place else ast.Constant("r")
    return str(value.value) if isinstance(value, ast.Constant) else "b"


def lacks_encoding(call: ast.Call) -> bool:
    """Whether a call opens a text file in whatever encoding the machine has: not UTF-8 on Windows."""
    if any(word.arg == "encoding" or word.arg is None for word in call.keywords):
        return False
    if isinstance(call.func, ast.Name):
        return call.func.id == "open" and "b" not in mode_of(call, 1) and len(call.args) < 4
    if not isinstance(call.func, ast.Attribute) or ast.unparse(call.func.value) in NOT_FILES:
        return False
    texts = {"read_text": 1, "write_text": 2}
    if call.func.attr in texts:
        return len(call.args) < texts[call.func.attr]
    is_path = call.func.attr == "open" and (not call.args or isinstance(call.args[0], ast.Constant))
    return is_path and not mode_of(call, 0).startswith("http") and "b" not in mode_of(call, 0) and len(call.args) < 3


def test_each_text_file_names_its_encoding():
    for path in [ROOT / "train_net.py", *files("pnm", "projects", "tools", "datasets", "embedded")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and lacks_encoding(node):
                pytest.fail(f"{path.relative_to(ROOT)}, line {node.lineno}: {ast.unparse(node)} names no encoding")


@pytest.mark.parametrize(
    ("call", "lacks"),
    [
        ("open(x)", True),
        ("open(x, 'w')", True),
        ("open(x, 'rb')", False),
        ("open(x, encoding='utf-8')", False),
        ("x.open()", True),
        ("x.open('a')", True),
        ("x.open('xb')", False),
        ("x.read_text()", True),
        ("x.read_text('utf-8')", False),
        ("x.write_text(y)", True),
        ("x.write_text(y, 'utf-8')", False),
        ("write_text(x, y)", False),
        ("Image.open(x)", False),
    ],
)
def test_encodings_are_seen(call, lacks):
    assert lacks_encoding(ast.parse(call, mode="eval").body) is lacks
