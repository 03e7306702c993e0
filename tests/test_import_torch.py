"""Imported PyTorch weights: golden values of an independent program, and bad files."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from configs import default
from mdvit_jax import errors, geometry, models
from mdvit_jax.models import import_torch, torch_coordinates

pytestmark = pytest.mark.usefixtures("quick_compilation")


def configuration(**changes):
    config = default.get_config().model
    config.update(embedding=8, depth=2, torch_coordinates=True)
    config.update(changes)
    return config


def state_dict(form: str, *, seed: int = 0, depth: int = 2, side: int = 5):
    """A state dict with the authors' names, written independently of the package."""
    c, tokens = 8, side**3
    shapes = {}
    for i, k in zip((1, 2, 3), (3, 7, 15), strict=True):
        shapes[f"patch_embed_{i}_xy.proj.weight"] = (c, 2, k, k, k)
        shapes[f"patch_embed_{i}_xy.proj.bias"] = (c,)
        first = 0
        if form != "none":
            first = 1
            stage = f"stage_{i}.0."
            for norm in ("norm1", "conv_1d.1"):
                shapes[f"{stage}{norm}.weight"] = shapes[f"{stage}{norm}.bias"] = (c,)
            for j in (1, 2, 3):
                shapes[f"{stage}d_conv_{j}.dwconv.weight"] = (c, 1, 3, 3, 3)
            joined = side**3 + (side - 2) ** 3 + (side - 4) ** 3
            outputs, inputs, window = (
                (tokens, joined, 3) if form == "tokens" else (c, 3 * c, 1)
            )
            shapes[f"{stage}conv_1d.0.weight"] = (outputs, inputs, window)
            shapes[f"{stage}conv_1d.0.bias"] = (outputs,)
        for j in range(first, first + depth):
            block = f"stage_{i}.{j}."
            shapes |= {
                f"{block}attn.q.weight": (c, c),
                f"{block}attn.kv.weight": (2 * c, c),
                f"{block}attn.proj.weight": (c, c),
                f"{block}attn.proj.bias": (c,),
                f"{block}mlp.fc1.weight": (2 * c, c),
                f"{block}mlp.fc1.bias": (2 * c,),
                f"{block}mlp.dwconv.dwconv.weight": (2 * c, 1, 3, 3, 3),
                f"{block}mlp.fc2.weight": (c, 2 * c),
                f"{block}mlp.fc2.bias": (c,),
            }
        shapes[f"head_{i}.0.weight"] = (c // 2, c)
        shapes[f"head_{i}.2.weight"] = (12, c // 2)
    for i in (1, 2):
        shapes[f"squeeze_{i}.weight"] = (c, c, 3, 3, 3)
        shapes[f"squeeze_{i}.bias"] = (c,)
    random = np.random.default_rng(seed)
    state = {k: random.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    if form == "tokens":
        for name in [n for n in state if "conv_1d.1" in n]:
            state[name] = state[name.replace("conv_1d.1", "norm1")]
    return state


# Golden values


def test_the_golden_c2fvit_gives_the_same_affines_and_images(golden_file):
    config = configuration(dilated_form="none", embedding=32)
    params = import_torch.load(golden_file, config)
    with np.load(golden_file) as values:
        network = models.create(config)
        estimate = jax.jit(network.apply)(
            params, values["fixed"][None], values["moving"][None]
        )
        for i, stage in enumerate(estimate.stages, start=1):
            parameters, warped = values[f"parameters_{i}"], values[f"warped_{i}"]
            assert stage.parameters == pytest.approx(parameters, abs=1e-5)
            assert stage.warped[0] == pytest.approx(warped, abs=1e-4)
        matrix = torch_coordinates.from_torch(
            np.vstack([values["matrix_3"], [0, 0, 0, 1]]), values["fixed"].shape
        )
        assert estimate.matrix[0] == pytest.approx(np.asarray(matrix), abs=1e-5)


def test_the_golden_affine(golden_file):
    with np.load(golden_file) as values:
        moving, parameters = values["moving"], values["affine/parameters"]
        matrix = torch_coordinates.affine_matrix(
            jnp.asarray(parameters),
            geometry.centre_of_mass(jnp.asarray(moving[None])),
            moving.shape,
        )
        theirs = np.vstack([values["affine/matrix"], [0, 0, 0, 1]])
        expected = torch_coordinates.from_torch(theirs, moving.shape)
        assert matrix[0] == pytest.approx(np.asarray(expected), abs=1e-5)
        warped = geometry.warp_affine(jnp.asarray(moving[None]), matrix)
        assert warped[0] == pytest.approx(values["affine/warped"], abs=1e-4)


# Names and layouts


@pytest.mark.parametrize("form", ["none", "channels", "tokens"])
def test_every_weight_is_imported_to_its_place(form):
    state = state_dict(form)
    config = configuration(dilated_form=form)
    params = import_torch.convert(state, config)
    volume = jax.ShapeDtypeStruct((1, 40, 40, 40), jnp.float32)
    shapes = jax.eval_shape(
        models.create(config).init, jax.random.key(0), *[volume] * 2
    )
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda s: s.shape, shapes)

    ours = traverse_util.flatten_dict(params, sep="/")
    block = f"stage_2.{1 if form == 'none' else 2}."
    kv = state[f"{block}attn.kv.weight"]
    for name, expected in {
        "block_2/attention/query": state[f"{block}attn.q.weight"].T,
        "block_2/attention/key": kv[:8].T,
        "block_2/attention/value": kv[8:].T,
        "block_2/mlp/depthwise": np.moveaxis(
            state[f"{block}mlp.dwconv.dwconv.weight"][:, 0], 0, -1
        ),
        "patch_embedding": state["patch_embed_2_xy.proj.weight"].transpose(
            2, 3, 4, 1, 0
        ),
        "head/parameters": state["head_2.2.weight"].T,
    }.items():
        assert (ours[f"stage_2/{name}/kernel"] == expected).all(), name
    if form != "none":
        compress = state["stage_2.0.conv_1d.0.weight"].transpose(2, 1, 0)
        result = ours["stage_2/msda/compress/kernel"]
        assert (result == compress.reshape(result.shape)).all()
        scale = ours["stage_2/msda/norm/scale"]
        assert (scale == state["stage_2.0.norm1.weight"]).all()


def test_prefixes_and_formats(tmp_path):
    state, config = state_dict("none"), configuration(dilated_form="none")
    expected = import_torch.convert(state, config)
    for name, prefix in (("a", ""), ("b", "weights/"), ("c", "weights/module.")):
        extra = {"fixed": np.zeros(3)} if prefix.startswith("weights/") else {}
        path = tmp_path / f"{name}.npz"
        np.savez(path, **{prefix + k: v for k, v in state.items()}, **extra)
        result = import_torch.load(path, config)
        assert all(
            (a == b).all()
            for a, b in zip(
                jax.tree.leaves(result), jax.tree.leaves(expected), strict=True
            )
        )


def test_a_weight_beside_a_prefix_is_left_over(tmp_path):
    state, config = state_dict("none"), configuration(dilated_form="none")
    prefixed = {f"module.{name}": value for name, value in state.items()}
    np.savez(tmp_path / "a.npz", **prefixed, junk=np.zeros(3))
    with pytest.raises(errors.UserError):
        import_torch.load(tmp_path / "a.npz", config)


def test_pytorch_files(tmp_path):
    torch = pytest.importorskip("torch")
    state, config = state_dict("tokens"), configuration(dilated_form="tokens")
    tensors = {f"module.{k}": torch.from_numpy(v) for k, v in state.items()}
    trained = {k: torch.nn.Parameter(v) for k, v in tensors.items()}
    expected = import_torch.convert(state, config)
    for content in (
        tensors,
        {"model": tensors},
        {"model": "mdvit", "state_dict": trained},
        {"epoch": 3, "model_state_dict": tensors},
    ):
        torch.save(content, tmp_path / "a.pt")
        result = import_torch.load(tmp_path / "a.pt", config)
        assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), result, expected))
    torch.save({"epoch": 3}, tmp_path / "b.pt")
    with pytest.raises(errors.UserError, match=r"b\.pt is damaged or holds no state"):
        import_torch.load(tmp_path / "b.pt", config)


