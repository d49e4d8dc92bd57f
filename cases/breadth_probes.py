"""What tiny checkpoints do not keep of what a model owes itself, by type. Data only."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cases.limitations import AFTER_TRANSFORMERS, HUGGING_FACE, POSITIONS_NOT_COUNTED
from harness.case import Limitation


def _owed(probe: str, page: str, reason: str, *sites: str, checks: tuple[str, ...] = ()) -> Limitation:
    """Say that a probe's checks fail first at these sites, as a page tells."""
    return Limitation(
        outcome="differs",
        probes=(probe,),
        checks=checks,
        sites=sites,
        reason=reason,
        link=f"docs/findings/{page}.md",
        until=AFTER_TRANSFORMERS,
        loading_modes=HUGGING_FACE,
    )


def _raises(page: str, reason: str, words: str, *probes: str) -> Limitation:
    return Limitation(
        outcome="raises",
        words=words,
        probes=probes,
        reason=reason,
        link=f"docs/findings/{page}.md",
        until=AFTER_TRANSFORMERS,
        loading_modes=HUGGING_FACE,
    )


_LEFT: Final = ("left, *",)
_UNCOUNTED_LEFT: Final = ("left, positions not given",)


def _uncounted_at(site: str) -> Limitation:
    """Say that positions are not counted from the mask where they have no site of their own."""
    return replace(POSITIONS_NOT_COUNTED, sites=(site,))


_PAD_BY_NUMBER: Final = "pad tokens are masked by their number where no mask or cache is given"
_PAD_COUNTED: Final = "a pad token among the tokens counts from a cache, and not in a full pass"
_SCAN_ANEW: Final = "a scan of several tokens begins at zeros, whatever the cache holds"
_STEP_UNCLAMPED: Final = "time steps are clamped in a scan and not in a single step"
_FSMT: Final = ("fsmt-looks-ahead-with-a-cache", "without use_cache=False there is no causal mask")
_CPMANT: Final = ("cpmant-reads-both-ways", "all text is context, and a mask is swallowed")
_MIXED: Final = "convolutions and Fourier transforms run over padding"
_TABLES: Final = ("tables-saved-in-float32", "its table is saved, and rounded to float32")
_PROPHETNET: Final = "prophetnet-cache-takes-single-tokens"
_ALL_ENCODED: Final = ("encoder_blocks.0.attn.attn_scores",)

