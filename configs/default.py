"""Every hyper-parameter, with its source; other configurations change a few of them.

"paper" is Luo et al., "Normalized Total Gradient for Contrast-Robust 3D Medical
Image Registration" (the section follows); "program" is what the authors' own
program does where the paper is silent; "ours" is a choice of this project.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """MDViT with NTG at 128³, reference-based; `data.root` is still to be named."""
    config = ml_collections.ConfigDict()
    # ours: draws the split, the pairs, the weights and the augmentation.
    config.seed = 0
    # ours: the folder of checkpoints, metrics, pictures and the configuration.
    config.workdir = "runs/default"

    data = config.data = ml_collections.ConfigDict()
    # ours: freesurfer, neurite_oasis, lpba40, bids, folder, csv or synthetic.
    data.layout = "folder"
    # ours: the folder of the scans; for csv the manifest file, for synthetic nothing.
    data.root = ""
    # ours, layout `folder` only: the glob of the images, and the file names of labels
    # and mask, in which {subject} is what the * of the glob matched; empty: none.
    data.image = "*.nii.gz"
    data.labels = ""
    data.mask = ""
    # ours: the table of regions that the label values follow (evaluation/regions.py);
    # empty: none.
    data.label_scheme = ""
    # ours: scans of one person are never split. A regular expression whose first group
    # names the person within the subject's name (empty: the layout's own rule), and
    # lists of subjects that are known to be one person.
    data.person = ""
    data.same_person = ()
    # ours: scans for training, validation and test, as counts or as fractions that sum
    # to at most 1; or a regular expression for each, which names of people match.
    data.split = (0.8, 0.1, 0.1)
    # paper 3.1: 256³ voxels of 1 mm, so 256 mm along each axis.
    data.field_of_view = 256.0
    # paper 3.1: reduced to 128³.
    data.size = 128
    # paper 3.1: "template" (MNI152 is fixed) or "reference" (two people).
    data.task = "reference"
    # program: MNI152; or the path of a skull-stripped NIfTI file.
    data.template = "mni152"
    # ours: the folder that `mdvit prepare` wrote; empty: none.
    data.cache = ""
    # ours: worker processes that load pairs; 0 loads in the main one.
    data.workers = 2
    # ours: keep the scans for training in memory once they are read, in each worker.
    data.in_memory = False
    # ours: train without the scans that cannot be read, each named and counted in the
    # log; False: the first one ends the run. Scans for validation must be readable.
    data.skip_unreadable = False

    # ours, layout `synthetic` only: people made from MNI152.
    synthetic = data.synthetic = ml_collections.ConfigDict()
    synthetic.people = 40
    # Degrees about each axis, uniform in ±.
    synthetic.rotation = 15.0
    # mm along each axis, uniform in ±.
    synthetic.translation = 10.0
    # The mean size of the people over that of MNI152, which is larger than most.
    synthetic.relative_size = 0.9
    # Along each axis the size varies by a factor that is uniform in 1 ± this.
    synthetic.scale = 0.15
    # Uniform in ±.
    synthetic.shear = 0.05
    # mm, standard deviation of the smooth deformation.
    synthetic.deformation = 2.0
    # The gamma is exp(uniform in ±).
    synthetic.gamma = 0.3
    # Amplitude of the smooth multiplicative field.
    synthetic.bias = 0.2
    # Standard deviation, in units of the brightest tissue.
    synthetic.noise = 0.01

    model = config.model = ml_collections.ConfigDict()
    # paper 3.2: "mdvit", or another row of its Table 1: "dlir", "pasta", "keymorph".
    model.name = "mdvit"
    # paper 2: dilated convolutions of the "channels"; program: of the "tokens";
    # "none" is C2FViT.
    model.dilated_form = "channels"
    # program
    model.embedding = 256
    model.heads = 2
    model.mlp_ratio = 2
    # program: transformer blocks in each stage.
    model.depth = 4
    # program: kernel and stride of the patch embedding, coarse stage first, such that
    # every stage has the same number of tokens.
    model.patches = (3, 7, 15)
    model.strides = (2, 4, 8)
    # paper 2: receptive fields of 3, 5 and 7.
    model.dilations = (1, 2, 3)
    # program: "paper"; ours: "moments", which sees where in the volume a feature is.
    model.head = "paper"
    # program: "paper", deviation 0.02; ours: "fan_in", 1/√inputs
    # (models/initial_weights.py).
    model.linear_weights = "paper"
    # paper: 1; ours: how often the network is asked about a pair, each further time
    # starting from its last answer, in training as in use.
    model.passes = 1
    # paper 3.1: no dropout.
    model.dropout = 0.0
    # ours: of the factors of matrix products, "float32" or "bfloat16"; "auto" is bfloat16
    # on TPUs and GPUs that multiply it, float32 elsewhere.
    model.compute_dtype = "auto"
    # ours: compute each block again in the backward pass, to save memory.
    model.remat = False
    # ours: for imported PyTorch weights, which work in PyTorch's coordinates:
    # corner-aligned, x along the last axis.
    model.torch_coordinates = False
    # DLIR, PASTA, KeyMorph alone, ours: channels. In KeyMorph of each convolution, with
    # a pooling after every second one (its paper, at 128³: 32, 64, 64, 128, 128, 256,
    # 256, 512); in the others of each block, with a pooling (64, 32, 32, 32, 16, 16).
    model.channels = (32, 64, 64, 128)
    # KeyMorph alone: keypoints (its paper: 64 to 512).
    model.keypoints = 128
    # KeyMorph alone: stride of its first convolution. Its paper: 1; ours: 2 spares it
    # the full volume, on which a narrow one spends most of its time.
    model.first_stride = 1
    # KeyMorph alone: "relu" (its paper) or "softplus" (ours), which leaves no keypoint
    # silent; with the other up to two thirds of them fell silent.
    model.heat_maps = "relu"
    # PASTA alone: the range ± of translations (a part of the volume), of rotations
    # (degrees), of shears and of scales; its program: 0.2, 20, 0.05, 0.05.
    model.ranges = (0.2, 20.0, 0.05, 0.05)

    loss = config.loss = ml_collections.ConfigDict()
    # paper Eq. 2; or "ncc", its baseline.
    loss.name = "ntg"
    # paper Eq. 3
    loss.levels = 3
    # program, ntg only: every so many voxels along each derivative's own axis.
    loss.stride = 4
    # program: kernel of the pooling between levels (ncc: 3).
    loss.pool = 5
    # program, ncc only: windows of the levels, fine first.
    loss.windows = (7, 5, 3)
    # ours: weight of the distance in mm from where a point belongs, for pairs whose
    # affine is known (augment.same, synthesis), beside the loss above; 0: off.
    loss.known = 0.0
    # ours: take the affine between two people for known, too, by what `register` finds
    # for each of them and MNI152 (training/template_affines.py).
    loss.people = False
    # ours: weight of the mean loss of the stages before the last; 0: the last alone.
    loss.deep = 0.0

    optim = config.optim = ml_collections.ConfigDict()
    # paper 3.1: reference-based; 150,000 template-based; 30,000 fine-tuning.
    optim.steps = 250_000
    # program: pairs in one step, over all devices.
    optim.batch = 1
    # ours: parts in which a batch is computed, to save memory; the result is the same.
    optim.accumulate = 1
    # ours for pre-training; paper 3.1: 1e-5 for fine-tuning.
    optim.lr = 1e-4
    # program: the rate is multiplied by this factor every 500 epochs of 3453 pairs.
    optim.decay_factor = 0.8
    optim.decay_every = 500 * 3453
    # program: "staircase", by the two values above; ours: "cosine", to 0 at optim.steps.
    optim.schedule = "staircase"
    # ours: steps at the end over which a cosine falls, after a constant rate; 0: all.
    # A run whose length was not known may get its end when it is resumed.
    optim.cooldown = 0
    # ours: steps over which the learning rate rises from 0; 0: it starts at once.
    optim.warmup = 0
    # paper 3.1: coupled L2, added to the gradient as in the program.
    optim.weight_decay = 1e-3
    # paper 3.1: gradients are clipped by value.
    optim.clip = 10.0
    # ours: the norm of the gradient of all parameters together is clipped at this,
    # before it is clipped by value; 0: it is not.
    optim.clip_norm = 0.0
    # program: Adam with AMSGrad.
    optim.betas = (0.9, 0.999)
    optim.epsilon = 1e-8
    # ours: only parameters whose path holds one of these patterns are trained; (): all.
    optim.trained = ()
    # paper 3.1, fine-tuning: the run's folder whose best checkpoint is the start; or
    # "pretrained" or "pretrained-keymorph", the networks of this package, whose model
    # is configs/anything.py's or configs/anything_keymorph.py's.
    optim.start_from = ""

    mesh = config.mesh = ml_collections.ConfigDict()
    # ours: devices that share the largest weights of model.dilated_form "tokens"; the
    # pairs of a batch are shared out over groups of so many. 1: each has all weights.
    mesh.model = 1

    augment = config.augment = ml_collections.ConfigDict()
    # paper 3.1: probability of a flip of both scans along one random axis.
    augment.flip = 0.5
    # paper 3.1: probability of a rotation of both about x, uniform in ± these degrees.
    augment.rotate = 0.5
    augment.degrees = 30.0
    # ours: the gamma of the moving scan is exp(uniform in ±); 0: off.
    augment.gamma = 0.0
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
    # ours: along each axis, between 1 / this and this.
    affine.scale = 1.2
    # ours: uniform in ±.
    affine.shear = 0.1
    # ours: mm along each axis, uniform in ±.
    affine.shift = 15.0

    synthesis = config.synthesis = ml_collections.ConfigDict()
    # ours: the folder of label maps of whole heads from which synthetic scans are
    # made, or the file that launch/small_copy.py makes from it, or "mni152".
    synthesis.heads = "mni152"
    # ours: the last so many maps, by name, are not for training.
    synthesis.held_out = 0
    # ours: synthetic pairs beside each pair of a batch, made on the devices and learned
    # in both directions; 0.25: beside every fourth one; 0: none.
    synthesis.pairs = 0.0
    # ours: mm, of the label maps on the devices.
    synthesis.voxel = 3.0
    # ours: samples of the maps along each axis of a voxel.
    synthesis.oversample = 2
    # ours: probability of two scans of one map, and of those, of one person.
    synthesis.same_head = 0.7
    synthesis.same_person = 0.5
    # ours: rotation of a scan about each axis, uniform in ± one of these degrees, which
    # are equally likely.
    synthesis.degrees = (15.0, 45.0)
    # ours: probability of another order or direction of the axes.
    synthesis.turn = 0.1
    # ours: mm along each axis, uniform in ±.
    synthesis.translation = 25.0
    # ours: factors exp(uniform in ±), one for all axes and one for each.
    synthesis.scale = 0.1
    # ours: mm by which the affine between landmarks of two maps may be off.
    synthesis.slack = 4.0

    validation = config.validation = ml_collections.ConfigDict()
    # ours: steps from one validation to the next.
    validation.every = 1000
    # ours: known affines (±20° about each axis, ±15 %, 15 mm) of each of these scans,
    # aligned with itself: the error in mm beside the DSC; 0: none.
    validation.known = 0
    # ours: how many validation pairs; 0: all.
    validation.cases = 0

    # ours: seconds without progress after which WORKDIR/stalled-HOST-PROCESS.txt says
    # where every thread stands.
    config.stall_after = 600.0

    checkpoint = config.checkpoint = ml_collections.ConfigDict()
    # ours: steps from one checkpoint to the next.
    checkpoint.every = 500
    # ours: how many of the newest are kept; the best by validation DSC is kept too.
    checkpoint.keep = 2

    evaluation = config.evaluation = ml_collections.ConfigDict()
    # ours: "train", "validation" or "test".
    evaluation.split = "test"
    # ours; the program prints "voxels" of the conformed grid.
    evaluation.hausdorff_unit = "mm"
    # ours: of the linearly warped mask; 0 is the program's > 0.
    evaluation.mask_threshold = 0.5
    # ours: how many cases get a picture.
    evaluation.pictures = 4
    return config


def in_form(config: ml_collections.ConfigDict, form: str) -> ml_collections.ConfigDict:
    """A configuration in a form: "paper" leaves it unchanged, "recipe" calls `recipe`."""
    if form not in ("paper", "recipe"):
        raise ValueError(f'the form is "paper" or "recipe", not "{form}"')
    return recipe(config) if form == "recipe" else config


def recipe(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Change a configuration to what makes a network learn affines; return it.

    All of it is ours; docs/training-log.md has what each part brings.
    """
    model = config.model
    model.head = "moments"
    model.linear_weights = "fan_in"

    config.loss.known = 0.05
    config.loss.deep = 0.3

    optim = config.optim
    optim.lr = 1e-3
    optim.schedule = "cosine"
    optim.warmup = 300
    optim.clip_norm = 1.0
    optim.weight_decay = 0.0

    augment = config.augment
    # The paper's move both scans alike.
    augment.flip = 0.0
    augment.rotate = 0.0
    augment.same = 0.5
    augment.mirror = 0.5
    augment.deform = 2.0
    augment.contrast = 0.7
    augment.affine.which = "both"
    augment.affine.degrees = (30.0, 60.0)
    augment.affine.scale = 1.12
    return config


def finetuning(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Change a configuration to the paper's fine-tuning (3.1); return it."""
    # paper 3.1
    config.optim.steps = 30_000
    config.optim.lr = 1e-5
    # paper 3.1: convolutional patch embeddings, multi-scale dilated layers, the layer
    # that predicts the affine. The program trains all but attention:
    # ("patch_embedding", "msda", "head", "mlp", "squeeze").
    config.optim.trained = ("patch_embedding", "msda", "head")
    return config


def small(config: ml_collections.ConfigDict, *, size: int) -> ml_collections.ConfigDict:
    """Change a configuration to what two CPU cores train in minutes or hours."""
    config.data.size = size
    # A cached pair of such a size is read in milliseconds.
    config.data.workers = 0
    config.model.embedding = 96
    config.model.depth = 1
    config.loss.stride = 1
    # With the paper's augmentation a network sees hardly one pair twice in so few
    # steps, and stays where it starts.
    config.augment.flip = 0.0
    config.augment.rotate = 0.0
    config.validation.every = 500
    config.checkpoint.every = 500
    return config
