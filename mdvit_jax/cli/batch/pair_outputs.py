"""The output files of each pair of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mdvit_jax import errors
from mdvit_jax.cli.batch.pairs_csv import Row
from mdvit_jax.io import atomic
from mdvit_jax.io.series import Series
from mdvit_jax.transforms import application

if TYPE_CHECKING:  # it brings JAX, which --help need not wait for
    from mdvit_jax.registration.registration_result import Registration

ENDINGS = {"itk": ".tfm", "fsl": ".mat", "lta": ".lta", "x5": ".x5", "text": ".txt"}


class Options(NamedTuple):
    """What is done with every pair.

    Attributes:
        dof: "rigid", "similarity" or "affine".
        format: of the transforms, one of `transforms.FORMATS`.
        images: whether warped images are written.
        qc: whether pictures are.
    """

    dof: str = "affine"
    format: str = "itk"
    images: bool = True
    qc: bool = False


class Outputs(NamedTuple):
    """Where a pair's files go; None is not written.

    The thumbnail is the small picture that the page of the batch shows. The matrix is
    the transform as plain text beside another format, and the sidecars describe the
    image and the transform; BIDS has them.
    """

    transform: Path
    image: Path | None
    labels: Path | None
    picture: Path | None
    thumbnail: Path
    matrix: Path | None = None
    image_sidecar: Path | None = None
    transform_sidecar: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that are written."""
        return tuple(path for path in self if path is not None)


def name_outputs(row: Row, folder: Path, options: Options) -> Outputs:
    """The outputs of a pair."""
    return Outputs(
        folder / (row.name + ENDINGS[options.format]),
        folder / f"{row.name}_warped.nii.gz" if options.images else None,
        folder / f"{row.name}_labels.nii.gz" if row.labels else None,
        folder / f"{row.name}.png" if options.qc else None,
        folder / f"pictures/{row.name}.webp",
    )


def write(
    outputs: Outputs, result: Registration, labels: Series | None, options: Options
) -> None:
    """Write all of them but the sidecars, into folders that are made.

    Args:
        labels: of the moving image, if there is an output for them.

    Raises:
        UserError: one of them cannot be written.
    """
    for path in outputs.files:
        with errors.explain_write_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
    result.save_transform(outputs.transform, format=options.format)
    if outputs.matrix:
        result.save_transform(outputs.matrix, format="text")
    if outputs.image:
        result.save(outputs.image)
    if outputs.labels and labels:
        application.write_resampled(
            outputs.labels, labels, result.matrix, result.fixed.grid, labels=True
        )
    try:
        # Imported here: they bring JAX, and qc matplotlib, which few batches need.
        from mdvit_jax.cli.review import thumbnail

        atomic.write_bytes(outputs.thumbnail, thumbnail.encode(result))
        if outputs.picture:
            from mdvit_jax.cli.review import qc

            title = f"{outputs.picture.stem}, {options.dof}"
            qc.save(outputs.picture, result, title=title)
    except OSError as error:
        raise errors.UserError(
            f"{outputs.picture or outputs.thumbnail} cannot be written "
            f"({error.strerror}); free or choose another place."
        ) from error
