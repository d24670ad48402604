"""The model shapes that both programs run, as data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A Llama-like decoder. The embedding is also the output head."""

    name: str
    layers: int
    hidden: int
    mlp: int
    query_heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    rope_theta: float = 500000.0
    norm_epsilon: float = 1e-5
    max_positions: int = 131072
    is_fastkv_preset: bool = False  # fastkv knows it by name, without a config.json

    @property
    def linear_parameters(self) -> int:
        """Weights that every prompt token is multiplied with; the output head is not among them."""
        heads = 2 * self.query_heads + 2 * self.kv_heads  # of q and o, of k and v
        return self.layers * self.hidden * (heads * self.head_dim + 3 * self.mlp)

    def config_json(self) -> dict[str, object]:
        """The shape as Hugging Face's `config.json` says it."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.mlp,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.query_heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "rms_norm_eps": self.norm_epsilon,
            "rope_theta": self.rope_theta,
            "max_position_embeddings": self.max_positions,
            "tie_word_embeddings": True,
            "hidden_act": "silu",
            "torch_dtype": "bfloat16",
            "bos_token_id": 0,
            "eos_token_id": 1,
        }


SHAPES = {
    shape.name: shape
    for shape in (
        Shape(
            name="llama-3.2-1b",
            layers=16,
            hidden=2048,
            mlp=8192,
            query_heads=32,
            kv_heads=8,
            head_dim=64,
            vocabulary=128256,
            is_fastkv_preset=True,
        ),
        # Seconds instead of minutes: to see that both programs run at all.
        Shape(
            name="tiny",
            layers=4,
            hidden=256,
            mlp=768,
            query_heads=4,
            kv_heads=2,
            head_dim=64,
            vocabulary=4096,
        ),
    )
}
