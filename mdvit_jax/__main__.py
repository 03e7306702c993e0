"""`python -m mdvit_jax COMMAND`, also installed as `mdvit`."""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mdvit_jax import __version__, configuration, errors


@errors.told_in_a_sentence
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="mdvit",
        description="Affine brain-MRI registration with MDViT and the 3D Normalized "
        "Total Gradient. Training and evaluation are train.py and eval.py.",
        epilog="Help on a command: mdvit COMMAND --help",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", choices=list(_COMMANDS), help=_HELP)
    command = parser.parse_args(words[:1]).command
    return _COMMANDS[command](words[1:])


def _prepare(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="mdvit prepare",
        description="Conform every scan of a cohort once, in parallel, into the folder "
        "data.cache of the configuration, from which training reads them at once. "
        "Interrupted, it goes on where it was. A scan that cannot be read is named, "
        "left out and counted; the exit code is then 1.",
    )
    _, config = configuration.parse(parser, arguments)
    from mdvit_jax import runtime
    from mdvit_jax.data import prepare

    runtime.start()
    return 1 if prepare.prepare(config) else 0


def _convert(arguments: Sequence[str]) -> int:
    from mdvit_jax.registration import convert

    return convert.main(arguments)


def _apply(arguments: Sequence[str]) -> int:
    from mdvit_jax.registration import apply

    return apply.main(arguments)


def _register(arguments: Sequence[str]) -> int:
    from mdvit_jax.registration import arguments as register_arguments

    options = register_arguments.parse(arguments)
    from mdvit_jax import runtime
    from mdvit_jax.registration import command

    runtime.start()
    level = logging.DEBUG if options.verbose else logging.INFO
    logging.getLogger("mdvit_jax").setLevel(logging.WARNING if options.quiet else level)
    return command.run(options, arguments, _network)


def _network(*arguments):
    # Imported here: flax and orbax take seconds, and only --checkpoint needs them.
    from mdvit_jax.training import estimate

    return estimate.estimate(*arguments)


def _batch(arguments: Sequence[str]) -> int:
    from mdvit_jax.registration import batch

    options = batch.parse(arguments)
    from mdvit_jax import runtime

    runtime.start()
    return batch.main(options)


def _ablation(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="mdvit ablation",
        description="Train C2FViT with NCC, C2FViT with NTG and MDViT with NTG, "
        "fine-tune the last one, and evaluate all four (paper, Table 2) beside the "
        "classical methods. --config is that of fine-tuning and evaluation. "
        "Interrupted, it goes on where it was.",
    )
    parser.add_argument(
        "--pretraining",
        metavar="FILE",
        required=True,
        help="the configuration of pre-training, such as configs/adni.py",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="for the runs and their evaluation; default: the folder of the "
        "configuration's workdir, and in it one for the task",
    )
    options, config = configuration.parse(parser, arguments)
    pretraining = configuration.load(options.pretraining)
    from mdvit_jax import runtime, streams
    from mdvit_jax.studies import chain

    streams.outlast()
    runtime.start()
    output = options.output or Path(config.workdir).parent / config.data.task
    command = shlex.join(["mdvit", "ablation", *arguments])
    return chain.run(config, pretraining, output, command=command)


def _export(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="mdvit export",
        description="Write a trained network into one file that JAX (with flatbuffers) "
        "runs on CPUs, GPUs (CUDA) and TPUs, without this package: "
        "jax.export.deserialize(open(FILE, 'rb').read()).call(fixed, moving) gives the "
        "4x4 matrix, fixed to moving, in coordinates in which a volume spans [-1, 1]. "
        "Volumes are float32 [1, n, n, n] in [0, 1], conformed as for training (RAS+). "
        "A FILE that ends in .safetensors gets the weights alone, in float16.",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="RUN",
        required=True,
        help="folder that train.py wrote; the best checkpoint by validation DSC counts",
    )
    parser.add_argument(
        "--newest", action="store_true", help="the newest checkpoint, not the best"
    )
    parser.add_argument("--output", metavar="FILE", required=True, help="is written")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an output that is there"
    )
    options = parser.parse_args(arguments)
    from mdvit_jax import atomic, runtime
    from mdvit_jax.models import export
    from mdvit_jax.registration import images
    from mdvit_jax.training import start

    images.check_place(options.output)
    images.check_new(options.output, options.overwrite)
    runtime.start()
    config = configuration.saved(options.checkpoint)
    size = config.data.size
    trained = start.trained_network(options.checkpoint, newest=options.newest)
    if options.output.endswith(".safetensors"):
        from mdvit_jax.models import weights_file

        about = f"{trained.name}, {trained.origin}"
        with atomic.replacing(options.output) as beside:
            weights_file.save(beside, trained.params, config, about)
        print(f"{options.output}: {about}, for volumes of {size}³ voxels")
        return 0
    data = export.exported(trained.network, trained.params, size)
    with atomic.replacing(options.output) as beside:
        beside.write_bytes(data)
    print(
        f"{options.output}: {trained.name}, {trained.origin}, for volumes of {size}³ "
        f"voxels, {len(data) / 1e6:.1f} MB"
    )
    return 0


_COMMANDS = {
    "register": _register,
    "batch": _batch,
    "apply": _apply,
    "convert": _convert,
    "prepare": _prepare,
    "ablation": _ablation,
    "export": _export,
}
_HELP = (
    "register: align two images of any contrast and orientation; "
    "batch: all pairs of a CSV file; "
    "apply: an image, a series or a label map through affine transforms; "
    "convert: an affine transform from one program's file into another's; "
    "prepare: conform a cohort once into a cache that training reads; "
    "ablation: train and evaluate the four networks of the paper's Table 2; "
    "export: a trained network as a file that runs with jax and flatbuffers alone"
)


if __name__ == "__main__":
    sys.exit(main())
