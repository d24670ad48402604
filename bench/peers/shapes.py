"""The model shapes that fastkv and its peers run, as data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A Llama-like decoder."""

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
    tied_embeddings: bool = True  # the embedding is also the output head
    rope_scaling: dict[str, object] | None = None  # as config.json says it, without theta
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
            "rope_scaling": self.rope_scaling,
            "max_position_embeddings": self.max_positions,
            "tie_word_embeddings": self.tied_embeddings,
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

# Too large for a CPU to be measured in reasonable time. Mistral's models differ from Llama's in
# numbers only once no layer has a sliding window, which is how they are compared.
LARGE_SHAPES = {
    shape.name: shape
    for shape in (
        Shape(
            name="llama-3.1-8b",
            layers=32,
            hidden=4096,
            mlp=14336,
            query_heads=32,
            kv_heads=8,
            head_dim=128,
            vocabulary=128256,
            rope_scaling={
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            tied_embeddings=False,
            is_fastkv_preset=True,
        ),
        Shape(
            name="ministral-8b",
            layers=36,
            hidden=4096,
            mlp=12288,
            query_heads=32,
            kv_heads=8,
            head_dim=128,
            vocabulary=131072,
            rope_theta=1e8,
            tied_embeddings=False,
            is_fastkv_preset=True,
        ),
        Shape(
            name="nemo-12b",
            layers=40,
            hidden=5120,
            mlp=14336,
            query_heads=32,
            kv_heads=8,
            head_dim=128,
            vocabulary=131072,
            rope_theta=1e6,
            tied_embeddings=False,
            is_fastkv_preset=True,
        ),
    )
}
