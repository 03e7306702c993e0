"""Nipype interfaces of `mdvit register` and `mdvit apply`; needs the extra `nipype`.

Each runs the command in a process of its own, so that a workflow may run many at once
and the memory of one is free again when it ends. Options that are not inputs here go
into `args`, as with all of nipype's command lines.
"""

import json
import shlex
import sys
from typing import Any

from nipype.interfaces.base import (
    CommandLine,
    CommandLineInputSpec,
    File,
    InputMultiPath,
    TraitedSpec,
    traits,
)

from mdvit_jax.io.named_templates import NAMES
from mdvit_jax.registration import CONTRASTS, DOF
from mdvit_jax.transforms.resampling import INTERPOLATIONS

_PROGRAM = f"{shlex.quote(sys.executable)} -m mdvit_jax"


def _output(option: str, ending: str, desc: str) -> File:
    """A file that the command writes, called after the moving image."""
    return File(
        argstr=f"--{option} %s",
        name_source="moving",
        name_template=f"%s{ending}",
        keep_extension=False,
        desc=desc,
    )


class RegisterInputSpec(CommandLineInputSpec):
    """The options of `mdvit register`; outputs are called after the moving image."""

    fixed = traits.Either(
        File(exists=True),
        traits.Enum(*NAMES),
        argstr="--fixed %s",
        mandatory=True,
        desc="the image that stays, or the name of a template",
    )
    moving = File(
        exists=True,
        argstr="--moving %s",
        mandatory=True,
        desc="the image that is aligned to it",
    )
    fixed_mask = File(
        exists=True, argstr="--fixed-mask %s", desc="where the fixed image counts"
    )
    moving_mask = File(
        exists=True, argstr="--moving-mask %s", desc="where the moving image counts"
    )
    dof = traits.Enum(*DOF[::-1], argstr="--dof %s", desc="what may change")
    contrast = traits.Enum(*CONTRASTS, argstr="--contrast %s")
    start = traits.Either(
        traits.Enum("com", "identity", "network"),
        File(exists=True),
        argstr="--start %s",
        desc="com, identity, network, or a transform file",
    )
    interpolation = traits.Enum(*INTERPOLATIONS, argstr="--interpolation %s")
    output = _output(
        "output", "_warped.nii.gz", "the moving image on the fixed image's grid"
    )
    transform = _output(
        "transform", ".tfm", "fixed to moving; its ending says the format"
    )
    inverse = _output("inverse", "_inverse.tfm", "moving to fixed, likewise")
    report = _output(
        "report", ".json", "matrix, measures, verdict, versions, checksums"
    )
    overwrite = traits.Bool(
        True,
        usedefault=True,
        argstr="--overwrite",
        desc="replace outputs, as where a node runs again",
    )


class RegisterOutputSpec(TraitedSpec):
    """Files, the verdict, and the matrix."""

    output = File(exists=True, desc="the moving image on the fixed image's grid")
    transform = File(exists=True, desc="fixed to moving")
    inverse = File(exists=True, desc="moving to fixed")
    report = File(exists=True, desc="matrix, measures, verdict, versions, checksums")
    status = traits.Enum("ok", "check", "failed", desc="the verdict")
    matrix = traits.List(
        traits.List(traits.Float), desc="4x4 fixed to moving, world RAS+ mm"
    )


class Register(CommandLine):
    """Align two images of any contrast and orientation.

    The node fails where the verdict is "failed", so that nothing goes on with it;
    `status` is "ok" or "check".

    >>> from mdvit_jax.interfaces.nipype import Register
    >>> result = Register(fixed="mni152", moving="T1.nii.gz").run()
    >>> result.outputs.status
    'ok'
    """

    _cmd = f"{_PROGRAM} register"
    input_spec = RegisterInputSpec
    output_spec = RegisterOutputSpec

    def _list_outputs(self) -> dict[str, Any]:
        outputs = super()._list_outputs()
        with open(outputs["report"], encoding="utf-8") as file:
            report = json.load(file)
        outputs["status"] = report["quality"]["status"]
        outputs["matrix"] = report["matrix"]
        return outputs


class ApplyInputSpec(CommandLineInputSpec):
    """The options of `mdvit apply`."""

    moving = File(exists=True, argstr="--moving %s", mandatory=True)
    reference = traits.Either(
        File(exists=True), traits.Enum(*NAMES), argstr="--reference %s", mandatory=True
    )
    transforms = InputMultiPath(
        File(exists=True),
        argstr="--transform %s",
        mandatory=True,
        desc="reference to moving; of several, the first is that of the reference",
    )
    invert = traits.Bool(argstr="--invert", desc="apply the inverse of them all")
    labels = traits.Bool(argstr="--labels", desc="the image is a label map")
    interpolation = traits.Enum(*INTERPOLATIONS, argstr="--interpolation %s")
    output = _output(
        "output", "_warped.nii.gz", "the moving image on the reference's grid"
    )
    overwrite = traits.Bool(True, usedefault=True, argstr="--overwrite")


class ApplyOutputSpec(TraitedSpec):
    """The image."""

    output = File(exists=True, desc="the moving image on the reference's grid")


class Apply(CommandLine):
    """Bring an image or a label map onto the grid of another through transforms."""

    _cmd = f"{_PROGRAM} apply"
    input_spec = ApplyInputSpec
    output_spec = ApplyOutputSpec
