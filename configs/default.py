"""Every hyper-parameter, with its source; the other configurations change a few of them.

"paper" is Luo et al., "Normalized Total Gradient for Contrast-Robust 3D Medical
Image Registration" (the section follows); "program" is what the authors' own
program does where the paper is silent; "ours" is a choice of this project.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """MDViT with NTG at 128³, reference-based; `data.root` is still to be named."""
    config = ml_collections.ConfigDict()
    config.seed = (
        0  # ours: draws the split, the pairs, the weights and the augmentation
    )
    config.workdir = (
        "runs/default"  # ours: checkpoints, metrics, pictures, the configuration
    )

    data = config.data = ml_collections.ConfigDict()
    # Where the scans are: freesurfer | neurite_oasis | lpba40 | bids | folder | csv | synthetic
    data.layout = "folder"
    data.root = ""  # the folder (csv: the manifest file; synthetic: not needed)
    # Layout `folder` only: the images' glob, and the file names of labels and mask, in
    # which {subject} stands for what the * of the glob matched. Empty: there are none.
    data.image = "*.nii.gz"
    data.labels = ""
    data.mask = ""
    # Which table of regions the label values follow (evaluation/regions.py); empty: none.
    data.label_scheme = ""
    # Scans of one person are never split. A regular expression whose first group names
    # the person within the subject's name (empty: the layout's own rule), and lists of
    # subjects that are known to be one person.
    data.person = ""
    data.same_person = ()
    # Scans for training, validation and test: counts, or fractions that sum to at most 1.
    # Or a regular expression for each, which names of its people match.
    data.split = (0.8, 0.1, 0.1)
    data.field_of_view = (
        256.0  # paper 3.1: 256³ voxels of 1 mm, so 256 mm along each axis
    )
    data.size = 128  # paper 3.1: reduced to 128³
    data.task = "reference"  # paper 3.1: "template" (MNI152 is fixed) or "reference" (two people)
    data.template = (
        "mni152"  # program: MNI152; or the path of a skull-stripped NIfTI file
    )
    data.cache = (
        ""  # ours: the folder that `python -m mdvit_jax prepare` wrote; empty: none
    )
    data.workers = (
        2  # ours: Grain worker processes that load pairs; 0 loads in the main one
    )
    # ours: keep the scans for training in memory once they are read, in each worker.
    data.in_memory = False
    # ours: train without the scans that cannot be read, each named and counted in the log;
    # False: the first one ends the run. Scans to validate with must be read in any case.
    data.skip_unreadable = False

    synthetic = data.synthetic = (
        ml_collections.ConfigDict()
    )  # ours: layout `synthetic` only
    synthetic.people = 40
    synthetic.rotation = 15.0  # degrees about each axis, uniform in ±
    synthetic.translation = 10.0  # mm along each axis, uniform in ±
    synthetic.relative_size = 0.9  # people over MNI152, which is larger than most
    synthetic.scale = 0.15  # size · uniform in 1 ± scale along each axis
    synthetic.shear = 0.05  # uniform in ±
    synthetic.deformation = 2.0  # mm, standard deviation of the smooth deformation
    synthetic.gamma = 0.3  # gamma is exp(uniform in ± this)
    synthetic.bias = 0.2  # amplitude of the smooth multiplicative field
    synthetic.noise = 0.01  # standard deviation, in units of the brightest tissue

    model = config.model = ml_collections.ConfigDict()
    model.name = "mdvit"  # or "keymorph", another row of the paper's Table 1
    model.dilated_form = (
        "channels"  # paper 2: "channels"; the program's: "tokens"; C2FViT: "none"
    )
    model.embedding = 256  # program
    model.heads = 2  # program
    model.mlp_ratio = 2  # program
    model.depth = 4  # program: transformer blocks in each stage
    model.patches = (
        3,
        7,
        15,
    )  # program: kernel of the patch embedding, coarse stage first
    model.strides = (2, 4, 8)  # program: so that every stage has the same tokens
    model.dilations = (1, 2, 3)  # paper 2: receptive fields of 3, 5 and 7
    # program: "paper"; ours: "moments", which sees where in the volume a feature is.
    model.head = "paper"
    # program: "paper", deviation 0.02; ours: "fan_in", 1/√inputs (models/initial_weights.py).
    model.linear_weights = "paper"
    model.dropout = 0.0  # paper 3.1: no dropout
    model.compute_dtype = (
        "float32"  # ours: "bfloat16" for the factors of matrix products
    )
    model.remat = (
        False  # ours: recompute each block in the backward pass, to save memory
    )
    # Imported PyTorch weights think in its coordinates: corner-aligned, x along the last axis.
    model.torch_coordinates = False

    # KeyMorph alone: convolutions, a pooling after every second one (its paper, at 128³:
    # 32, 64, 64, 128, 128, 256, 256, 512), and keypoints (its paper: 64 to 512).
    model.channels = (32, 64, 64, 128)
    model.keypoints = 128

    loss = config.loss = ml_collections.ConfigDict()
    loss.name = "ntg"  # paper Eq. 2; or "ncc", its baseline
    loss.levels = 3  # paper Eq. 3
    loss.stride = 4  # program: Δ along each derivative's own axis (ntg)
    loss.pool = 5  # program: kernel of the pooling between levels (ncc: 3)
    loss.windows = (7, 5, 3)  # program: windows of the levels, fine first (ncc)
    # ours: weight of the distance in mm from where a point belongs, for pairs whose affine
    # is known (augment.same), beside the loss above; 0: off.
    loss.known = 0.0
    # ours: weight of the mean loss of the stages before the last; 0: the last one alone.
    loss.deep = 0.0

    optim = config.optim = ml_collections.ConfigDict()
    optim.steps = 250_000  # paper 3.1: reference-based; 150,000 template-based; 30,000 fine-tuning
    optim.batch = 1  # program: pairs in one step, over all devices
    optim.accumulate = 1  # ours: micro-steps that share a batch, to save memory; the result is the same
    optim.lr = 1e-4  # ours for pre-training; paper 3.1: 1e-5 for fine-tuning
    optim.decay_factor = 0.8  # program: StepLR
    optim.decay_every = (
        500 * 3453
    )  # program: 500 epochs, in steps (3453 pairs an epoch)
    # program: "staircase", by the two values above; ours: "cosine", to 0 at optim.steps.
    optim.schedule = "staircase"
    # ours: steps at the end over which a cosine falls, after a constant rate; 0: all steps.
    # A run whose length was not known may be given its end when it is resumed.
    optim.cooldown = 0
    # ours: steps over which the learning rate rises from 0; 0: it starts at once.
    optim.warmup = 0
    optim.weight_decay = (
        1e-3  # paper 3.1: coupled L2, added to the gradient as in the program
    )
    optim.clip = 10.0  # paper 3.1: gradients clipped by value
    # ours: the norm of the gradient of all parameters together is clipped at this,
    # before it is clipped by value; 0: it is not.
    optim.clip_norm = 0.0
    optim.betas = (0.9, 0.999)  # program: Adam with AMSGrad
    optim.epsilon = 1e-8  # program
    # Only parameters whose path holds one of these patterns are trained; () trains all.
    optim.trained = ()
    optim.start_from = (
        ""  # fine-tuning: the run folder whose best checkpoint is the start
    )

    mesh = config.mesh = ml_collections.ConfigDict()
    # ours: devices that share the largest weights of model.dilated_form "tokens"; the pairs
    # of a batch are shared out over the groups of so many devices. 1: each has all weights.
    mesh.model = 1

    augment = config.augment = ml_collections.ConfigDict()
    augment.flip = 0.5  # paper 3.1: probability of a flip of both along one random axis
    augment.rotate = 0.5  # paper 3.1: probability of a rotation of both about x
    augment.degrees = 30.0  # paper 3.1: the angle is uniform in ±30°
    augment.gamma = (
        0.0  # ours: the moving image's gamma is exp(uniform in ± this); 0: off
    )

    # ours: probability that the moving scan of a pair is the fixed scan itself. With
    # augment.affine the affine between the two is known then (loss.known).
    augment.same = 0.0
    # ours: probability that a scan is mirrored, left for right; each for itself, both
    # alike where they are one.
    augment.mirror = 0.0
    # ours: standard deviation, in mm, of a smooth deformation of the moving scan.
    augment.deform = 0.0
    # ours: probability that a scan gets other intensities, dark for bright and so on;
    # each for itself, and for the network alone: the loss is of the scans as they were.
    augment.contrast = 0.0
    affine = augment.affine = ml_collections.ConfigDict()
    # ours: scans that get a random affine of their own: "none", "moving", "both".
    affine.which = "none"
    # ours: rotation about a random axis, uniform in ± one of these degrees, which are
    # equally likely; 180 is any rotation.
    affine.degrees = (30.0,)
    affine.scale = 1.2  # ours: along each axis, between 1 / this and this
    affine.shear = 0.1  # ours: uniform in ±
    affine.shift = 15.0  # ours: mm along each axis, uniform in ±

    synthesis = config.synthesis = ml_collections.ConfigDict()
    # ours: the folder of the label maps of whole heads that synthetic scans are made of, or
    # the file that launch/small_copy.py made of it, or "mni152" for the one of nilearn.
    synthesis.heads = "mni152"
    synthesis.held_out = 0  # ours: the last so many maps, by name, are not for training
    # ours: synthetic pairs beside each pair of a batch, made on the devices and learned in
    # both directions; 0: none.
    synthesis.pairs = 0
    synthesis.voxel = 3.0  # ours: mm, of the label maps on the devices
    synthesis.oversample = 2  # ours: samples of the maps along each axis of a voxel
    # ours: probability of two scans of one map, and of those, of one person.
    synthesis.same_head = 0.7
    synthesis.same_person = 0.5
    # ours: rotation of a scan about each axis, uniform in ± one of these degrees, which are
    # equally likely.
    synthesis.degrees = (15.0, 45.0)
    synthesis.turn = 0.1  # ours: probability of another order or direction of the axes
    synthesis.translation = 25.0  # ours: mm along each axis, uniform in ±
    synthesis.scale = (
        0.1  # ours: factors exp(uniform in ±), one for all axes, one for each
    )
    # ours: mm by which the affine between landmarks of two maps may be off (loss.known).
    synthesis.slack = 4.0

    validation = config.validation = ml_collections.ConfigDict()
    validation.every = 1000  # ours, in steps
    # ours: known affines (±20°, a fifth larger or smaller, 15 mm) of each of these scans,
    # aligned with itself: the error in mm beside the DSC; 0: none.
    validation.known = 0
    validation.cases = 0  # ours: how many validation pairs; 0: all

    # ours: seconds without progress after which the log says what is waited for.
    config.stall_after = 600.0

    checkpoint = config.checkpoint = ml_collections.ConfigDict()
    checkpoint.every = 500  # ours, in steps
    checkpoint.keep = (
        2  # ours: the newest ones; the best by validation DSC is kept besides
    )

    evaluation = config.evaluation = ml_collections.ConfigDict()
    evaluation.split = "test"
    evaluation.hausdorff_unit = (
        "mm"  # the program prints "voxels" of the conformed grid
    )
    evaluation.mask_threshold = 0.5  # of the linearly warped mask; the program uses > 0
    evaluation.pictures = 4  # how many cases get an overlay
    return config


def finetuning(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Change a configuration to the paper's fine-tuning (3.1); return it."""
    optim = config.optim
    optim.steps = 30_000  # paper 3.1
    optim.lr = 1e-5  # paper 3.1
    # paper 3.1: convolutional patch embeddings, multi-scale dilated layers, the layer that
    # predicts the affine. The program trains all but attention:
    # ("patch_embedding", "msda", "head", "mlp", "squeeze").
    optim.trained = ("patch_embedding", "msda", "head")
    return config


def small(config: ml_collections.ConfigDict, *, size: int) -> ml_collections.ConfigDict:
    """Change a configuration to what two CPU cores train in minutes or hours."""
    config.data.size = size
    config.data.workers = 0  # a cached pair of such a size is read in milliseconds
    config.model.embedding = 96
    config.model.depth = 1
    config.loss.stride = 1
    # With the paper's augmentation a network sees hardly one pair twice in so few steps,
    # and stays where it starts.
    config.augment.flip = 0.0
    config.augment.rotate = 0.0
    config.validation.every = 500
    config.checkpoint.every = 500
    return config
