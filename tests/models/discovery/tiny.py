"""A small model whose class lives outside transformers, and whose names can lie."""

from types import SimpleNamespace

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

WIDTH, HEADS, HIDDEN, LAYERS, VOCAB = 20, 5, 44, 3, 67


class TinyConfig(PretrainedConfig):
    """`plant` names the trap that is set; nothing, and the model is a plain one."""

    model_type = "discovery_tiny"

    def __init__(self, plant="", **kwargs):
        super().__init__(**kwargs)
        self.plant = plant
        self.vocab_size = VOCAB
        self.hidden_size = WIDTH
        self.num_attention_heads = HEADS
        self.num_hidden_layers = LAYERS


def turned(tensor):
    """Turn each pair of numbers by an angle that grows with the position."""
    angles = torch.arange(0.0, tensor.shape[-2])[:, None] / torch.tensor([1.0, 10.0])
    cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
    first, second = tensor.chunk(2, dim=-1)
    return tensor * cos + torch.cat([-second, first], dim=-1) * sin


class Attention(nn.Module):
    def __init__(self, plant):
        super().__init__()
        self.plant = plant
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(WIDTH, WIDTH))

    def forward(self, hidden_states):
        query, key, value = (
            projection(hidden_states).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for projection in self.projections()
        )
        if self.plant == "grows_by_position":
            query = query * torch.arange(1.0, query.shape[-2] + 1)[:, None].expand_as(query[0, 0])
        if self.plant == "turned":
            query, key = turned(query), turned(key)
        scores = query @ key.transpose(-1, -2)
        future = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
        pattern = scores.masked_fill(future, torch.finfo(scores.dtype).min).softmax(-1)
        heads = (pattern @ value).transpose(1, 2).flatten(-2)
        if self.plant == "attends_and_more":
            return self.o_proj(heads) * hidden_states.sigmoid()
        return self.o_proj(heads)

    def projections(self):
        if self.plant == "names_swapped":
            return self.v_proj, self.q_proj, self.k_proj
        return self.q_proj, self.k_proj, self.v_proj


class Mlp(nn.Module):
    def __init__(self, plant):
        super().__init__()
        self.plant = plant
        self.gate_proj = nn.Linear(WIDTH, HIDDEN)
        self.up_proj = nn.Linear(WIDTH, HIDDEN)
        self.down_proj = nn.Linear(HIDDEN, WIDTH)

    def forward(self, hidden_states):
        gate, other = self.gate_proj(hidden_states), self.up_proj(hidden_states)
        if self.plant == "names_swapped":
            gate, other = other, gate
        if self.plant == "two_gates":
            other = torch.nn.functional.silu(other)
        return self.down_proj(torch.nn.functional.silu(gate) * other)


class Block(nn.Module):
    def __init__(self, plant):
        super().__init__()
        self.plant = plant
        attention, mlp = Attention(plant), Mlp(plant)
        lies = plant == "names_swapped"
        self.self_attn, self.mlp = (mlp, attention) if lies else (attention, mlp)
        self.input_layernorm = nn.LayerNorm(WIDTH)
        self.post_attention_layernorm = nn.LayerNorm(WIDTH)
        self.runs = 0

    def forward(self, hidden_states):
        attention, mlp = self.self_attn, self.mlp
        if self.plant == "names_swapped":
            attention, mlp = mlp, attention
        hidden_states = hidden_states + attention(self.input_layernorm(hidden_states))
        added = mlp(self.post_attention_layernorm(hidden_states))
        if self.plant == "multiplied":
            return hidden_states * added
        self.runs += 1
        if self.plant == "drifts":
            return hidden_states + added + 0.1 * self.runs
        return hidden_states + added


class TinyModel(PreTrainedModel):
    config_class = TinyConfig
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.layers = nn.ModuleList(Block(config.plant) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.unembed = nn.Linear(WIDTH, VOCAB, bias=False)
        self.post_init()

    def forward(self, input_ids, attention_mask=None):  # noqa: ARG002 - what a runner may pass
        hidden = self.embed(input_ids)
        for layer in self.layers:
            hidden = layer(hidden)
            if self.config.plant == "broken_chain":
                hidden = hidden * 1.5
        return SimpleNamespace(logits=self.unembed(self.norm(hidden)))


AutoConfig.register("discovery_tiny", TinyConfig)
AutoModelForCausalLM.register(TinyConfig, TinyModel)


def tiny(plant="", *, dtype=torch.float32):
    """Give a model with random weights and a trap in it."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(TinyConfig(plant=plant)).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.3)
    return model.to(dtype)
