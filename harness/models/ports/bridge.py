"""TransformerLens' `TransformerBridge`, with and without compatibility mode and processing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import torch
import transformers

from harness.models.families import FAMILIES
from harness.models.ports.huggingface import (
    TransformersRunner,
    model_inputs,
    routed_by,
    routers_give_logits,
)
from harness.models.ports.lens import quiet, refusals, require_release
from harness.models.ports.loading import TORCH_DTYPES, load_model
from harness.models.sites import LOGITS, ROUTER, within_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from harness.case import Cell, Prompt
    from harness.models.checkpoints import Checkpoint

RELEASES: Final = ">=3"
"""The releases of TransformerLens that have a bridge."""

# The legacy hook names, which the bridge keeps as aliases: what users ask for.
_HOOKS: Final = {
    "embed": "embed.hook_out",
    "pos_embed": "pos_embed.hook_out",
    "embed_ln.out": "embed_ln.hook_out",
    "ln_final.out": "ln_final.hook_out",
    "encoder_ln_final.out": "encoder_ln_final.hook_out",
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "ln1.out": "ln1.hook_out",
    "ln2.out": "ln2.hook_out",
    "ln3.out": "ln3.hook_out",
    "attn.q": "attn.hook_q",
    "attn.k": "attn.hook_k",
    "attn.v": "attn.hook_v",
    "attn.z": "attn.hook_z",
    "attn.rot_q": "attn.hook_rot_q",
    "attn.rot_k": "attn.hook_rot_k",
    "attn.attn_scores": "attn.hook_attn_scores",
    "attn.pattern": "attn.hook_pattern",
    "mlp.router": "mlp.gate.hook_out",
    "mlp.pre": "mlp.hook_pre",
    "mlp.pre_linear": "mlp.hook_pre_linear",
    "mlp.post": "mlp.hook_post",
    "cross_attn.q": "cross_attn.hook_q",
    "cross_attn.k": "cross_attn.hook_k",
    "cross_attn.v": "cross_attn.hook_v",
    "cross_attn.z": "cross_attn.hook_z",
    "cross_attn.attn_scores": "cross_attn.hook_attn_scores",
    "cross_attn.pattern": "cross_attn.hook_pattern",
    "cross_attn_out": "hook_cross_attn_out",
    # The bridge calls it otherwise than HookedEncoderDecoder, which says hook_resid_mid_cross.
    "resid_mid_cross": "hook_resid_mid2",
}

# What it calls the same in the decoder of an encoder-decoder.
_DECODER_HOOKS: Final = {
    "ln_final.out": "decoder_ln_final.hook_out",
    "attn.q": "self_attn.hook_q",
    "attn.k": "self_attn.hook_k",
    "attn.v": "self_attn.hook_v",
    "attn.z": "self_attn.hook_z",
    "attn.attn_scores": "self_attn.hook_attn_scores",
    "attn.pattern": "self_attn.hook_pattern",
}

# The words with which the bridge refuses a model or a mode (transformer_lens 3.0 to 4.3).
_REFUSALS: Final = (
    "does not support compatibility mode",
    "Unsupported architecture",
    "Could not determine supported architecture",
    "not supported",
    "You can't refactor",
    "only supports multi_query=True",
    "adapter did not declare",
)


def load(cell: Cell, checkpoint: Checkpoint) -> BridgeRunner:
    """Boot a bridge on its own copy of the model, and process its weights as the mode says.

    Raises:
        Unavailable: TransformerLens is not installed, or is too old to have a bridge.
        Refused: the bridge does not support the architecture, or the mode for it.
        CheckpointError: the weights do not fit the config.
    """
    require_release(RELEASES, of="TransformerBridge")
    from transformer_lens.model_bridge import TransformerBridge  # noqa: PLC0415 - takes seconds

    family = FAMILIES[cell.case.family]
    model = load_model(family, checkpoint, dtype=cell.dtype, device=cell.device, attention="eager")
    template = TransformersRunner(
        family, model, norms=family.folded_norms(cell.case.variant), traces_attention=True
    )
    # The bridge replaces submodules in place, so that owners are looked up before it boots.
    owners = {site: template.owner(site) for site in template.sites}
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.path, local_files_only=True)
    with quiet(), refusals(_REFUSALS):
        bridge = TransformerBridge.boot_transformers(
            str(checkpoint.path),
            hf_model=model,
            tokenizer=tokenizer,
            dtype=TORCH_DTYPES[cell.dtype],
            device=cell.device,
        )
        if cell.mode.compatibility:
            bridge.enable_compatibility_mode(disable_warnings=True, **cell.mode.processing.flags())
    return BridgeRunner(bridge, template=template, owners=owners)


class BridgeRunner:
    """A bridge whose sites are read through its own hooks."""

    def __init__(
        self,
        bridge: Any,
        *,
        template: TransformersRunner,
        owners: dict[str, tuple[str, str]],
    ) -> None:
        """Find out which of the reference's sites the bridge has a hook for."""
        self.bridge = bridge
        self.family = template.family
        self._owners = owners
        self._hooks = {
            site: hook
            for site in owners
            if (hook := _hook_name(bridge, site)) is not None
            and (within_block(site) != ROUTER or routers_give_logits())
        }
        # Where the bridge has no hook for a router's logits (gpt_oss), its module is read: without
        # it a token sent to another expert by rounding would be taken for a fault.
        inner = dict(self._foreign())
        self._routers = {
            site: inner[module]
            for site, (module, _) in owners.items()
            if within_block(site) == ROUTER and site not in self._hooks and module in inner
        }
        self._ran: set[str] = set()

    @property
    def sites(self) -> tuple[str, ...]:
        """Name the sites it can give, in the order of the forward pass."""
        given = {*self._hooks, *self._routers, LOGITS}
        return tuple(site for site in self._owners if site in given)

    def run(self, prompt: Prompt, sites: Sequence[str]) -> dict[str, Tensor]:
        """Run once with the bridge's own hooks and give the tensors at the sites."""
        taken: dict[str, Tensor] = {}

        def keeper(site: str) -> Any:
            def keep(tensor: Tensor, hook: object) -> None:  # noqa: ARG001 - the bridge's signature
                taken[site] = tensor.detach().clone()

            return keep

        inputs = model_inputs(self.family, self.bridge.original_model.config, prompt, self._device)
        # The bridge works positions out from the mask itself, which is under test here.
        inputs.pop("position_ids", None)
        hooks = [(self._hooks[site], keeper(site)) for site in sites if site in self._hooks]
        with torch.no_grad(), self._watched(), self._routed(sites, taken), quiet():
            logits = self.bridge.run_with_hooks(
                inputs.pop("input_ids"), return_type="logits", fwd_hooks=hooks, **inputs
            )
        if LOGITS in sites:
            taken[LOGITS] = logits.detach()
        return taken

    def passed_through(self) -> frozenset[str]:
        """Name the sites that Hugging Face's modules computed inside the bridge."""
        return frozenset(
            site
            for site, (module, owner) in self._owners.items()
            if module in self._ran and owner in self._ran
        )

    @property
    def _device(self) -> torch.device:
        parameter: Tensor = next(iter(self.bridge.original_model.parameters()))
        return parameter.device

    def _foreign(self) -> Iterator[tuple[str, Any]]:
        """Give the modules that are not the bridge's own, by their path in the reference."""
        for name, module in self.bridge.original_model.named_modules():
            if not type(module).__module__.startswith("transformer_lens."):
                yield (
                    ".".join(part for part in name.split(".") if part != "_original_component"),
                    module,
                )

    @contextlib.contextmanager
    def _routed(self, sites: Sequence[str], taken: dict[str, Tensor]) -> Iterator[None]:
        """Read the logits of routers for which the bridge has no hook."""
        with contextlib.ExitStack() as stack:
            for site in sites:
                if site in self._routers:

                    def keep(router: Any, args: Any, output: Any, site: str = site) -> None:
                        taken[site] = routed_by(router, args[0], output).detach().clone()

                    stack.callback(self._routers[site].register_forward_hook(keep).remove)
            yield

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Note which modules that are not the bridge's own run their forward."""
        handles = []
        for path, module in self._foreign():

            def note(*_: object, path: str = path) -> None:
                self._ran.add(path)

            handles.append(module.register_forward_pre_hook(note))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _hook_name(bridge: Any, site: str) -> str | None:
    """Give the bridge's name of the site, or None where it has no such hook."""
    stack, blocks, rest = site.partition("blocks.")
    layer, _, inside = rest.partition(".")
    if blocks:
        hooks = {**_HOOKS, **_DECODER_HOOKS} if stack == "decoder_" else _HOOKS
        names = [f"{stack}blocks.{layer}.{hooks[inside]}"] if inside in hooks else []
    else:
        names = [hooks[site] for hooks in (_HOOKS, _DECODER_HOOKS) if site in hooks]
    return next((name for name in names if _has_hook(bridge, name)), None)


def _has_hook(bridge: Any, hook: str) -> bool:
    return bridge.get_hook_point(hook) is not None
