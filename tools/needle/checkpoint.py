"""Model folders in the Hugging Face layout."""

import dataclasses
import glob
import json

import torch
from safetensors.torch import load_file, save_file

from model import Config, Model


def hf_name(name):
    parts = name.split(".")
    if parts[0] == "layers":
        block = (
            "mlp." if parts[2] in ("gate_proj", "up_proj", "down_proj") else "" if "norm" in parts[2] else "self_attn."
        )
        return f"model.layers.{parts[1]}.{block}{parts[2]}.weight"
    return f"model.{name}.weight"


def save_hf(model, folder, shards=2):
    """bf16 weights in `shards` files with an index, and config.json; special token ids are the last five of the vocabulary."""
    tensors = {
        hf_name(n): p.detach().to("cpu", torch.bfloat16).contiguous()
        for n, p in model.named_parameters()
        if not n.startswith(("early", "look"))
    }
    total = sum(t.nbytes for t in tensors.values())
    parts, done = [{} for _ in range(shards)], 0
    for name in sorted(tensors):
        parts[min(shards - 1, done * shards // total)][name] = tensors[name]
        done += tensors[name].nbytes
    where = {}
    for i, part in enumerate(parts):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        save_file(part, f"{folder}/{file}", metadata={"format": "pt"})
        where.update(dict.fromkeys(part, file))
    c = model.c
    bos = c.vocab_size - 5
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **dataclasses.asdict(c),
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": bos,
        "eos_token_id": [bos + 1, bos + 4],
    }
    generation = {"bos_token_id": bos, "eos_token_id": [bos + 1, bos + 4], "do_sample": False}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    for file, content in (
        ("config.json", config),
        ("generation_config.json", generation),
        ("model.safetensors.index.json", index),
    ):
        with open(f"{folder}/{file}", "w") as f:
            f.write(json.dumps(content, indent=1) + "\n")


def load_hf(folder, dtype, device):
    """A model written by save_hf."""
    with open(f"{folder}/config.json") as f:
        config = json.load(f)
    c = Config(**{f.name: config[f.name] for f in dataclasses.fields(Config)})
    tensors = {}
    for file in sorted(glob.glob(f"{folder}/*.safetensors")):
        tensors.update(load_file(file))
    model = Model(c, dtype)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not name.startswith(("early", "look")):
                p.copy_(tensors[hf_name(name)].float())
    model.early_norm.data.copy_(model.norm.data)
    return model.to(device)
