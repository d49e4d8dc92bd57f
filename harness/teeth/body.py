"""A loaded model as a fault sees it: its public modules, by the sites that they give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.models.ports.bridge import BridgeRunner
from harness.models.ports.huggingface import TransformersRunner
from harness.models.sites import layer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import nn

    from harness.models.family import Family
    from harness.models.ports import Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The public modules of a port or of the reference.

    `writers` are the modules whose output a site is, `readers` those whose input it is, by site;
    `blocks` the blocks (`blocks.0`), `attention` the modules that attend, by the prefix of their
    sites (`blocks.0.attn`), as their block calls them. All others of a bridge's modules are those
    that it wraps. `model` is called as a whole, `head` gives the logits, `embedding` takes the
    tokens, `config` is the text part of the config. `known` are all sites of the reference in
    forward order, `sites` those that this port gives. `tokenizes` is what makes tokens of texts,
    where the port does so itself.
    """

    family: Family
    model: nn.Module
    config: Any
    sites: tuple[str, ...]
    known: tuple[str, ...]
    head: nn.Module | None
    embedding: nn.Module | None
    writers: Mapping[str, nn.Module]
    readers: Mapping[str, nn.Module]
    attention: Mapping[str, nn.Module]
    blocks: Mapping[str, nn.Module]
    tokenizes: Any = None

    def ends(self) -> tuple[str, ...]:
        """Name the first and the last block of each stack: where a fault has most, and least."""
        by_stack: dict[str, list[str]] = {}
        for name in self.blocks:
            by_stack.setdefault(name.rpartition(".")[0], []).append(name)
        return tuple(dict.fromkeys(n for names in by_stack.values() for n in (names[0], names[-1])))

    def is_at_an_end(self, site: str) -> bool:
        """Say whether a site is outside the blocks, or in the first or the last of them."""
        return layer_of(site) is None or site.startswith(tuple(f"{end}." for end in self.ends()))

    def first_layer_of(self, layer_type: str) -> int | None:
        """Give the first layer of a type; 0 where the config tells no types."""
        types = getattr(self.config, "layer_types", None)
        if not types:
            return 0
        return types.index(layer_type) if layer_type in types else None

    def inside(self, module: nn.Module) -> Iterator[nn.Module]:
        """Give a module's own modules, as they were before any bridge wrapped them."""
        for each in module.modules():
            if unwrapped(each) is each:
                yield each


def body_of(runner: Runner) -> Body:
    """Give the body of a port of `transformers` or of TransformerLens' bridge.

    Raises:
        TypeError: the port is another one.
    """
    if isinstance(runner, TransformersRunner):
        return _of_transformers(runner, runner.model, runner.sites)
    if isinstance(runner, BridgeRunner):
        return _of_bridge(runner)
    message = f"a {type(runner).__name__} shows none of its modules"
    raise TypeError(message)


def _of_transformers(runner: TransformersRunner, model: Any, sites: tuple[str, ...]) -> Body:
    called, inner = _by_path(model)
    at = {
        side: {
            site: inner[tap.module]
            for site, tap in runner.taps.items()
            if tap.side == side and tap.module in inner
        }
        for side in ("in", "out")
    }
    return Body(
        family=runner.family,
        model=model,
        config=runner.text_config,
        sites=sites,
        known=runner.sites,
        head=_unwrapped_or_none(model.get_output_embeddings),
        embedding=_unwrapped_or_none(model.get_input_embeddings),
        writers=at["out"],
        readers=at["in"],
        attention={prefix: called[path] for prefix, path in runner.attention.items()},
        blocks={
            site.removesuffix(".resid_post"): inner[tap.module]
            for site, tap in runner.taps.items()
            if site.endswith(".resid_post") and tap.side == "out"
        },
    )


def _of_bridge(runner: BridgeRunner) -> Body:
    template = _of_transformers(runner.template, runner.bridge.original_model, runner.sites)
    by_point: dict[str, dict[int, Any]] = {"hook_in": {}, "hook_out": {}}
    for module in runner.bridge.modules():
        for name, found in by_point.items():
            point = getattr(module, name, None)
            if point is not None:
                found[id(point)] = module
    sides: dict[str, dict[str, Any]] = {"hook_in": {}, "hook_out": {}}
    for site, hook in runner.hooks.items():
        point = id(runner.bridge.get_hook_point(hook))
        for name, found in by_point.items():
            if point in found:
                sides[name][site] = unwrapped(found[point])
    return Body(
        family=template.family,
        model=template.model,
        config=template.config,
        sites=runner.sites,
        known=template.known,
        head=template.head,
        embedding=template.embedding,
        # What the bridge gives no hook for is what the reference has there.
        writers={**template.writers, **sides["hook_out"]},
        readers={**template.readers, **sides["hook_in"]},
        attention=template.attention,
        blocks=template.blocks,
        tokenizes=runner.bridge,
    )


def _by_path(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the modules by their path in the reference: as they are called, and unwrapped."""
    called: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    for name, module in model.named_modules():
        path = ".".join(part for part in name.split(".") if part != "_original_component")
        called.setdefault(path, module)
        inner[path] = unwrapped(module)
    return called, inner


def _unwrapped_or_none(told: Callable[[], Any]) -> Any:
    """Give the module that a model names; None of a model that names none, or cannot tell."""
    try:
        module = told()
    except NotImplementedError:
        return None
    return None if module is None else unwrapped(module)


def unwrapped(module: Any) -> Any:
    """Give the module that a bridge's component wraps, or the module itself."""
    while (inner := module._modules.get("_original_component")) is not None:  # noqa: SLF001
        module = inner
    return module