def test_pytorch_files_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pth").touch()
    with pytest.raises(errors.UserError, match="a.pth .* install torch, or save"):
        import_torch.load(tmp_path / "a.pth", configuration())


# Files that do not fit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("head_2.0.weight"), 'has no weight "head_2.0.weight"'),
        (lambda s: s.update(extra=np.zeros(2)), 'holds "extra", which'),
        (
            lambda s: s.update({"squeeze_1.bias": np.zeros(9)}),
            r'"squeeze_1.bias" has the shape \(9,\), but .* needs \(8,\)',
        ),
        (
            lambda s: s.update({"stage_3.0.conv_1d.1.bias": np.zeros(8)}),
            "stage_3.0.conv_1d.1.bias.* differs from the norm",
        ),
    ],
)
def test_state_dicts_that_do_not_fit(change, message):
    state = state_dict("tokens")
    change(state)
    with pytest.raises(errors.UserError, match=message):
        import_torch.convert(state, configuration(dilated_form="tokens"))


def test_weights_of_another_form():
    with pytest.raises(errors.UserError, match=r'"stage_1.0.conv_1d.0.bias" has'):
        import_torch.convert(state_dict("tokens"), configuration())
    with pytest.raises(errors.UserError, match='has no weight "stage_1'):
        import_torch.convert(state_dict("none"), configuration(dilated_form="tokens"))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(errors.UserError, match="no weight file .*nowhere.npz"):
        import_torch.load(tmp_path / "nowhere.npz", configuration())
    for name, content in (
        ("a.npz", b"PK\x03\x04 torn"),
        ("b.npz", b""),
        ("c.npz", b"x"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(errors.UserError, match=f"{name} is damaged or not a .npz"):
            import_torch.load(tmp_path / name, configuration())
    (tmp_path / "a.safetensors").touch()
    with pytest.raises(errors.UserError, match="give a .npz, .pt or .pth"):
        import_torch.load(tmp_path / "a.safetensors", configuration())
