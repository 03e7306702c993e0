"""The sidecars of BIDS derivatives: what was done to an image, and how it went."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import mdvit_jax
from mdvit_jax.cli.batch.pair_outputs import Options, Outputs
from mdvit_jax.io import json_file

if TYPE_CHECKING:  # it brings JAX, which --help need not wait for
    from mdvit_jax.registration.registration_result import Registration

SKULL = "SkullStripped"


def write(
    outputs: Outputs,
    result: Registration,
    options: Options,
    metadata: Mapping[str, Any],
) -> None:
    """Write what was done and how it went beside the image and the transform.

    Args:
        metadata: what was known before; without SkullStripped it is what the image
            itself shows: a stripped brain has a background without noise.
    """
    components = result.components
    quality = {
        "Status": result.quality.status,
        "Reasons": list(result.quality.reasons),
        "CorrelationBefore": _rounded(result.before.correlation),
        "CorrelationAfter": _rounded(result.after.correlation),
        "OverlapBefore": _rounded(result.before.overlap),
        "OverlapAfter": _rounded(result.after.overlap),
        "NTGBefore": _rounded(result.before.ntg),
        "NTGAfter": _rounded(result.after.ntg),
    }
    shared = {
        "Sources": metadata["Sources"],
        "DegreesOfFreedom": options.dof,
        "Quality": quality,
        "Versions": {
            "mdvit_jax": mdvit_jax.__version__,
            "jax": importlib.metadata.version("jax"),
        },
    }
    if outputs.image_sidecar:
        skull = metadata.get(SKULL)
        if skull is None:
            skull = bool(result.pair.moving.clean)
        json_file.write(outputs.image_sidecar, {**metadata, SKULL: skull, **shared})
    if outputs.transform_sidecar:
        json_file.write(
            outputs.transform_sidecar,
            shared
            | {
                "Convention": "4x4 in world RAS+ mm in the .txt, taking a point of the "
                "space after to- to that of the image after from-; the other file is "
                "the same transform in its program's own convention",
                "TranslationMillimetres": [_rounded(v) for v in components.translation],
                "RotationDegrees": [_rounded(v) for v in components.rotation],
                "Scale": [_rounded(v) for v in components.scale],
                "Shear": [_rounded(v) for v in components.shear],
            },
        )


def _rounded(value: Any) -> float | None:
    """A number of five digits; None for NaN."""
    return json_file.finite(float(f"{float(value):.5g}"))
