"""The outputs of `mdvit register`: checked beforehand, and written all or none."""

import argparse
import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mdvit_jax import errors, transforms
from mdvit_jax.io import atomic, output_paths

_log = logging.getLogger(__name__)


def list_inputs(options: argparse.Namespace) -> dict[str, str]:
    """The input files, by the option that names them."""
    result = {
        "--fixed": options.fixed,
        "--moving": options.moving,
        "--fixed-mask": options.fixed_mask,
        "--moving-mask": options.moving_mask,
        "--start": options.start if Path(options.start).is_file() else None,
    }
    for flag, pairs in _additional_images(options):
        result |= {f"{flag} {i + 1}": pair[0] for i, pair in enumerate(pairs)}
    return {flag: path for flag, path in result.items() if path}


def list_outputs(options: argparse.Namespace) -> dict[str, str]:
    """The output files, by the option that names them."""
    result = {
        "--output": options.output,
        "--transform": options.transform,
        "--inverse": options.inverse,
        "--header-only": options.header_only,
    }
    for flag, pairs in _additional_images(options):
        result |= {f"{flag} {i + 1}": pair[1] for i, pair in enumerate(pairs)}
    result |= {"--qc": options.qc, "--report": options.report}
    return {flag: path for flag, path in result.items() if path}


def check(options: argparse.Namespace) -> None:
    """Check before computing that all outputs can be written.

    Raises:
        UserError: there is none, an ending or a folder is wrong, an output is also
            read, is named twice, or is there already.
    """
    outputs, inputs = list_outputs(options), list_inputs(options)
    if not outputs:
        raise errors.UserError(
            "there is nothing to write; name an output, such as --output or "
            "--transform (see --help)."
        )
    for flag, path in outputs.items():
        if flag in ("--transform", "--inverse"):
            if not options.transform_format:
                _check_format(path)
        elif flag == "--header-only":
            _check_ending(flag, path, (".nii.gz", ".nii"))
        elif flag == "--qc":
            _check_ending(flag, path, (".png", ".html"))
        elif flag == "--report":
            _check_ending(flag, path, (".json",))
        else:
            output_paths.image_ending(path)
        output_paths.check_writable(path)
        output_paths.check_not_input(path, inputs.values())
        output_paths.check_new(path, options.overwrite)
    for (flag, path), (other_flag, other) in itertools.combinations(outputs.items(), 2):
        if output_paths.same_file(path, other):
            raise errors.UserError(
                f"{flag} and {other_flag} both name {path}; name two files."
            )


def write_all(writers: Mapping[str, Callable[[Path], object]]) -> None:
    """Write all files or none: each beside its place, then all into place.

    Raises:
        UserError: one of them cannot be written.
    """
    try:
        with contextlib.ExitStack() as stack:
            for path, write in writers.items():
                beside = stack.enter_context(atomic.replacing(path))
                _log.debug("Writing %s.", path)
                try:
                    write(beside)
                except errors.UserError as error:
                    sentence = str(error).replace(str(beside), path)
                    raise errors.UserError(sentence) from error
    except OSError as error:
        raise errors.UserError(
            f"the outputs cannot be written ({error.strerror}: {error.filename}); name "
            "another place."
        ) from error


def _additional_images(options) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    yield "--also", options.also
    yield "--also-labels", options.also_labels


def _check_format(path: str) -> None:
    if path.lower().endswith(".mat"):
        raise errors.UserError(
            f"{path}: both ITK and FSL have files .mat; add --transform-format itk or "
            "fsl."
        )
    transforms.format_of_ending(path)


def _check_ending(flag: str, path: str, endings: tuple[str, ...]) -> None:
    if not path.lower().endswith(endings):
        raise errors.UserError(
            f"{flag} {path} does not end in {' or '.join(endings)}; name a file that "
            "does."
        )
