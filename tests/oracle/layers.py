"""The network's layers written from their formulas, in float64, one volume at a time.

Features are [x, y, z, channels]; parameters are named as in the network.
"""

import itertools

import numpy as np
from scipy import special


def gelu(x):
    return x * 0.5 * (1 + special.erf(x / np.sqrt(2)))


def convolution(features, kernel, *, stride=1, padding):
    """By one product for each position of the output; kernel [k, k, k, in, out]."""
    width = kernel.shape[0]
    padded = np.pad(features.astype(float), [(padding, padding)] * 3 + [(0, 0)])
    sizes = [(n - width) // stride + 1 for n in padded.shape[:3]]
    out = np.empty((*sizes, kernel.shape[-1]))
    for x, y, z in itertools.product(*map(range, sizes)):
        corner = [slice(i * stride, i * stride + width) for i in (x, y, z)]
        out[x, y, z] = np.einsum("ijkc,ijkcd->d", padded[tuple(corner)], kernel)
    return out


def depthwise(features, kernel, *, dilation=1, padding):
    """Each channel with its own kernel [3, 3, 3, channels]."""
    padded = np.pad(features.astype(float), [(padding, padding)] * 3 + [(0, 0)])
    sizes = [n - 2 * dilation for n in padded.shape[:3]]
    out = np.empty((*sizes, kernel.shape[-1]))
    for x, y, z in itertools.product(*map(range, sizes)):
        corner = [slice(i, i + 2 * dilation + 1, dilation) for i in (x, y, z)]
        out[x, y, z] = (padded[tuple(corner)] * kernel).sum((0, 1, 2))
    return out


def layer_norm(features, scale, bias):
    centred = features - features.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return scale * centred / np.sqrt(variance + 1e-5) + bias


def attention(features, params, heads):
    tokens = features.reshape(-1, features.shape[-1]).astype(float)
    query, key, value = (
        tokens @ params[name]["kernel"] for name in ("query", "key", "value")
    )
    out = []
    split = (np.split(a, heads, axis=1) for a in (query, key, value))
    for q, k, v in zip(*split, strict=True):
        scores = q @ k.T / np.sqrt(q.shape[-1])
        out.append(special.softmax(scores, axis=1) @ v)
    joined = np.concatenate(out, axis=1)
    projection = params["projection"]
    return (joined @ projection["kernel"] + projection["bias"]).reshape(features.shape)


def mlp(features, params):
    hidden = gelu(features @ params["expand"]["kernel"] + params["expand"]["bias"])
    hidden = gelu(depthwise(hidden, params["depthwise"]["kernel"], padding=1))
    return hidden @ params["project"]["kernel"] + params["project"]["bias"]


def channel_msda(features, params, dilations):
    normed = layer_norm(features, **params["norm"])
    joined = np.concatenate(
        [
            gelu(
                depthwise(
                    normed, params[f"dilated_{i}"]["kernel"], dilation=d, padding=d
                )
            )
            for i, d in enumerate(dilations, 1)
        ],
        axis=-1,
    )
    compressed = joined @ params["compress"]["kernel"] + params["compress"]["bias"]
    return features + gelu(layer_norm(compressed, **params["compressed_norm"]))


def token_msda(features, params, dilations):
    channels = features.shape[-1]
    normed = layer_norm(features, **params["norm"])
    joined = np.concatenate(
        [
            gelu(
                depthwise(
                    normed, params[f"dilated_{i}"]["kernel"], dilation=d, padding=1
                )
            ).reshape(-1, channels)
            for i, d in enumerate(dilations, 1)
        ]
    )
    kernel, bias = params["compress"]["kernel"], params["compress"]["bias"]
    padded = np.pad(joined, [(0, 0), (1, 1)])
    tokens = np.zeros((kernel.shape[-1], channels))
    for token, channel in itertools.product(*map(range, tokens.shape)):
        window = padded[:, channel : channel + 3]
        tokens[token, channel] = (window.T * kernel[:, :, token]).sum() + bias[token]
    compressed = tokens.reshape(features.shape)
    return features + gelu(layer_norm(compressed, **params["norm"]))


def head(features, params):
    mean = features.mean((0, 1, 2))
    hidden = np.maximum(mean @ params["hidden"]["kernel"], 0)
    return np.tanh(hidden @ params["parameters"]["kernel"])
