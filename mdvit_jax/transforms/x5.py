"""X5, the HDF5 file of nitransforms: fixed → moving, world RAS+ mm."""

import io

import numpy as np

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_hdf5(content: bytes) -> bool:
    """Whether this is an HDF5 file."""
    return content.startswith(_SIGNATURE)


def encode(fixed_to_moving: np.ndarray) -> bytes:
    """The bytes of a file that holds one linear transform."""
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


def decode(content: bytes) -> np.ndarray:
    """The linear transform of a file; ValueError if there is none, or more than one."""
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            file_format = file.attrs.get("Format")
            groups = list(file["TransformGroup"].values())
            kinds = [group.attrs.get("Type") for group in groups]
            matrix = np.asarray(groups[0]["Transform"], np.float64)
    except Exception as error:  # h5py raises whatever comes up in a damaged file
        raise ValueError(f"damaged, or not X5: {error}") from error
    if file_format != "X5" or kinds != ["linear"] or matrix.shape != (4, 4):
        raise ValueError("not X5 with one linear transform")
    return matrix
