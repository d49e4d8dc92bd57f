"""TransformerLens' `TransformerBridge`, with and without compatibility mode and processing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.errors import Refused
from harness.models.architectures import record_of
from harness.models.ports.asking import PLAIN, chunk_inputs, keeper, model_inputs
from harness.models.ports.bridge_hooks import hook_name
from harness.models.ports.huggingface import TransformersRunner, found_in
from harness.models.ports.lens import quiet, refusals, require_release
from harness.models.ports.loading import TORCH_DTYPES, load_model
from harness.models.ports.routers import routed_by, routers_give_logits
from harness.models.sites import LOGITS, ROUTER, within_block
from harness.models.texts import tokenizer_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from harness.case import Cell, Prompt
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports.asking import Asking, Taken

RELEASES: Final = ">=3"
"""The releases of TransformerLens that have a bridge."""

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

    family = record_of(cell.case, checkpoint)
    model = load_model(family, checkpoint, dtype=cell.dtype, device=cell.device, attention="eager")
    if family.automatic:
        family = found_in(checkpoint, family, model)
    template = TransformersRunner(family, model, norms=family.folded_norms(cell.case.variant))
    # The bridge replaces submodules in place, so that owners are looked up before it boots.
    owners = {site: template.owner(site) for site in template.sites}
    tokenizer = tokenizer_of(checkpoint)
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
        self.template = template
        self.family = template.family
        self._owners = owners
        self._hooks = {
            site: hook
            for site in owners
            if (hook := hook_name(bridge, site)) is not None
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
        self.is_of_reference = True

    @property
    def sites(self) -> tuple[str, ...]:
        """Name the sites it can give, in the order of the forward pass."""
        given = {*self._hooks, *self._routers, LOGITS}
        return tuple(site for site in self._owners if site in given)

    @property
    def hooks(self) -> Mapping[str, str]:
        """Give the name of the bridge's hook for each site that has one."""
        return self._hooks

    def run(
        self, prompt: Prompt, sites: Sequence[str], asking: Asking = PLAIN
    ) -> dict[str, Tensor]:
        """Run once with the bridge's own hooks and give the tensors at the sites."""
        taken = asking.taken(sites)
        hooks = self._hooks_for(sites, taken, asking)
        inputs = self._inputs(prompt, asking)
        with self._measured(sites, taken, asking):
            logits = self.bridge.run_with_hooks(
                inputs.pop("input_ids"),
                return_type="logits",
                fwd_hooks=hooks,
                **inputs,
                **asking.output_arguments(),
            )
        taken.keep(LOGITS, logits)
        return taken.at(sites)

    def decode(
        self, prompt: Prompt, chunks: Sequence[int], sites: Sequence[str], asking: Asking = PLAIN
    ) -> list[dict[str, Tensor]]:
        """Run a prompt in chunks of these lengths with the bridge's cache; give each's sites.

        Raises:
            Refused: this release of the bridge gives no cache back, or the model keeps none.
        """
        found: list[dict[str, Tensor]] = []
        more: dict[str, Any] = {"use_cache": True}
        config = self.bridge.original_model.config
        for inputs in chunk_inputs(
            self._inputs(prompt, asking), chunks, decoder=bool(config.is_encoder_decoder)
        ):
            taken = asking.taken(sites)
            hooks = self._hooks_for(sites, taken, asking)
            with self._measured(sites, taken, asking), refusals(_REFUSALS):
                logits, cache = self.bridge.run_with_hooks(
                    inputs.pop("input_ids"),
                    return_type="logits_and_cache",
                    fwd_hooks=hooks,
                    **inputs,
                    **more,
                )
            if cache is None:
                message = f"{type(self.bridge.original_model).__name__} keeps no cache"
                raise Refused(message)
            more["past_key_values"] = cache
            taken.keep(LOGITS, logits)
            found.append(taken.at(sites))
        return found

    def run_with_cache(self, prompt: Prompt, sites: Sequence[str]) -> dict[str, Tensor | None]:
        """Run once with the bridge's own cache of activations and give what it holds, or None."""
        inputs = self._inputs(prompt, PLAIN)
        names = {self._hooks[site]: site for site in sites if site in self._hooks}
        with torch.no_grad(), quiet():
            logits, cache = self.bridge.run_with_cache(inputs.pop("input_ids"), **inputs)
        # Legacy names are aliases in the cache too.
        found = {
            site: cache[name].detach() if name in cache else None for name, site in names.items()
        }
        return {**found, LOGITS: logits}

    def to_tokens(self, texts: Sequence[str], *, bos: bool | None = None) -> list[list[int]]:
        """Give the token ids of texts by the bridge's own `to_tokens`, padded to one length."""
        with quiet():
            tokens: Tensor = self.bridge.to_tokens(list(texts), prepend_bos=bos)
        return [[int(token) for token in row] for row in tokens.tolist()]

    @property
    def begins_with_bos(self) -> bool:
        """Say whether the bridge puts BOS before a text without a word."""
        return bool(self.bridge.cfg.default_prepend_bos)

    def passed_through(self) -> frozenset[str]:
        """Name the sites that Hugging Face's modules computed inside the bridge.

        None, where the reference is another library's.
        """
        if not self.is_of_reference:
            return frozenset()
        return frozenset(
            site
            for site, (module, owner) in self._owners.items()
            if module in self._ran and owner in self._ran
        )

    def _inputs(self, prompt: Prompt, asking: Asking) -> dict[str, Tensor]:
        config = self.bridge.original_model.config
        inputs = model_inputs(self.family, config, prompt, self._device, asking)
        if asking.positions is None:
            # The bridge works positions out from the mask itself, which is under test here.
            inputs.pop("position_ids", None)
        return inputs

    def _hooks_for(
        self, sites: Sequence[str], taken: Taken, asking: Asking
    ) -> list[tuple[str, Any]]:
        return [
            (self._hooks[site], keeper(site, taken, asking.edits.get(site)))
            for site in dict.fromkeys((*asking.edits, *sites))
            if site in self._hooks
        ]

    @contextlib.contextmanager
    def _measured(self, sites: Sequence[str], taken: Taken, asking: Asking) -> Iterator[None]:
        gradients = torch.set_grad_enabled(asking.gradients)
        with gradients, self._watched(), self._routed(sites, taken), quiet():
            yield

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
    def _routed(self, sites: Sequence[str], taken: Taken) -> Iterator[None]:
        """Read the logits of routers for which the bridge has no hook."""
        with contextlib.ExitStack() as stack:
            for site in sites:
                if site in self._routers:

                    def keep(router: Any, args: Any, output: Any, site: str = site) -> None:
                        taken.take(site, routed_by(router, args[0], output))

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