# A limitation, a kind, and the types of that kind that have it.
OF_TYPES: Final[tuple[tuple[Limitation, str, tuple[str, ...]], ...]] = (
    (
        POSITIONS_NOT_COUNTED,
        "causal",
        (
            "bart",
            "bert",
            "bert-generation",
            "big_bird",
            "bigbird_pegasus",
            "biogpt",
            "blenderbot",
            "blenderbot-small",
            "electra",
            "ernie",
            "git",
            "gpt-sw3",
            "marian",
            "mbart",
            "megatron-bert",
            "mvp",
            "pegasus",
            "plbart",
            "rembert",
            "roc_bert",
            "trocr",
        ),
    ),
    (
        POSITIONS_NOT_COUNTED,
        "masked",
        (
            "big_bird",
            "convbert",
            "deberta",
            "deberta-v2",
            "distilbert",
            "electra",
            "ernie",
            "fnet",
            "layoutlm",
            "megatron-bert",
            "mpnet",
            "mra",
            "rembert",
            "roc_bert",
            "tapas",
            "yoso",
        ),
    ),
    (
        POSITIONS_NOT_COUNTED,
        "seq2seq",
        (
            "bart",
            "bigbird_pegasus",
            "blenderbot",
            "blenderbot-small",
            "encoder-decoder",
            "marian",
            "mbart",
            "mvp",
            "pegasus",
            "plbart",
            "prophetnet",
        ),
    ),
    (_uncounted_at("logits"), "causal", ("openai-gpt", "reformer")),
    (_uncounted_at("logits"), "masked", ("albert", "reformer", "squeezebert")),
    (_uncounted_at("blocks.0.resid_pre"), "causal", ("ctrl", "whisper", "xglm")),
    (_uncounted_at("encoder_ln_final.out"), "seq2seq", ("pegasus_x",)),
    (_uncounted_at("decoder_blocks.0.ln2.out"), "seq2seq", ("led",)),
    (
        _uncounted_at("blocks.0.attn.attn_scores"),
        "causal",
        ("hunyuan_v1_dense", "hunyuan_v1_moe"),
    ),
    (_uncounted_at("blocks.1.attn.attn_scores"), "causal", ("beam",)),
    *(
        (
            _owed("padding", *_TABLES, "attn_scores", "ln1.out", checks=_UNCOUNTED_LEFT),
            kind,
            ("roformer",),
        )
        for kind in ("causal", "masked")
    ),
    (_owed("padding", *_TABLES, "blocks.1.mixer_out", checks=_LEFT), "causal", ("minimax",)),
    (_owed("cached_decoding", *_TABLES, "blocks.1.mixer_out"), "causal", ("minimax",)),
    (
        _owed("padding", "mixing-runs-over-padding", _MIXED, "blocks.0.ln1.out"),
        "masked",
        ("convbert", "fnet"),
    ),
    (
        _owed(
            "padding",
            "recurrences-run-over-padding",
            "the recurrence runs over padding",
            "blocks.0.mixer_out",
            checks=_LEFT,
        ),
        "causal",
        ("recurrent_gemma", "xlstm"),
    ),
    (
        _owed(
            "padding",
            "deepseek-v4-compresses-padding",
            "windows begin with the first token, masked or not",
            "logits",
            checks=_LEFT,
        ),
        "causal",
        ("deepseek_v4",),
    ),
    (
        _owed(
            "padding",
            "yoso-ignores-the-mask",
            "the mask is taken for one that is added, and lost",
            "blocks.0.ln1.out",
            checks=("right, *",),
        ),
        "masked",
        ("yoso",),
    ),
    (
        _owed(
            "padding",
            "prophetnet-relative-positions-mixed",
            "the predicting stream takes other tokens' and heads' relative positions",
            "logits",
        ),
        "causal",
        ("prophetnet",),
    ),
    (
        _owed("padding", "pad-tokens-masked-by-their-number", _PAD_BY_NUMBER, "logits"),
        "causal",
        ("xlm",),
    ),
    (
        _owed("padding", "pad-tokens-masked-by-their-number", _PAD_BY_NUMBER, "logits"),
        "masked",
        ("flaubert",),
    ),
    (
        _owed("padding", "pad-tokens-masked-by-their-number", _PAD_BY_NUMBER, *_ALL_ENCODED),
        "seq2seq",
        ("t5gemma",),
    ),
    (
        _owed(
            "observer",
            "pad-tokens-masked-by-their-number",
            _PAD_BY_NUMBER,
            "decoder_blocks.0.attn.attn_scores",
            checks=("no cache kept",),
        ),
        "seq2seq",
        ("t5gemma",),
    ),
    (
        _owed(
            "cached_decoding",
            "pad-tokens-counted-only-from-a-cache",
            _PAD_COUNTED,
            "decoder_blocks.0.resid_pre",
        ),
        "seq2seq",
        ("m2m_100", "nllb-moe", "seamless_m4t", "seamless_m4t_v2"),
    ),
    (
        _owed(
            "cached_decoding",
            "bamba-positions-start-anew",
            "positions of what follows a cache count from 0",
            "blocks.1.attn.rot_q",
        ),
        "causal",
        ("bamba",),
    ),
    (
        _owed(
            "cached_decoding",
            "mamba-state-lost-between-chunks",
            _SCAN_ANEW,
            "blocks.0.mixer_out",
            checks=("chunks",),
        ),
        "causal",
        ("jamba", "zamba"),
    ),
    (
        _owed(
            "cached_decoding",
            "time-step-floor-not-in-single-steps",
            _STEP_UNCLAMPED,
            "blocks.0.mixer_out",
            "blocks.1.resid_post",
            checks=("prefill and single tokens",),
        ),
        "causal",
        ("nemotron_h", "zamba2"),
    ),
    (
        _owed(
            "cached_decoding",
            "moshi-window-only-in-the-cache",
            "the cache forgets keys outside a window that the mask does not know",
            "blocks.0.attn.pattern",
        ),
        "causal",
        ("moshi",),
    ),
    (_owed("causality", *_FSMT, "logits"), "seq2seq", ("fsmt",)),
    (_owed("cached_decoding", *_FSMT, "logits"), "seq2seq", ("fsmt",)),
    (_owed("observer", *_FSMT, "logits", checks=("no cache kept",)), "seq2seq", ("fsmt",)),
    (_owed("causality", *_CPMANT, "logits"), "causal", ("cpmant",)),
    (_owed("padding", *_CPMANT, "logits", checks=("right, *",)), "causal", ("cpmant",)),
    (
        _raises(
            "cpmant-reads-both-ways",
            "with a cache it wants all tokens again",
            "at non-singleton dimension 3",
            "cached_decoding",
        ),
        "causal",
        ("cpmant",),
    ),
    (
        _owed(
            "causality",
            "reformer-sorts-by-what-follows",
            "keys are sorted into chunks with those that follow",
            "logits",
        ),
        "causal",
        ("reformer",),
    ),
    *(
        (
            _raises(
                _PROPHETNET,
                "a cache takes no other pad token than 0",
                "`position_ids` are incorrect",
                "cached_decoding",
            ),
            kind,
            ("prophetnet",),
        )
        for kind in ("causal", "seq2seq")
    ),
    (
        _raises(
            "switch-transformers-use-cache-raises",
            "use_cache=True is handed to the encoder, which refuses it",
            "`use_cache` can only be set to `True`",
            "cached_decoding",
        ),
        "seq2seq",
        ("switch_transformers",),
    ),
    (
        _raises(
            "xlnet-needs-float32",
            "loaded in another dtype its attention stays in float32",
            "expected scalar type Float but found",
        ),
        "causal",
        ("xlnet",),
    ),
)
