"""HDF5 files of transforms: X5 of nitransforms (RAS+ mm), and ITK's (.h5)."""

import io

import numpy as np

from mdvit_jax.transforms import itk
from mdvit_jax.transforms.itk import Chain

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_hdf5(content: bytes) -> bool:
    """Whether this is an HDF5 file."""
    return content.startswith(_SIGNATURE)


def encode_x5(fixed_to_moving: np.ndarray) -> bytes:
    """The bytes of an X5 file that holds one linear transform, 4×4, RAS+ mm."""
    import h5py  # here, as few programs need it

    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs["Format"] = "X5"
        file.attrs["Version"] = np.uint16(1)
        group = file.create_group("TransformGroup").create_group("0")
        group.attrs["Type"] = "linear"
        group.attrs["ArrayLength"] = 1
        group.create_dataset(
            "DimensionKinds", data=np.array(["space"] * 3 + ["vector"], "S")
        )
        group.create_dataset("Transform", data=np.asarray(fixed_to_moving, np.float64))
    return memory.getvalue()


def decode(content: bytes) -> Chain:
    """The transforms of a file in world RAS+ mm, in the order of application.

    Raises:
        ValueError: there are none, or they cannot be read.
    """
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            if file.attrs.get("Format") == "X5":
                return [_decode_x5(file["TransformGroup"])]
            if "TransformGroup" in file:
                return itk.decode_hdf5(file["TransformGroup"])
    except ValueError:
        raise
    except Exception as error:  # h5py raises many types for a damaged file
        raise ValueError(f"damaged: {error}") from error
    raise ValueError("it is HDF5, but neither X5 nor ITK's")


def _decode_x5(group) -> np.ndarray:
    members = list(group.values())
    kinds = [member.attrs.get("Type") for member in members]
    if kinds != ["linear"]:
        raise ValueError("it is not X5 with one linear transform")
    matrix = np.asarray(members[0]["Transform"], np.float64)
    if matrix.shape != (4, 4):
        raise ValueError("its transform is not a 4×4 matrix")
    return matrix
