"""A network as two pure functions, made and checked from a configuration."""

import dataclasses
import functools
from typing import Any, cast

import jax
from jax import Array
from ml_collections import ConfigDict, FrozenConfigDict

from mdvit_jax import errors, geometry
from mdvit_jax.models import dlir, initial_weights, keymorph, mdvit, msda, pasta
from mdvit_jax.models.ops import dense

Params = dict[str, Any]

_DILATED_FORMS = (*mdvit.DILATED_FORMS, "none")
_MODULES: dict[str, Any] = {
    "mdvit": mdvit.MDViT,
    "dlir": dlir.Dlir,
    "pasta": pasta.Pasta,
    "keymorph": keymorph.KeyMorph,
}
_COMPUTE_DTYPES = ("auto", "float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Network:
    """Fixed and moving volume → affine; `create` makes it from a configuration."""

    module: mdvit.MDViT | dlir.Dlir | pasta.Pasta | keymorph.KeyMorph

    def init(
        self,
        key: Array,
        fixed: Array | jax.ShapeDtypeStruct,
        moving: Array | jax.ShapeDtypeStruct,
    ) -> Params:
        """Random parameters, a nested dict; nothing is computed with the volumes.

        Args:
            key: of `jax.random.key`.
            fixed, moving: [batch, x, y, z], or their `jax.ShapeDtypeStruct`.

        Raises:
            UserError: a size of volumes that the network cannot take.
        """
        self._check_volumes(fixed, moving)
        init = functools.partial(self.module.init, initial=None, dropout_keys=None)
        shapes = jax.eval_shape(init, key, fixed, moving)
        linear = self.module.config.linear_weights
        return initial_weights.draw(key, shapes["params"], linear)

    def apply(
        self,
        params: Params,
        fixed: Array,
        moving: Array,
        *,
        initial: Array | None = None,
        dropout_keys: Array | None = None,
        passes: int | None = None,
    ) -> mdvit.AffineEstimate:
        """Estimate `fixed_to_moving` of each pair.

        In each pass after the first the network starts from its last answer, through
        which no gradient flows.

        Args:
            params: of `init` or `import_torch.load`.
            fixed, moving: [batch, x, y, z], intensities in [0, 1].
            initial: [batch, 4, 4] normalised `fixed_to_moving` to start from, a shift
                of the centre of mass for instance. The estimate includes it: the
                result is as if the moving volume had been warped with it beforehand,
                but every warp resamples the original volume once.
            dropout_keys: [batch], switches dropout on; each pair draws from its own.
            passes: how many; None: `model.passes`.

        Returns:
            The matrix [batch, 4, 4], `fixed_to_moving` in normalised coordinates, the
            12 parameters, and the warped volume; of every stage and of the passes
            before, too.

        Raises:
            UserError: a size of volumes that the network or its weights cannot take.
        """
        self._check_volumes(fixed, moving)
        self._check_weights(params, fixed.shape[1:])
        if passes is None:
            passes = self.module.config.passes
        estimates: list[mdvit.AffineEstimate] = []
        for number in range(passes):
            if estimates:
                initial = jax.lax.stop_gradient(estimates[-1].matrix)
            if estimates and dropout_keys is not None:
                dropout_keys = jax.vmap(jax.random.fold_in, (0, None))(
                    dropout_keys, number
                )
            estimate = self.module.apply(
                {"params": params}, fixed, moving, initial, dropout_keys
            )
            estimates.append(cast(mdvit.AffineEstimate, estimate))
        *before, last = estimates
        return last._replace(before=tuple(before))

    def from_centres(
        self,
        params: Params,
        fixed: Array,
        moving: Array,
        *,
        dropout_keys: Array | None = None,
    ) -> mdvit.AffineEstimate:
        """`apply`, starting from aligned centres of mass as in the paper.

        Args:
            params, fixed, moving, dropout_keys: as in `apply`.

        Returns:
            As `apply`; the matrix includes the shift of the centres.
        """
        start = geometry.centre_shift(fixed, moving)
        return self.apply(
            params, fixed, moving, initial=start, dropout_keys=dropout_keys
        )

    def _check_volumes(
        self,
        fixed: Array | jax.ShapeDtypeStruct,
        moving: Array | jax.ShapeDtypeStruct,
    ) -> None:
        if fixed.shape != moving.shape or len(fixed.shape) != 4:
            raise ValueError(
                "fixed and moving must be [batch, x, y, z] of equal shapes, not "
                f"{fixed.shape} and {moving.shape}"
            )
        model, shape = self.module.config, fixed.shape[1:]
        spacing = token_spacing(model)
        if min(shape) < 1 or any(n % spacing for n in shape):
            raise errors.UserError(
                f"Volumes of {_by(shape)} voxels do not fit the network: every axis "
                f"must be a multiple of {spacing}; choose another data.size, 64 or 128 "
                "for instance."
            )
        if model.name != "mdvit":
            return
        grid = [n // spacing for n in shape]
        smallest = 2 * max(model.dilations) - 1
        if model.dilated_form == "tokens" and min(grid) < smallest:
            raise errors.UserError(
                f"Volumes of {_by(shape)} voxels are too small for "
                f'model.dilated_form "tokens" with dilation {max(model.dilations)}; '
                f"{smallest * spacing} voxels along each axis is the least."
            )

    def _check_weights(self, params: Params, shape: tuple[int, ...]) -> None:
        """UserError if the token form's weights need another size of volumes."""
        model = self.module.config
        if model.name != "mdvit" or model.dilated_form != "tokens":
            return
        x, y, z = (n // token_spacing(model) for n in shape)
        needed = msda.joined_tokens((x, y, z), model.dilations)
        fits = params["stage_1"]["msda"]["compress"]["kernel"].shape[1:]
        if fits != needed:
            raise errors.UserError(
                f"The weights bring {fits[0]} tokens to {fits[1]}, but volumes of "
                f"{_by(shape)} voxels have {needed[0]} and {needed[1]}: with "
                'model.dilated_form "tokens" a network takes one size only; use '
                "volumes of the size it was made for."
            )


def create(config: ConfigDict) -> Network:
    """The network of a configuration.

    Args:
        config: the whole of it, or its `model` part (`configs/default.py`).

    Raises:
        UserError: a value that no network can have.
    """
    model = FrozenConfigDict(config.model if "model" in config else config)
    if model.name not in _MODULES:
        raise errors.UserError(
            f'model.name is "{model.name}"; choose {_choice(tuple(_MODULES))}.'
        )
    if model.dilated_form not in _DILATED_FORMS:
        raise errors.UserError(
            f'model.dilated_form is "{model.dilated_form}"; choose '
            f"{_choice(_DILATED_FORMS)}."
        )
    for setting, choices in (
        ("compute_dtype", _COMPUTE_DTYPES),
        ("head", tuple(mdvit.HEADS)),
        ("heat_maps", tuple(keymorph.HEAT_MAPS)),
        ("linear_weights", initial_weights.LINEAR),
    ):
        if model[setting] not in choices:
            raise errors.UserError(
                f'model.{setting} is "{model[setting]}"; choose {_choice(choices)}.'
            )
    if model.embedding % model.heads:
        raise errors.UserError(
            f"model.embedding {model.embedding} cannot be shared out among "
            f"{model.heads} heads; make it a multiple of model.heads."
        )
    spacings = [
        stride * 2**halvings for halvings, stride in enumerate(reversed(model.strides))
    ]
    if len(model.patches) != len(model.strides) or len(set(spacings)) != 1:
        raise errors.UserError(
            f"model.patches {model.patches} and model.strides {model.strides} must "
            "have a number for each stage, each stride twice the one before, so that "
            "all stages have the same tokens."
        )
    if any(patch % 2 == 0 for patch in model.patches):
        raise errors.UserError(
            f"model.patches {model.patches} must be odd numbers, so that a patch has "
            "a voxel at its centre."
        )
    dtype = dense.compute_dtype(model.compute_dtype)
    model = FrozenConfigDict({**model, "compute_dtype": dtype})
    return Network(_MODULES[model.name](model))


def token_spacing(model: FrozenConfigDict) -> int:
    """Voxels of the full volume from one token (or place of a map) to the next."""
    spacings = {
        "dlir": 2 ** len(model.channels),
        "pasta": 2 ** len(model.channels),
        "keymorph": model.first_stride * 2 ** (len(model.channels) // 2),
    }
    return spacings.get(model.name, model.strides[-1])


def _by(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _choice(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names[:-1]) + f' or "{names[-1]}"'
