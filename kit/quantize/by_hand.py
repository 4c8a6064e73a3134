"""Rounding weights to a few bits, in NumPy, small enough to follow with a pencil.

Not here: quantized arithmetic. Every function gives back codes that can be turned into floats again,
so that the error can be seen. Weights are [inputs, outputs], as ONNX ``MatMul`` takes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Quantized:
    """Weights as small integers: ``weight = (code - zero) * scale``.

    Attributes:
        codes: integers; [inputs, outputs], or [outputs, blocks, block] when made by blocks.
        scale: size of one step, float32, broadcastable against ``codes``.
        zero: the code that stands for 0.
        bits: bits of one code when packed.
        shape: shape of the weights, [inputs, outputs].
    """

    codes: np.ndarray
    scale: np.ndarray
    zero: np.ndarray | int
    bits: int
    shape: tuple[int, ...]

    def dequantize(self) -> np.ndarray:
        """Back to float32, in the shape of the weights."""
        w = ((self.codes.astype(np.float32) - self.zero) * self.scale).astype(np.float32)
        if w.shape == self.shape:
            return w
        inputs, outputs = self.shape
        return w.reshape(outputs, -1)[:, :inputs].T

    @property
    def packed(self) -> np.ndarray:
        """Codes as ONNX Runtime's ``MatMulNBits`` stores them, uint8: two codes of 4 bits in a byte, the
        first in its low half; codes of 8 bits as they are.

        Raises:
            ValueError: other numbers of bits.
        """
        if self.bits not in (4, 8):
            raise ValueError(f"codes of 4 or 8 bits can be packed, not of {self.bits}.")
        return self.codes if self.bits == 8 else self.codes[..., 0::2] | (self.codes[..., 1::2] << 4)

    @property
    def nbytes(self) -> int:
        """Bytes once packed: the codes, and float32 scales. A zero point costs one byte a scale."""
        zeros = 0 if isinstance(self.zero, int) else self.zero.size
        return -(-self.codes.size * self.bits // 8) + self.scale.size * 4 + zeros


def affine_int8(w: np.ndarray, axis: int | None = None) -> Quantized:
    """Spread 256 steps between the smallest and the largest weight, so that 0 stays exactly 0.

    Args:
        w: weights.
        axis: keep one scale for each index along this axis (1: one per output, "per channel");
            ``None``: one scale for all of them ("per tensor").

    Source: Jacob et al., 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", equation 1.
    """
    others = None if axis is None else tuple(i for i in range(w.ndim) if i != axis)
    low = np.minimum(w.min(axis=others, keepdims=True), 0)
    high = np.maximum(w.max(axis=others, keepdims=True), 0)
    scale = (high - low) / 255
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    zero = np.clip(np.rint(-low / scale) - 128, -128, 127).astype(np.int8)
    codes = np.clip(np.rint(w / scale) + zero, -128, 127).astype(np.int8)
    return Quantized(codes, scale, zero, 8, w.shape)


def symmetric_int8(w: np.ndarray, axis: int) -> Quantized:
    """127 steps to each side of 0, one scale per index along ``axis``. No zero point to carry along."""
    others = tuple(i for i in range(w.ndim) if i != axis)
    scale = np.abs(w).max(axis=others, keepdims=True) / 127
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    return Quantized(np.rint(w / scale).astype(np.int8), scale, 0, 8, w.shape)


def _steps(blocks: np.ndarray, bits: int) -> np.ndarray:
    """Scale of each block: its largest weight, with its sign, becomes the lowest code exactly."""
    peak = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
    scale = peak / -(2 ** (bits - 1))
    return np.where(scale == 0, 1, scale).astype(np.float32)


def _codes(blocks: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    half = 2 ** (bits - 1)
    return np.clip(np.rint(blocks / scale) + half, 0, 2 * half - 1).astype(np.uint8)


def block_nbits(w: np.ndarray, bits: int, block: int = 32) -> Quantized:
    """Give every ``block`` weights of one output a scale of their own, so that few bits are enough.

    Args:
        w: weights, [inputs, outputs].
        bits: 2, 3, 4 or 8.
        block: weights that share a scale; a smaller block is more exact and needs more bytes.

    Raises:
        ValueError: not a matrix, or another number of bits.

    Source: the layout of ONNX Runtime's ``MatMulNBits``, and of GGUF's Q4_0.
    """
    if w.ndim != 2 or bits not in (2, 3, 4, 8):
        raise ValueError(f"need a matrix and 2, 3, 4 or 8 bits, got shape {w.shape} and {bits} bits.")
    inputs, outputs = w.shape
    padded = np.zeros((-(-inputs // block) * block, outputs), np.float32)
    padded[:inputs] = w
    blocks = np.ascontiguousarray(padded.T).reshape(outputs, -1, block)  # [outputs, blocks, block]
    scale = _steps(blocks, bits)
    return Quantized(_codes(blocks, scale, bits), scale, 2 ** (bits - 1), bits, w.shape)


def unpack4(packed: np.ndarray) -> np.ndarray:
    """Codes of 4 bits out of ``Quantized.packed``: uint8 [..., n] -> [..., 2 n]."""
    return np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)


def rounded(w: np.ndarray, bits: int, scales: str = "blocks", block: int = 32) -> Quantized:
    """Round to any number of bits, with one scale for all, one per output, or one per block.

    Args:
        w: weights, [inputs, outputs].
        bits: 2 to 8.
        scales: ``"per tensor"``, ``"per channel"`` (one per output) or ``"blocks"``.
        block: weights that share a scale, for ``"blocks"``; it must divide the inputs.

    Raises:
        ValueError: other bits or scales, or a block that does not divide the inputs.
    """
    inputs, outputs = w.shape
    shapes = {"per tensor": (1, 1, -1), "per channel": (outputs, 1, -1), "blocks": (outputs, -1, block)}
    if not 2 <= bits <= 8 or scales not in shapes or (scales == "blocks" and inputs % block):
        raise ValueError(
            f"need 2 to 8 bits, scales {', '.join(shapes)}, and a block that divides the {inputs} inputs; "
            f"got {bits} bits, scales {scales!r}, blocks of {block}."
        )
    groups = np.ascontiguousarray(w.T).reshape(shapes[scales])
    scale = _steps(groups, bits)
    return Quantized(_codes(groups, scale, bits), scale, 2 ** (bits - 1), bits, w.shape)


def gptq(w: np.ndarray, x: np.ndarray, bits: int, block: int = 32, damp: float = 0.01) -> Quantized:
    """Round one input's weights after the other; the inputs still to come make up for each error.

    Args:
        w: weights, [inputs, outputs]; ``inputs`` must be a multiple of ``block``.
        x: what the layer sees on real data, [samples, inputs].
        bits, block: as in ``block_nbits``.
        damp: added to the Hessian's diagonal, relative to its mean, to keep it invertible.

    Source: Frantar et al., 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
    Transformers", algorithm 1.
    """
    inputs, outputs = w.shape
    if inputs % block:
        raise ValueError(f"{inputs} inputs are not a multiple of the block of {block}.")
    hessian = x.T.astype(np.float64) @ x  # [inputs, inputs]: how inputs move together
    hessian += np.eye(inputs) * damp * np.trace(hessian) / inputs
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T  # row k: how the later inputs can help k
    left = w.astype(np.float64)
    codes = np.empty((outputs, inputs // block, block), np.uint8)
    scales = np.empty((outputs, inputs // block, 1), np.float32)
    for b, start in enumerate(range(0, inputs, block)):
        end = start + block
        scales[:, b] = _steps(left[start:end].T, bits)  # fixed now, from the weights as they have become
        errors = np.empty((block, outputs))
        for i, k in enumerate(range(start, end)):
            codes[:, b, i] = _codes(left[k][:, None], scales[:, b], bits)[:, 0]
            kept = (codes[:, b, i].astype(np.float64) - 2 ** (bits - 1)) * scales[:, b, 0]
            errors[i] = (left[k] - kept) / upper[k, k]  # [outputs]
            left[k + 1 : end] -= np.outer(upper[k, k + 1 : end], errors[i])
        left[end:] -= upper[start:end, end:].T @ errors  # the later blocks, all at once: much faster
    return Quantized(codes, scales, 2 ** (bits - 1), bits, w.shape)


def awq_scale(w: np.ndarray, x: np.ndarray, bits: int, block: int = 32) -> np.ndarray:
    """Find by how much to enlarge each input's weights before rounding, [inputs].

    Weights that meet large inputs matter most. ``s * w`` is rounded instead of ``w``, and the input is
    divided by ``s``; the best power of the mean input is taken from a grid, as the paper does.

    Source: Lin et al., 2024, "AWQ: Activation-aware Weight Quantization", equations 4 and 5.
    """
    size = np.abs(x).mean(0) + 1e-8  # [inputs]
    target = x @ w

    def loss(s: np.ndarray) -> float:
        return float(np.square(x / s @ block_nbits(w * s[:, None], bits, block).dequantize() - target).mean())

    grid = [(size / np.sqrt(size.max() * size.min())) ** a for a in np.linspace(0, 1, 11, dtype=np.float32)]
    return min(grid, key=loss)


def relative_error(exact: np.ndarray, rounded: np.ndarray) -> float:
    """Length of the error against the length of the exact values (0.1: one tenth)."""
    return float(np.linalg.norm(exact - rounded) / np.linalg.norm(exact))
