"""What options may be, without the modules that compute with them.

The help of a command is printed before anything heavy is imported.
"""

import argparse

from mdvit_jax import errors

FORMATS = ("itk", "fsl", "lta", "x5", "text")  # `transforms.FORMATS`
# `transforms.resampling.INTERPOLATIONS`
INTERPOLATIONS = ("linear", "nearest", "cubic", "lanczos")


def fill_value(word: str) -> float | str:
    """The value of --fill: "auto" or a number.

    Raises:
        UserError: the word is neither.
    """
    try:
        return word if word == "auto" else float(word)
    except ValueError as error:
        raise errors.UserError(
            f'--fill is "{word}"; write auto or a number, such as --fill=-1024.'
        ) from error


def positive_number(word: str) -> int:
    """The value of an option that counts something, from 1.

    Raises:
        UserError: the word is not such a number.
    """
    if not word.isdecimal() or int(word) < 1:
        raise errors.UserError(f'"{word}" is not a whole number from 1; write one.')
    return int(word)


def refuse(options: argparse.Namespace, reason: str, *names: str) -> None:
    """Refuse options that do nothing beside others.

    Args:
        options: of the command line.
        reason: what follows the option in the sentence, such as "needs --bids".
        names: of the options in the namespace.

    Raises:
        UserError: one of them is given.
    """
    for name in names:
        if getattr(options, name):
            flag = "--" + name.replace("_", "-")
            raise errors.UserError(f"{flag} {reason}; leave it out.")
