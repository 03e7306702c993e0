"""How well a network under training registers people it does not learn from."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from matplotlib.figure import Figure

from mdvit_jax import models
from mdvit_jax.evaluation import metrics, scoring
from mdvit_jax.plots import overlays
from mdvit_jax.training import known_affines, step


def create(
    config: ml_collections.ConfigDict, network: models.Network
) -> Callable[..., tuple[dict[str, float], Figure] | None]:
    """Validation: (params, pairs, stopped) → (metrics, picture of the worst pair).

    It ends early, with None, if `stopped()`, which is asked before each pair, is true.

    The metrics are means over the pairs: `validation_loss`, and of the masks `dsc`,
    `dsc30`, `hd95` (in the unit of `evaluation.hausdorff_unit`) and `jaccard`, and
    `region_dsc` where the scans have labels. With `validation.known` also what
    `known_affines.summary` says.
    """
    known = config.validation.known
    measure_known = known_affines.create(network, known, config.data.field_of_view)
    loss_of_pairs = step.objective(config.loss)

    @jax.jit
    def register(params, fixed, moving):
        estimate = network.from_centres(params, fixed, moving)
        return loss_of_pairs(fixed, estimate.warped)[0], estimate.matrix[0]

    def validate(params: Any, pairs: Iterable[scoring.Pair], stopped: Callable):
        loss, rows, worst = [], [], None
        apart, active = [], []
        for number, pair in enumerate(pairs):
            if stopped():
                return None
            images = (jnp.asarray(s.image)[None] for s in (pair.fixed, pair.moving))
            value, matrix = register(params, *images)
            warped, row = scoring.warp_and_score(pair, np.asarray(matrix), config)
            loss.append(float(value))
            rows.append(row)
            if known:
                scan = pair.moving
                measured = measure_known(
                    params, jnp.asarray(scan.image), jnp.asarray(scan.mask), number
                )
                apart.append(np.asarray(measured[0]))
                active.append(np.asarray(measured[1]))
            if worst is None or row["dsc"] < worst[0]:
                worst = row["dsc"], pair, warped
        overlap = [row["dsc"] for row in rows]
        means = {
            "validation_loss": float(np.mean(loss)),
            "dsc": float(np.nanmean(overlap)),
            "dsc30": float(metrics.lowest30(overlap).mean()),
            "hd95": float(np.mean([row["hd95"] for row in rows])),
            "jaccard": float(np.nanmean([row["jaccard"] for row in rows])),
        }
        region = [v for row in rows for v in row["regions"].values()]
        if region:
            means["region_dsc"] = float(np.nanmean(region))
        if known:
            means |= known_affines.summary(apart, active)
        assert worst is not None  # `pairs.cases` makes sure that there is a pair
        lowest, pair, warped = worst
        picture = overlays.registration_figure(
            pair.fixed.image,
            pair.moving.image,
            warped.image,
            title=f"{pair.moving_name} to {pair.fixed_name}, DSC {lowest:.3f}",
            fixed_mask=pair.fixed.mask,
        )
        return means, picture

    return validate
