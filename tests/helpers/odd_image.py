"""Check an odd image file: it gives a right result, or one sentence that names it.

`mdvit apply` takes the file with the identity, as the image and as its reference: the
output must equal the input. A file that may have a fault is also the reference of a
sound image. Then the library's reader takes it.
"""

import importlib
import os
import tracemalloc
import warnings

import nibabel as nib
import numpy as np

from helpers import damage
from mdvit_jax import __main__, errors
from mdvit_jax.io import image

SHAPE = (12, 14, 16)
AFFINE = np.array([[-2, 0, 0, 10], [0, 0.5, 0.1, -20], [0, 0, 3, 5], [0, 0, 0, 1.0]])
MOST_BYTES = 20e6  # beside which a volume of the shape above is nothing
AS_NIBABEL = "what nibabel reads"


def values(dtype=np.int16, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 120, shape).astype(dtype)


SOUND = values()


def stored(data=SOUND, affine=AFFINE, image_class=nib.Nifti1Image, **header) -> bytes:
    return damage.stored(data, affine, image_class, **header)


# Imported here, so that it does not count as memory of the first file.
importlib.import_module("mdvit_jax.cli.apply_transform")


def holder(tmp_path, capsys):
    """A function that checks a file and returns whether it was accepted.

    Its arguments: the file's name; its bytes, or None if it exists; the values that it
    holds; and whether it must be refused (True), must not (False), or either (None).
    """
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "identity.txt").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    (tmp_path / "sound.nii").write_bytes(stored())

    def apply(moving, reference, *more):
        """The output, or None after an error of one sentence."""
        output = folder / "w.nii"
        output.unlink(missing_ok=True)
        words = ["--transform", tmp_path / "identity.txt", "--moving", moving]
        words += ["--reference", reference, "--output", output, *more]
        code = __main__.main(["apply", *map(str, words)])
        lines = capsys.readouterr().err.splitlines()
        if code in (0, 3):
            assert not lines and os.listdir(folder) == ["w.nii"]
            written = nib.load(output)
            data = np.array(np.asanyarray(written.dataobj))
            assert code == 0 or (data == data.flat[0]).all()
            return data, written.affine
        assert code == 2 and not os.listdir(folder)
        assert len(lines) == 1 and lines[0].startswith("error: "), lines
        assert lines[0].endswith((".", ".)")) and str(tmp_path / "odd") in lines[0]
        return None

    def hold(file, content, right=None, *, refused=None, labels=False) -> bool:
        path = tmp_path / file
        assert file.startswith("odd")
        if content is not None:
            path.write_bytes(content)
        placed = None
        if refused is not False:  # it doubles the time, and sound files are small
            tracemalloc.start()
        try:
            with warnings.catch_warnings(action="error"):
                warnings.simplefilter("ignore", ResourceWarning)  # nibabel's, of mgh
                result = apply(path, path, *["--labels"][:labels])
                if refused is not False:
                    placed = apply(tmp_path / "sound.nii", path)
                loaded = read(image.load_labels if labels else image.load, path)
            assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
        finally:
            tracemalloc.stop()
        if result is None:
            assert refused is not False and not loaded
            return False
        assert not refused, "a file with a fault was taken"
        data, affine = result
        assert placed is None or placed[0].shape == data.shape[:3]
        if right is AS_NIBABEL:
            with nib.imageglobals.LoggingOutputSuppressor():
                stored = nib.load(path)
            right = np.asanyarray(stored.dataobj)
            assert np.allclose(affine, stored.affine, rtol=1e-4, atol=1e-3)
        right = np.where(np.isfinite(right), right, right.dtype.type(0))
        while right.ndim > 3 and right.shape[-1] == 1:
            right = right[..., 0]
        with np.errstate(over="ignore"):
            if data.dtype == np.float32:  # in which what is too large is 0
                right = np.nan_to_num(right.astype(np.float32), posinf=0, neginf=0)
            data, right = data.astype(np.float32), right.astype(np.float32)
        np.testing.assert_array_equal(data, right)
        return True

    def read(reader, path) -> bool:
        try:
            volume = reader(path)
        except errors.UserError:
            return False
        assert np.isfinite(volume.data).all() and np.isfinite(volume.affine).all()
        return True

    return hold
