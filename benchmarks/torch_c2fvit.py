"""C2FViT with NTG in PyTorch, as its authors train it: a step, to compare times with.

    python -m benchmarks.torch_c2fvit [--sizes 128] [--batches 1] [--dtypes tf32]
        [--attention plain fused]

Layers, warps, loss and optimiser of the authors' program, written anew for this table
and for nothing else: embedding 256, four blocks in each of three stages, attention as
softmax(Q Kᵀ) V with all scores kept ("plain"; "fused" is PyTorch's own fast kernel).
Needs PyTorch; the rows are those of `benchmarks.throughput` with C2FViT and NTG.
"""

import argparse
import math
import time

import torch
from torch import nn
from torch.nn import functional

from benchmarks import throughput

WIDTH, HEADS, DEPTH = 256, 2, 4
PATCHES = ((3, 2), (7, 4), (15, 8))  # kernel and stride of each stage, coarse first


class Block(nn.Module):
    """x + attention(x), then x + MLP(x), without norms; [batch, tokens, channels]."""

    def __init__(self, fused: bool):
        super().__init__()
        self.fused = fused
        self.query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.key_value = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.projection = nn.Linear(WIDTH, WIDTH)
        self.expand = nn.Linear(WIDTH, 2 * WIDTH)
        self.depthwise = nn.Conv3d(
            2 * WIDTH, 2 * WIDTH, 3, padding=1, bias=False, groups=2 * WIDTH
        )
        self.project = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        """[batch, tokens, channels] → the same shape."""
        x = x + self.attend(x)
        batch, tokens, _ = x.shape
        side = round(tokens ** (1 / 3))
        hidden = functional.gelu(self.expand(x))
        volume = hidden.transpose(1, 2).reshape(batch, -1, side, side, side)
        hidden = functional.gelu(self.depthwise(volume).flatten(2).transpose(1, 2))
        return x + self.project(hidden)

    def attend(self, x):
        """[batch, tokens, channels] → the same shape."""
        batch, tokens, _ = x.shape
        split = batch, tokens, -1, HEADS, WIDTH // HEADS
        (query,) = self.query(x).reshape(split).permute(2, 0, 3, 1, 4)
        key, value = self.key_value(x).reshape(split).permute(2, 0, 3, 1, 4)
        if self.fused:
            attended = functional.scaled_dot_product_attention(query, key, value)
        else:
            scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
            attended = scores.softmax(-1) @ value
        return self.projection(attended.transpose(1, 2).reshape(batch, tokens, WIDTH))


