"""Writes a GGUF file with random weights, for timing: the shape is real, the text is not.

Large matrices are made and written one after another, so memory stays near the largest of them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from shapes import Shape

WEIGHT_TYPES = {
    "bf16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
}
ROWS_AT_ONCE = 4096  # bounds the float32 copy of a matrix


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file. A norm (one dimension) is float32, as converters write it, and 1."""

    name: str
    shape: tuple[int, ...]  # (outputs, inputs), or (hidden)

    @property
    def is_norm(self) -> bool:
        return len(self.shape) == 1


def tensors_of(shape: Shape) -> Iterator[Tensor]:
    """All tensors in the order of the file, under llama.cpp's names. Without `output.weight`
    llama.cpp takes the embedding for the head."""
    hidden, queries, keys = shape.hidden, shape.query_heads, shape.kv_heads
    yield Tensor("token_embd.weight", (shape.vocabulary, hidden))
    for layer in range(shape.layers):
        prefix = f"blk.{layer}."
        yield Tensor(prefix + "attn_norm.weight", (hidden,))
        yield Tensor(prefix + "attn_q.weight", (queries * shape.head_dim, hidden))
        yield Tensor(prefix + "attn_k.weight", (keys * shape.head_dim, hidden))
        yield Tensor(prefix + "attn_v.weight", (keys * shape.head_dim, hidden))
        yield Tensor(prefix + "attn_output.weight", (hidden, queries * shape.head_dim))
        yield Tensor(prefix + "ffn_norm.weight", (hidden,))
        yield Tensor(prefix + "ffn_gate.weight", (shape.mlp, hidden))
        yield Tensor(prefix + "ffn_up.weight", (shape.mlp, hidden))
        yield Tensor(prefix + "ffn_down.weight", (hidden, shape.mlp))
    yield Tensor("output_norm.weight", (hidden,))


def to_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The upper halves of finite float32 values, rounded to nearest (halves up)."""
    return ((values.view(np.uint32) + np.uint32(0x8000)) >> np.uint32(16)).astype(np.uint16)


def random_matrix(
    rng: np.random.Generator, shape: tuple[int, ...], weight_type: str
) -> npt.NDArray[np.generic]:
    """Normal values of deviation 1 / sqrt(inputs), which keeps the size of activations."""
    rows, inputs = shape
    matrix = np.empty(shape, np.uint16 if weight_type == "bf16" else np.float16)
    for start in range(0, rows, ROWS_AT_ONCE):
        size = (min(ROWS_AT_ONCE, rows - start), inputs)
        values = rng.standard_normal(size, np.float32) / np.float32(math.sqrt(inputs))
        matrix[start : start + size[0]] = to_bfloat16(values) if weight_type == "bf16" else values
    return matrix


def add_metadata(writer: gguf.GGUFWriter, shape: Shape, weight_type: str) -> None:
    """What llama.cpp must know to load the file. "no_vocab" stands for ids without text."""
    writer.add_name(f"{shape.name} with random weights")
    writer.add_file_type(WEIGHT_TYPES[weight_type][1])
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.max_positions)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.mlp)
    writer.add_head_count(shape.query_heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_tokenizer_model("no_vocab")


def add_tensor_info(writer: gguf.GGUFWriter, tensor: Tensor, weight_type: str) -> None:
    count = math.prod(tensor.shape)
    if tensor.is_norm:
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), 4 * count)
        return
    writer.add_tensor_info(
        tensor.name,
        tensor.shape,
        np.dtype(np.uint16),
        2 * count,
        raw_dtype=WEIGHT_TYPES[weight_type][0],
    )


def write_random_gguf(path: Path, shape: Shape, weight_type: str, seed: int = 0) -> None:
    """Writes the file in one pass; it has its name only once it is complete."""
    partial = path.with_suffix(".part")
    writer = gguf.GGUFWriter(partial, "llama")
    add_metadata(writer, shape, weight_type)
    for tensor in tensors_of(shape):
        add_tensor_info(writer, tensor, weight_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(seed)
    for tensor in tensors_of(shape):
        if tensor.is_norm:
            writer.write_tensor_data(np.ones(tensor.shape, np.float32))
        else:
            writer.write_tensor_data(random_matrix(rng, tensor.shape, weight_type))
    writer.close()
    partial.rename(path)
