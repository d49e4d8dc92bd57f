"""What the probes show of transformers itself on tiny checkpoints: limitations by type."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cases.limitations import AFTER_TRANSFORMERS, HUGGING_FACE, POSITIONS_NOT_COUNTED
from harness.case import Limitation


def _differs(page: str, reason: str, *, probe: str, sites: tuple[str, ...]) -> Limitation:
    """Say that a probe's checks fail first at these sites."""
    return Limitation(
        outcome="differs",
        probes=(probe,),
        sites=sites,
        reason=reason,
        link=f"docs/findings/{page}.md",
        until=AFTER_TRANSFORMERS,
        loading_modes=HUGGING_FACE,
    )


def _raises(page: str, reason: str, *, words: str, probes: tuple[str, ...] = ()) -> Limitation:
    """Say that transformers raises with these words, in comparisons too if no probe is named."""
    return Limitation(
        outcome="raises",
        words=words,
        probes=probes,
        reason=reason,
        link=f"docs/findings/{page}.md",
        until=AFTER_TRANSFORMERS,
    )


def _positions(site: str) -> Limitation:
    """Say of positions that are not counted from the mask where it shows first."""
    return replace(POSITIONS_NOT_COUNTED, sites=(site,))


_BOTH_WAYS: Final = "cpmant-reads-both-ways"
_LOOKS_AHEAD: Final = "fsmt-looks-ahead-with-a-cache"
_BY_NUMBER: Final = "pad-tokens-masked-by-their-number"
_IN_FLOAT32: Final = "tables-saved-in-float32"
_OVER_PADDING: Final = "mixing-runs-over-padding"

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
    (_positions("logits"), "causal", ("openai-gpt", "reformer")),
    (_positions("logits"), "masked", ("albert", "reformer", "squeezebert")),
    (_positions("resid_pre"), "causal", ("ctrl", "whisper", "xglm")),
    (_positions("encoder_ln_final.out"), "seq2seq", ("pegasus_x",)),
    (_positions("decoder_blocks.0.ln2.out"), "seq2seq", ("led",)),
    (
        _positions("blocks.0.attn.attn_scores"),
        "causal",
        ("hunyuan_v1_dense", "hunyuan_v1_moe"),
    ),
    (_positions("blocks.1.attn.attn_scores"), "causal", ("beam",)),
    *(
        (
            _differs(
                _IN_FLOAT32,
                "its table of sines is saved, in float32",
                probe="padding",
                sites=("attn_scores", "ln1.out"),
            ),
            kind,
            ("roformer",),
        )
        for kind in ("causal", "masked")
    ),
    *(
        (
            _differs(
                _IN_FLOAT32,
                "its decays are saved, in float32",
                probe=probe,
                sites=("blocks.1.mixer_out",),
            ),
            "causal",
            ("minimax",),
        )
        for probe in ("padding", "cached_decoding")
    ),
    (
        _differs(
            "prophetnet-relative-positions-mixed",
            "the predicting stream takes other tokens' relative positions",
            probe="padding",
            sites=("logits",),
        ),
        "causal",
        ("prophetnet",),
    ),
    (
        _differs(
            "reformer-sorts-by-what-follows",
            "keys are sorted into chunks with those that follow",
            probe="causality",
            sites=("logits",),
        ),
        "causal",
        ("reformer",),
    ),
    (
        _differs(
            _BY_NUMBER,
            "pad tokens are masked where no mask is given",
            probe="padding",
            sites=("logits",),
        ),
        "masked",
        ("flaubert",),
    ),
    (
        _differs(
            "bamba-positions-start-anew",
            "positions are counted from 0 at every call",
            probe="cached_decoding",
            sites=("attn.rot_q",),
        ),
        "causal",
        ("bamba",),
    ),
    (
        _differs(_BOTH_WAYS, "all tokens see each other", probe="causality", sites=("logits",)),
        "causal",
        ("cpmant",),
    ),
    (
        _differs(_BOTH_WAYS, "no mask is read", probe="padding", sites=("logits",)),
        "causal",
        ("cpmant",),
    ),
    (
        _raises(
            _BOTH_WAYS,
            "no single tokens from a cache",
            words="must match the size of",
            probes=("cached_decoding",),
        ),
        "causal",
        ("cpmant",),
    ),
    (
        _differs(
            "deepseek-v4-compresses-padding",
            "padding is compressed with the text",
            probe="padding",
            sites=("logits",),
        ),
        "causal",
        ("deepseek_v4",),
    ),
    *(
        (
            _differs(
                _LOOKS_AHEAD, "a cache leaves the causal mask out", probe=probe, sites=("logits",)
            ),
            "seq2seq",
            ("fsmt",),
        )
        for probe in ("causality", "observer", "cached_decoding")
    ),
    (
        Limitation(
            outcome="differs",
            sites=("blocks.1.resid_mid",),
            reason="keys at zero tie, and each kernel chooses others",
            link="docs/findings/indexer-ties-at-zero.md",
            until=AFTER_TRANSFORMERS,
            loading_modes=("hf_sdpa",),
            dtypes=("bfloat16",),
        ),
        "causal",
        ("deepseek_v32",),
    ),
    (
        _differs(
            "mamba-state-lost-between-chunks",
            "the state starts anew at every chunk",
            probe="cached_decoding",
            sites=("mixer_out",),
        ),
        "causal",
        ("jamba", "zamba"),
    ),
    (
        _differs(
            _OVER_PADDING,
            "padding is mixed in",
            probe="padding",
            sites=("blocks.0.resid_pre", "blocks.0.ln1.out", "pos_embed"),
        ),
        "masked",
        ("convbert", "fnet", "mobilebert"),
    ),
    (
        _differs(
            "moshi-window-only-in-the-cache",
            "the window is in the cache and not in the mask",
            probe="cached_decoding",
            sites=("blocks.0.attn.pattern",),
        ),
        "causal",
        ("moshi",),
    ),
    (
        _differs(
            "pad-tokens-counted-only-from-a-cache",
            "pad tokens are counted from a cache and not in a full pass",
            probe="cached_decoding",
            sites=("decoder_blocks.0.resid_pre",),
        ),
        "seq2seq",
        ("m2m_100", "nllb-moe", "seamless_m4t", "seamless_m4t_v2"),
    ),
    (
        _differs(
            "pad-tokens-counted-only-from-a-cache",
            "pad tokens are counted from a cache and not in a full pass",
            probe="cached_decoding",
            sites=("pos_embed",),
        ),
        "causal",
        (
            "camembert",
            "data2vec-text",
            "roberta",
            "roberta-prelayernorm",
            "xlm-roberta",
            "xlm-roberta-xl",
            "xmod",
        ),
    ),
    (
        _differs(
            _BY_NUMBER,
            "pad tokens are masked where no mask is given",
            probe="padding",
            sites=("encoder_blocks.0.attn.attn_scores",),
        ),
        "seq2seq",
        ("t5gemma",),
    ),
    (
        _differs(
            _BY_NUMBER,
            "pad tokens are masked where no cache is given",
            probe="observer",
            sites=("decoder_blocks.0.attn.attn_scores",),
        ),
        "seq2seq",
        ("t5gemma",),
    ),
    (
        _differs(
            _BY_NUMBER,
            "pad tokens are masked where no mask is given",
            probe="padding",
            sites=("logits",),
        ),
        "causal",
        ("xlm",),
    ),
    *(
        (
            _raises(
                "prophetnet-cache-takes-single-tokens",
                "the cache takes single tokens",
                words="`position_ids` are incorrect",
                probes=("cached_decoding",),
            ),
            kind,
            ("prophetnet",),
        )
        for kind in ("causal", "seq2seq")
    ),
    (
        _differs(
            "recurrences-run-over-padding",
            "the recurrence runs over padding",
            probe="padding",
            sites=("mixer_out", "blocks.0.resid_mid"),
        ),
        "causal",
        ("recurrent_gemma", "rwkv", "xlstm"),
    ),
    (
        _raises(
            "switch-transformers-use-cache-raises",
            "its encoder refuses use_cache",
            words="`use_cache` can only be set to `True`",
            probes=("cached_decoding",),
        ),
        "seq2seq",
        ("switch_transformers",),
    ),
    (
        _differs(
            "time-step-floor-not-in-single-steps",
            "time steps are clamped in a scan and not in a single step",
            probe="cached_decoding",
            sites=("blocks.0.mixer_out", "blocks.1.resid_post"),
        ),
        "causal",
        ("nemotron_h", "zamba2"),
    ),
    (
        _raises(
            "xlnet-needs-float32",
            "its attention stays in float32, loaded in another dtype",
            words="expected scalar type Float but found",
        ),
        "causal",
        ("xlnet",),
    ),
    (
        _differs(
            "yoso-ignores-the-mask",
            "the mask is not read",
            probe="padding",
            sites=("blocks.0.ln1.out",),
        ),
        "masked",
        ("yoso",),
    ),
)
