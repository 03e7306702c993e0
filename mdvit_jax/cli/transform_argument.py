"""A transform as a word of the command line: FILE[:invert][:format=F][:fixed=IMAGE]…"""

import re
from typing import NamedTuple

from mdvit_jax import errors
from mdvit_jax.cli.option_values import FORMATS

_OPTION = re.compile(r":(?=invert(?::|$)|[a-z]+=)")


class TransformArgument(NamedTuple):
    """A transform file, and what its content does not say.

    Attributes:
        file: its path.
        invert: whether its inverse is meant.
        format: of a file of 4×4 numbers, "fsl" or "text"; None: by its ending.
        fixed, moving: images between which an FSL matrix stands.
    """

    file: str
    invert: bool = False
    format: str | None = None
    fixed: str | None = None
    moving: str | None = None


def parse(word: str) -> TransformArgument:
    """Parse a word of the command line.

    Raises:
        UserError: an option or its value is not known.
    """
    file, *options = _OPTION.split(word)
    values: dict = {}
    for option in options:
        name, _, value = option.partition("=")
        if name == "invert":
            values["invert"] = True
        elif name == "format" and value not in FORMATS:
            raise errors.UserError(
                f'{word}: "{value}" is not a format; choose {", ".join(FORMATS)}.'
            )
        elif name in ("format", "fixed", "moving") and value:
            values[name] = value
        else:
            raise errors.UserError(
                f"{word}: {option} is not an option of a transform; write invert, "
                "format=FORMAT, fixed=IMAGE or moving=IMAGE."
            )
    return TransformArgument(file, **values)
