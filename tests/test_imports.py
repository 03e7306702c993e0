"""Imports go one way, and geometry and losses need nothing else of the package."""

import ast
import inspect
from pathlib import Path

import pytest

import mdvit_jax
from mdvit_jax import geometry, losses

PACKAGE = Path(mdvit_jax.__file__).parent

# The floors of the package, lowest first: a room imports from the floors below, and on
# its own floor from the rooms in NEIGHBOURS.
FLOORS = (
    ("geometry", "io"),
    ("losses", "transforms"),
    ("models", "data", "plots"),
    ("registration", "evaluation", "training"),
    ("studies", "templates"),
    ("cli", "interfaces"),
)
NEIGHBOURS = {
    "evaluation": {"registration"},  # `register` is one of the methods compared
    "training": {"evaluation"},  # validation measures Dice as the evaluation does
}
EVERYWHERE = {"errors", "config"}
MAY_IMPORT = {
    room: {r for below in FLOORS[:height] for r in below} | NEIGHBOURS.get(room, set())
    for height, floor in enumerate(FLOORS)
    for room in floor
}
# Libraries that only one part may import.
ONLY_IN = {"flax": "models", "grain": "data", "orbax": "training"}


def imported(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, also within functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(part: str) -> list[Path]:
    result = sorted((PACKAGE / part).rglob("*.py"))
    assert result
    return result


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_point_one_way(part):
    for path in files(part):
        own = {n.split(".")[1] for n in imported(path) if n.startswith("mdvit_jax.")}
        assert own <= MAY_IMPORT[part] | EVERYWHERE | {part}, path


def test_every_part_is_known():
    parts = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert parts == set(MAY_IMPORT)


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_stays_in_its_part(library):
    users = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == library for name in imported(path))
    }
    assert users <= {ONLY_IN[library]}


def test_no_two_modules_share_a_name():
    """In a traceback or a search a file is identified by its name."""
    modules = [path.stem for path in PACKAGE.rglob("*.py")]
    names = [name for name in modules if not name.startswith("__")]
    assert sorted(set(names)) == sorted(names)


def test_losses_and_geometry_need_only_jax_and_numpy(run_python):
    """They import and compute with all other libraries blocked."""
    program = """
import sys
for name in ("flax", "orbax", "grain", "nibabel", "nilearn", "optax", "ml_collections",
             "matplotlib", "absl", "tqdm"):
    sys.modules[name] = None  # importing it now raises ImportError
import mdvit_jax
assert "jax" not in sys.modules
import jax
from mdvit_jax import geometry, losses
image = jax.numpy.arange(210.0).reshape(5, 6, 7) % 13
def value(matrix):
    warped = geometry.warp_affine(image, matrix)
    return losses.similarity_pyramid(losses.ntg, image, warped, levels=1)
print(jax.jit(jax.grad(value))(jax.numpy.eye(4).at[0, 3].set(0.1)).shape)
print(losses.ncc(image, image).shape)
"""
    run = run_python(program)
    assert run.stdout.split("\n")[:2] == ["(4, 4)", "()"]


@pytest.mark.parametrize(
    "function",
    [getattr(m, name) for m in (geometry, losses) for name in m.__all__],
    ids=lambda function: function.__name__,
)
def test_optional_arguments_are_keyword_only(function):
    """Arguments with a default are keyword-only; public names have docstrings."""
    assert function.__doc__
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not parameter.empty:
            assert parameter.kind is parameter.KEYWORD_ONLY


@pytest.mark.parametrize("module", [geometry, losses], ids=lambda m: m.__name__)
def test_public_names_are_in_order(module):
    assert module.__all__ == sorted(module.__all__)


def test_public_names_are_imported_on_use(run_python):
    program = """
import sys
import mdvit_jax
assert not {"jax", "numpy", "nibabel"} & set(sys.modules)
assert mdvit_jax.geometry.warp_affine and mdvit_jax.losses.ntg
assert not {"nibabel", "scipy"} & set(sys.modules)
assert mdvit_jax.transforms.FORMATS and issubclass(mdvit_jax.UserError, Exception)
assert mdvit_jax.register.__annotations__["return"] is mdvit_jax.Registration
assert dir(mdvit_jax) == sorted(mdvit_jax.__all__)
from mdvit_jax import *
assert not hasattr(mdvit_jax, "regster")
"""
    run_python(program)
    assert (PACKAGE / "py.typed").is_file()
