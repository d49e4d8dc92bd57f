"""What a family's record holds: its configurations, and where Hugging Face has each site."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from harness.models.heads import Head

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig

# A view brings a module's tensor into TransformerLens' layout: (tensor, config) -> tensor.
View = Callable[["Tensor", "PretrainedConfig"], "Tensor"]
Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """Where the reference's site is read: a module, its input or output, and a view of it.

    `module` is a dotted path in the Hugging Face model with `{i}` for the layer; `formerly` is
    its path in older releases, where they call it otherwise. Tuples are entered at their first
    element. With `side="in"` the first positional argument, or else the `hidden_states` argument,
    is read.
    """

    module: str
    formerly: str = ""
    side: Literal["in", "out"] = "out"
    view: View | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A stack of blocks: the prefix of its sites, its length, and where its attention is.

    `attention` are the modules whose forward computes scores and pattern, by the site prefix
    they serve, e.g. `{"attn": "model.layers.{i}.self_attn"}`. `post_norm`: the norms stand behind
    the sums. A family whose variants differ in their module tree has a stack for each, of which
    all but one have no layers.
    """

    prefix: str
    n_layers: Callable[[PretrainedConfig], int]
    taps: Mapping[str, Tap]
    attention: Mapping[str, str]
    post_norm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One architecture.

    `config` is the default variant's `config.json` as the hub spells it, with every field that
    changes numbers written out; `variants` are changes to it, of which `off_default` takes what no
    other has away from the class's defaults, all at once (docs/decisions/0014). `taps` are the
    sites outside the blocks. `norms` gives, for each norm site that weight processing folds, the
    module whose gain and bias it folds; `variant_norms` the same for variants that differ.
    `scores_shifted`: the reference takes each row's maximum off the scores. `alibi_from_start`: its
    ALiBi grows from the first position on, which leaves a constant per query against one counted
    back from the query; the softmax takes it out. `sinks`: a part of each row of the pattern goes
    to a sink beside the keys. `chooses_keys`: attention leaves keys out by what they hold.
    `residual_gains`: the parameters that multiply the stream beside a branch. `unexercised`: config
    fields that change numbers and that no variant sets away from their default, each with the
    reason. `head`: how logits come from the last hidden state. `shapes`: the tensors of a config's
    checkpoint, of a family that transformers has no class for. Source of module paths:
    `transformers.models.<family>`.

    `automatic`: nobody wrote the sites down, and they are found in each model that is loaded
    (`harness.models.discovery`). What is found stands in `taps` and `attention` by the whole name
    of a site (`blocks.0.attn.q`) or its prefix (`blocks.0.attn`), since layers may differ, and
    `post_norm` says of the whole model what a stack says of itself. `unidentified` gives, for each
    site that the model seems to have and that could not be told or confirmed, the reason. `turned`
    are the attentions whose queries are turned by position, and `sums` gives, for each place of the
    stream that is a plain sum, the sites that are added, the last branch last.
    """

    name: str
    config: Config
    taps: Mapping[str, Tap]
    stacks: tuple[Stack, ...]
    auto_class: str = "AutoModelForCausalLM"
    variants: Mapping[str, Config] = field(default_factory=dict)
    norms: Mapping[str, str] = field(default_factory=dict)
    variant_norms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    layer_norm: bool = False
    norm_offset: bool = False
    rotary: bool = False
    causal: bool = True
    takes_position_ids: bool = True
    scores_shifted: bool = False
    alibi_from_start: bool = False
    sinks: bool = False
    chooses_keys: bool = False
    residual_gains: Mapping[str, str] = field(default_factory=dict)
    unexercised: Mapping[str, str] = field(default_factory=dict)
    head: Head = field(default_factory=Head)
    shapes: Callable[[Config], Mapping[str, tuple[int, ...]]] | None = None
    automatic: bool = False
    attention: Mapping[str, str] = field(default_factory=dict)
    post_norm: bool = False
    turned: frozenset[str] = frozenset()
    sums: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unidentified: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_native(self) -> bool:
        """Say whether transformers has a class for the family."""
        return self.shapes is None

    def variant_config(self, variant: str) -> dict[str, Any]:
        """Give the whole config of a variant; None in a variant removes the field.

        Raises:
            KeyError: the family has no such variant.
        """
        changes = {} if variant == "default" else self.variants[variant]
        merged = {**self.config, **changes}
        return {key: value for key, value in merged.items() if value is not REMOVED}

    def folded_norms(self, variant: str) -> Mapping[str, str]:
        """Give the norms of a variant that weight processing folds, by their site."""
        return self.variant_norms.get(variant, self.norms)

    @property
    def variant_names(self) -> tuple[str, ...]:
        """Name all variants, the default first."""
        return ("default", *self.variants)


REMOVED = object()
"""A variant's value for a config field that it leaves out."""