class Stage(nn.Module):
    """Image pair and the features of the stage before → features, 12 parameters."""

    def __init__(self, patch: int, stride: int, fused: bool):
        super().__init__()
        self.embed = nn.Conv3d(2, WIDTH, patch, stride, patch // 2)
        self.blocks = nn.Sequential(*(Block(fused) for _ in range(DEPTH)))
        self.head = nn.Sequential(
            nn.Linear(WIDTH, WIDTH // 2, bias=False),
            nn.ReLU(),
            nn.Linear(WIDTH // 2, 12, bias=False),
            nn.Tanh(),
        )

    def forward(self, moving, fixed, carried):
        """Two volumes [batch, 1, n, n, n]."""
        features = functional.gelu(self.embed(torch.cat([moving, fixed], 1)))
        if carried is not None:
            features = features + carried
        tokens = self.blocks(features.flatten(2).transpose(1, 2))
        parameters = self.head(tokens.mean(1))
        return tokens.transpose(1, 2).reshape(features.shape), parameters


class C2FViT(nn.Module):
    """Three stages, each of which warps the original moving volume anew."""

    def __init__(self, fused: bool):
        super().__init__()
        self.stages = nn.ModuleList(Stage(*patch, fused) for patch in PATCHES)
        self.squeeze = nn.ModuleList(
            nn.Conv3d(WIDTH, WIDTH, 3, padding=1) for _ in PATCHES[1:]
        )

    def forward(self, fixed, moving):
        """Two volumes [batch, 1, n, n, n] → the moving one as warped at the end."""
        fixed, moving = image_pyramid(fixed), image_pyramid(moving)
        warped, carried = moving[0], None
        for index, stage in enumerate(self.stages):
            features, parameters = stage(warped, fixed[index], carried)
            level = moving[min(index + 1, len(moving) - 1)]
            warped = warp(level, affine_matrix(parameters.float(), level))
            if index < len(self.squeeze):
                carried = self.squeeze[index](features)
        return warped


def image_pyramid(volume):
    """The volume at a quarter, half and all of its size."""
    half = functional.avg_pool3d(volume, 2)
    return [functional.avg_pool3d(half, 2), half, volume]


def affine_matrix(parameters, moving):
    """C · H · S · R · C⁻¹ · T of 12 parameters, [batch, 3, 4]."""
    shift, turn, shear, scale = parameters.split(3, 1)
    turn, shear = math.pi * turn, math.pi * shear
    one, zero = torch.ones_like(turn[:, 0]), torch.zeros_like(turn[:, 0])
    (cx, cy, cz), (sx, sy, sz) = turn.cos().unbind(1), turn.sin().unbind(1)
    about_x = [one, zero, zero, zero, cx, -sx, zero, sx, cx]
    about_y = [cy, zero, sy, zero, one, zero, -sy, zero, cy]
    about_z = [cz, -sz, zero, sz, cz, zero, zero, zero, one]
    xy, xz, yz = shear.unbind(1)
    sheared = [one, xy, xz, zero, one, yz, zero, zero, one]
    x, y, z, h = (
        torch.stack(rows, 1).reshape(-1, 3, 3)
        for rows in (about_x, about_y, about_z, sheared)
    )
    linear = h @ torch.diag_embed(1 + 0.5 * scale) @ z @ y @ x
    centre = centre_of_mass(moving)
    offset = centre + (linear @ (shift - centre)[..., None])[..., 0]
    return torch.cat([linear, offset[..., None]], 2)


def centre_of_mass(volume):
    """[batch, 1, n, n, n] → [batch, 3], in [-1, 1], the last axis first."""
    axis = torch.linspace(-1, 1, volume.shape[-1], device=volume.device)
    mass = volume.sum((1, 2, 3, 4)) + 1e-6
    others = ((1, 2, 3), (1, 2, 4), (1, 3, 4))
    moments = [(volume.sum(dims) * axis).sum(1) / mass for dims in others]
    return torch.stack(moments, 1)


def warp(volume, matrix):
    """Trilinear, corners aligned."""
    grid = functional.affine_grid(matrix, list(volume.shape), align_corners=True)
    return functional.grid_sample(volume, grid, align_corners=True)


def ntg(fixed, warped):
    """Both sums of the quotient over the whole batch, derivatives at each 4th voxel."""
    difference = energy = 0.0
    taps = {True: [-1.0, 0.0, 1.0], False: [1.0, 2.0, 1.0]}
    for axis in range(3):
        rows = [torch.tensor(taps[k == axis], device=fixed.device) for k in range(3)]
        kernel = torch.einsum("i,j,k->ijk", *rows)[None, None]
        stride = [4 if k == axis else 1 for k in range(3)]
        a, b = (functional.conv3d(v, kernel, stride=stride) for v in (fixed, warped))
        difference = difference + (a - b).abs().sum()
        energy = energy + a.abs().sum() + b.abs().sum()
    return difference / (energy + 1e-5)


def ntg_pyramid(fixed, warped):
    """NTG at three sizes with weights 1, ½ and ¼."""
    total = 0.0
    for weight in (1.0, 0.5, 0.25):
        total = total + weight * ntg(fixed, warped)
        fixed, warped = (
            functional.avg_pool3d(v, 5, 2, 2, count_include_pad=False)
            for v in (fixed, warped)
        )
    return total


def measure(size: int, batch: int, dtype: str, fused: bool, device: str) -> dict:
    """Seconds of a training step and of a forward pass, and bytes, of one setting."""
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    torch.backends.cudnn.allow_tf32 = dtype != "float32"
    torch.manual_seed(0)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    network = C2FViT(fused).to(device)
    optimizer = torch.optim.Adam(
        network.parameters(), lr=1e-5, weight_decay=1e-3, amsgrad=True
    )
    fixed, moving = torch.rand(2, batch, 1, size, size, size, device=device)
    rounded = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")

    def forward():
        with rounded:
            return network(fixed, moving).float()

    def step():
        optimizer.zero_grad(set_to_none=True)
        ntg_pyramid(fixed, forward()).backward()
        nn.utils.clip_grad_value_(network.parameters(), 10.0)
        optimizer.step()

    row = {"step_s": shortest(step, device)}
    row["peak_bytes"] = (
        torch.cuda.max_memory_allocated() if device == "cuda" else math.nan
    )
    with torch.no_grad():
        return row | {"forward_s": shortest(forward, device)}


def shortest(function, device: str) -> float:
    """The shortest of five runs after two."""
    times = []
    for _ in range(7):
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[2:])


def main() -> None:
    """Time each setting, and print a row of Markdown for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[128])
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    dtypes = ["float32", "tf32", "bfloat16"]
    parser.add_argument("--dtypes", nargs="+", choices=dtypes, default=["tf32"])
    kinds = ["plain", "fused"]
    parser.add_argument("--attention", nargs="+", choices=kinds, default=kinds)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True  # as fast as it can
    print(f"PyTorch {torch.__version__}, {device}")
    print(throughput.HEAD, flush=True)
    for size in options.sizes:
        for batch in options.batches:
            for kind in options.attention:
                for dtype in options.dtypes:
                    head = f"| {size}³ | {batch} | C2FViT, PyTorch, {kind} | NTG | "
                    head += f"{dtype} | "
                    try:
                        row = measure(size, batch, dtype, kind == "fused", device)
                    except torch.OutOfMemoryError:
                        print(f"{head}out of memory | | | | |", flush=True)
                        continue
                    print(
                        f"{head}{1e3 * row['step_s']:.1f} | "
                        f"{batch / row['step_s']:.3f} | {1e3 * row['forward_s']:.1f} | "
                        f"{row['peak_bytes'] / 2**30:.2f} | |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
