"""What `mdvit_jax.register` returns: the transform, its verdict, the warped image."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from mdvit_jax import errors, transforms
from mdvit_jax.io import image
from mdvit_jax.io.image import Image
from mdvit_jax.registration import levels, quality, search, similarity_metrics
from mdvit_jax.transforms.resampling import background_value


@dataclasses.dataclass(frozen=True, repr=False)
class Registration:
    """A pair of images and the affine transform between them.

    Attributes:
        matrix: 4×4 float64 fixed → moving, world RAS+ mm: it takes a point of the fixed
            image to the point of the moving image that shows the same place.
        quality: its status, "ok", "check" or "failed", and the reasons in sentences.
        before, after: NTG, local correlation and overlap under the headers alone and
            under `matrix`.
        components: translation (mm), rotation (degrees), scale and shear, about the
            centre of the fixed foreground.
        alignment: result of the search; None without refinement.
        fixed, moving: the images.
        pair: their foregrounds on the cubes on which they were aligned.
    """

    matrix: np.ndarray
    quality: quality.Quality
    before: similarity_metrics.Measures
    after: similarity_metrics.Measures
    components: transforms.Components
    alignment: search.Alignment | None
    fixed: Image
    moving: Image
    pair: levels.Pair

    def __repr__(self) -> str:
        rows = np.array2string(self.matrix, precision=4, suppress_small=True)
        status = self.quality.status
        return f"Registration: {status}, {self.after}, fixed to moving\n{rows}"

    @property
    def inverse(self) -> np.ndarray:
        """4×4 float64 moving → fixed, world RAS+ mm."""
        return np.linalg.inv(self.matrix)

    @functools.cached_property
    def warped(self) -> np.ndarray:
        """The moving image on the fixed image's grid, [x, y, z] float32, linear.

        Outside the moving image it has the value of that image's background.
        """
        return self._resampled(np.dtype(np.float32))

    def save(
        self,
        path: str | Path,
        *,
        interpolation: str = "linear",
        fill: float | str = "auto",
    ) -> None:
        """Write the moving image on the fixed image's grid, in its own number type.

        Args:
            path: ends in .nii.gz, .nii, .mgz or .mgh; an existing file is replaced.
            interpolation: "linear", "nearest", "cubic" or "lanczos".
            fill: value outside the moving image; "auto": its background's.

        Raises:
            UserError: another ending, or a folder that cannot be written to.
        """
        data = self._resampled(
            self.moving.dtype, interpolation=interpolation, fill=fill
        )
        image.save(path, data, self.fixed.grid, header=self.moving.header)

    def save_transform(self, path: str | Path, *, format: str | None = None) -> None:
        """Write the transform, fixed → moving; see `transforms.write`.

        Args:
            path: its ending decides the format: .tfm, .lta, .x5 or .txt; .mat needs
                `format`.
            format: one of `transforms.FORMATS`.

        Raises:
            UserError: no known format, or a folder that cannot be written to.
        """
        transforms.write(
            path,
            self.matrix,
            fixed=self.fixed.grid,
            moving=self.moving.grid,
            format=format,
        )

    def to_nibabel(self) -> Any:
        """`warped`, float32, as a `nibabel.Nifti1Image` on the fixed image's grid."""
        return image.to_nibabel(self.warped, self.fixed.grid, header=self.moving.header)

    def to_nitransforms(self) -> Any:
        """The transform as a `nitransforms.linear.Affine`, whose reference is `fixed`.

        `nitransforms.resampling.apply(transform, moving)` is then the warped image.

        Raises:
            UserError: nitransforms is not installed.
        """
        try:
            from nitransforms.linear import Affine
        except ImportError as error:
            raise errors.UserError(
                "to_nitransforms needs the package nitransforms: pip install "
                "nitransforms."
            ) from error
        reference = image.to_nibabel(self.fixed.data, self.fixed.grid)
        return Affine(self.matrix, reference=reference)

    def _resampled(
        self,
        dtype: np.dtype,
        *,
        interpolation: str = "linear",
        fill: float | str = "auto",
    ) -> np.ndarray:
        data = self.moving.data
        return transforms.resample(
            data,
            self.moving.affine,
            self.matrix,
            self.fixed.grid,
            interpolation=interpolation,
            fill=background_value(data) if fill == "auto" else float(fill),
            dtype=dtype,
        )
