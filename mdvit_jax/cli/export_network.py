"""`mdvit export`: a trained network as one file that JAX runs without this package."""

import argparse


def add_parser(subparsers) -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "export",
        help="write a trained network as a file that runs with jax and flatbuffers",
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
        help="folder that train.py wrote, of which the best checkpoint by validation "
        "DSC counts; pretrained or pretrained-keymorph, the networks of this package",
    )
    parser.add_argument(
        "--newest", action="store_true", help="the newest checkpoint, not the best"
    )
    parser.add_argument("--output", metavar="FILE", required=True, help="the new file")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an existing output"
    )
    parser.set_defaults(run=export_network)


def export_network(options: argparse.Namespace) -> int:
    """Run the command with its options; return its exit code."""
    from mdvit_jax.cli import option_values
    from mdvit_jax.io import atomic, output_paths

    output_paths.check_writable(options.output)
    output_paths.check_new(options.output, options.overwrite)
    from mdvit_jax.cli import startup
    from mdvit_jax.config import read_config
    from mdvit_jax.models import export
    from mdvit_jax.training import pretrained

    if pretrained.is_pretrained(options.checkpoint):
        reason = "means nothing with a network of this package"
        option_values.refuse(options, reason, "newest")
    startup.start()
    trained = pretrained.trained_network(options.checkpoint, newest=options.newest)
    size = trained.size
    if options.output.endswith(".safetensors"):
        from mdvit_jax.models import weights_file

        about = f"{trained.name}, {trained.origin}"
        if pretrained.is_pretrained(options.checkpoint):
            name = weights_file.PRETRAINED[options.checkpoint]
            saved = weights_file.pretrained_file(name).read_bytes()
            atomic.write_bytes(options.output, saved)
        else:
            config = read_config(options.checkpoint)
            with atomic.replacing(options.output) as beside:
                weights_file.save(beside, trained.params, config, about)
        print(f"{options.output}: {about}, for volumes of {size}³ voxels")
        return 0
    data = export.exported(trained.network, trained.params, size)
    atomic.write_bytes(options.output, data)
    print(
        f"{options.output}: {trained.name}, {trained.origin}, for volumes of {size}³ "
        f"voxels, {len(data) / 1e6:.1f} MB"
    )
    return 0
