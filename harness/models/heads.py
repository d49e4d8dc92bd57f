"""From the last hidden state to logits: what who asks for `output_hidden_states` must know.

Logits are rebuilt by the model's own modules, in the order in which its forward calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.models.sites import LN_FINAL
from harness.models.text_config import text_part

if TYPE_CHECKING:
    from torch import Tensor

    from harness.models.family import Family

# One step from the finished hidden state to logits: (tensor, model) -> tensor.
Step = Callable[["Tensor", Any], "Tensor"]


def output_embeddings(hidden: Tensor, model: Any) -> Tensor:
    """Multiply by the output embedding: the module that the model itself names so."""
    logits: Tensor = model.get_output_embeddings()(hidden)
    return logits


def module(path: str) -> Step:
    """Run the model's module at a path."""

    def step(hidden: Tensor, model: Any) -> Tensor:
        found: Tensor = model.get_submodule(path)(hidden)
        return found

    return step


def multiplied(attribute: str) -> Step:
    """Multiply by a number in the config."""

    def step(hidden: Tensor, model: Any) -> Tensor:
        return hidden * float(getattr(text_part(model.config), attribute))

    return step


def divided(attribute: str) -> Step:
    """Divide by a number in the config."""

    def step(hidden: Tensor, model: Any) -> Tensor:
        return hidden / float(getattr(text_part(model.config), attribute))

    return step


def softcapped(logits: Tensor, model: Any) -> Tensor:
    """Cap by the config's `final_logit_softcapping`, where it has one."""
    cap = getattr(text_part(model.config), "final_logit_softcapping", None)
    return logits if cap is None else (logits / cap).tanh() * cap


def scaled_by_width(hidden: Tensor, model: Any) -> Tensor:
    """Scale by d_model ** -0.5 where T5's head is its embedding, or the config says so."""
    config = model.config
    scaled = getattr(config, "scale_decoder_outputs", config.tie_word_embeddings)
    return hidden * (config.d_model**-0.5) if scaled else hidden


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """What `hidden_states[-1]` is: behind the final norm or before it, and in which layout."""

    finished: bool
    sequence_first: bool

    def __str__(self) -> str:
        """Print as `before the final norm, [pos, batch, d_model]`."""
        place = "after" if self.finished else "before"
        layout = "[pos, batch, d_model]" if self.sequence_first else "[batch, pos, d_model]"
        return f"{place} the final norm, {layout}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How a family's logits come from what its last block gives.

    `finish` are the modules between the last block and what `hidden_states[-1]` is by default, in
    order; LN_FINAL stands for the one at which the family's record reads this site. Those that a
    variant lacks are passed over, and () means that there is no final norm. `steps` make logits of
    that. `convention` is what `hidden_states[-1]` is, unless a config says
    `tie_last_hidden_states=False`, which leaves it before `finish`. `output` is the name under
    which the model gives the hidden states.
    """

    finish: tuple[str, ...] = (LN_FINAL,)
    steps: tuple[Step, ...] = (output_embeddings,)
    convention: Convention = Convention(finished=True, sequence_first=False)
    output: str = "hidden_states"

    @property
    def is_known(self) -> bool:
        """Say whether anybody knows how the logits come about."""
        return bool(self.steps)

    def declared(self, model: Any) -> Convention:
        """Give the convention that the family declares for a model."""
        tied = getattr(model.config, "tie_last_hidden_states", True)
        return Convention(
            finished=self.convention.finished and tied is not False,
            sequence_first=self.convention.sequence_first,
        )


UNKNOWN: Final = Head(finish=(), steps=())
"""Of a model that was found, where no known way from hidden states gives its logits."""


def final_norm_of(family: Family, model: Any) -> str:
    """Name the model's final norm; nothing if none stands between the last block and the head."""
    if LN_FINAL not in family.head.finish:
        return ""
    tap = family.taps[LN_FINAL]
    return next((path for path in (tap.module, tap.formerly) if path and _has(model, path)), "")


def _has(model: Any, path: str) -> bool:
    return any(name == path for name, _ in model.named_modules())


def finish(family: Family, model: Any, hidden: Tensor) -> Tensor:
    """Run what stands between the last block and the finished hidden state."""
    for name in family.head.finish:
        path = final_norm_of(family, model) if name == LN_FINAL else name
        if path and _has(model, path):
            hidden = module(path)(hidden, model)
    return hidden


def rebuilt(family: Family, model: Any, hidden: Tensor, convention: Convention) -> Tensor:
    """Give the logits [batch, pos, vocab] of a last hidden state, by the model's own modules."""
    if not convention.finished:
        hidden = finish(family, model, hidden)
    for step in family.head.steps:
        hidden = step(hidden, model)
    return hidden.transpose(0, 1) if convention.sequence_first else hidden
