"""How synthetic scans are drawn: how often each effect occurs, and how strongly."""

from typing import NamedTuple


class Settings(NamedTuple):
    """How often (probabilities) and how strongly; static, so it can be hashed.

    Attributes:
        shape: voxels of the scan along x, y, z.
        voxel: their size in mm along x, y, z.
        oversample: samples in a voxel along x, y, z, of which it is the mean. As many
            as bring a sample near to the voxel size of the head.
        conformed: True: the scan is acquired at the resolution that is drawn and
            resampled to the grid of `shape` and `voxel`, as a network sees it. False:
            that grid is the one of the acquisition, as a file has it; the spacing that
            is drawn is not used.
        deformation: mm, the largest root mean square along an axis of the smooth
            deformation of a person; its length is drawn from 20 to 50 mm.
        mirror: probability of a person that is the mirror image.
        rotation: degrees about each axis, uniform in ± this.
        turn: probability of one of the 24 rotations that keep the axes.
        translation: mm along each axis, uniform in ± this.
        scale: factors exp(uniform in ± this), one for all axes and one for each.
        shear: uniform in ± this.
        contrasts: probability of each of `tissues.CONTRASTS`.
        jitter: standard deviation of a tissue's mean around that of its contrast.
        texture: largest standard deviation within a tissue, of the range of 1.
        invert: probability of the negative.
        gamma: means are raised to exp(uniform in ± this).
        scalp: what lies around the brain is exp(uniform from -half of this to this)
            times as bright, as coils and fat make it.
        bias: largest standard deviation of the logarithm of the bias field.
        noise: largest standard deviation of the noise, in parts of the brightest tissue
            within the skull.
        blur: largest standard deviation in mm of a Gaussian blur.
        thick_slices: probability of slices of up to 7 mm along one axis.
        coarse: probability of voxels of up to 3 mm along all axes.
        padded: probability of a field of view that ends near the head, zeros around.
        cut_neck, cut_top, slab: probability of a field that ends below the brain,
            within its upper part, or leaves a slab of it.
        stripped: probability of the brain alone.
        margin: mm, lowest and highest; how much wider than the brain it is stripped.
        ragged: mm, largest standard deviation of that margin along the surface.
        holes: probability of holes in a stripped brain.
        deface: probability of a whole head without its face.
        lesions: probability of each of three lesions or cavities.
        bits: probability of values in floating point, 16 and 8 bits.
    """

    shape: tuple[int, int, int] = (128, 128, 128)
    voxel: tuple[float, float, float] = (2.0, 2.0, 2.0)
    oversample: tuple[int, int, int] = (1, 1, 1)
    conformed: bool = True
    deformation: float = 3.0
    mirror: float = 0.5
    rotation: float = 20.0
    turn: float = 0.0
    translation: float = 15.0
    scale: float = 0.1
    shear: float = 0.05
    contrasts: tuple[float, ...] = (0.25, 0.15, 0.1, 0.1, 0.1, 0.05, 0.25)
    jitter: float = 0.04
    texture: float = 0.06
    invert: float = 0.1
    gamma: float = 0.4
    scalp: float = 0.7
    bias: float = 0.3
    noise: float = 0.08
    blur: float = 1.0
    thick_slices: float = 0.25
    coarse: float = 0.25
    padded: float = 0.4
    cut_neck: float = 0.4
    cut_top: float = 0.1
    slab: float = 0.05
    stripped: float = 0.5
    margin: tuple[float, float] = (-3.0, 8.0)
    ragged: float = 2.0
    holes: float = 0.1
    deface: float = 0.15
    lesions: float = 0.1
    bits: tuple[float, float, float] = (0.3, 0.4, 0.3)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance of the samples along x, y, z, mm."""
        return tuple(
            voxel / count
            for voxel, count in zip(self.voxel, self.oversample, strict=True)
        )


# The head as it lies in the label map, in a T1 contrast, on a perfect scanner.
PLAIN = Settings(
    deformation=0.0, mirror=0.0, rotation=0.0, translation=0.0, scale=0.0, shear=0.0,
    contrasts=(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), jitter=0.0, texture=0.0, invert=0.0,
    gamma=0.0, scalp=0.0, bias=0.0, noise=0.0, blur=0.0, thick_slices=0.0, coarse=0.0,
    padded=0.0, cut_neck=0.0, cut_top=0.0, slab=0.0, stripped=0.0, margin=(0.0, 0.0),
    ragged=0.0, holes=0.0, deface=0.0, lesions=0.0, bits=(1.0, 0.0, 0.0),
)  # fmt: skip
