"""The template of template-based registration: MNI152 or a file of the user's."""

import functools
from pathlib import Path

import ml_collections
import numpy as np

from mdvit_jax.data import conform
from mdvit_jax.io import image, named_templates

CSF, GREY, WHITE = 1, 2, 3  # label values of the tissue maps made from MNI152


def load(data_config: ml_collections.ConfigDict) -> tuple[conform.Conformed, str]:
    """The conformed template and its name.

    Args:
        data_config: `config.data`; of it `template`, `size` and `field_of_view` are
            used. `template` is "mni152", or the path of a skull-stripped image file,
            which has no labels and whose mask is where the image is above 0.

    Raises:
        UserError: the file is missing or damaged.
    """
    grid = {"size": data_config.size, "field_of_view": data_config.field_of_view}
    if data_config.template == "mni152":
        return conform.conform(*mni152(), **grid), "mni152"
    path = Path(data_config.template).expanduser()
    conformed = conform.conform(image.load(path), None, None, **grid, name=str(path))
    return conformed, path.name.split(".")[0]


@functools.lru_cache(maxsize=1)
def mni152() -> tuple[image.Image, image.Image, image.Image]:
    """MNI152 as nilearn ships it: image, tissue labels, brain mask; 1 mm, RAS+.

    The image (ICBM 2009a, non-linear symmetric) is float32 in [0, 1], 0 outside the
    brain mask. The labels give each voxel of the mask its most probable tissue by
    nilearn's grey and white matter maps, the rest of the probability being that of
    fluid: 1 cerebrospinal fluid, 2 grey matter, 3 white matter; 0 outside. Nothing is
    downloaded. The arrays are shared by all callers and cannot be written to.
    """
    # Imported here: it takes a second or two, and only this function needs it.
    from nilearn import datasets

    template = named_templates.load("mni152")
    affine, mask = template.affine, template.data > 0
    brain = template.data.astype(np.float32) / template.data.max()
    grey = np.asarray(datasets.load_mni152_gm_template(resolution=1).dataobj)
    white = np.asarray(datasets.load_mni152_wm_template(resolution=1).dataobj)
    # In the order fluid, grey, white; a tie goes to the first.
    labels = (np.argmax([1 - grey - white, grey, white], axis=0) + CSF) * mask
    arrays = [brain, labels.astype(np.int32), mask.astype(np.uint8)]
    for array in arrays:
        array.setflags(write=False)
    brain_image, tissues, brain_mask = (image.from_array(a, affine) for a in arrays)
    return brain_image, tissues, brain_mask
