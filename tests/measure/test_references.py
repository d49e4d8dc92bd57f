import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.case import Case, Cell, Prompt
from harness.measure.references import References
from harness.models.checkpoints import synthetic

PROMPT = Prompt.unpadded(((5, 6, 7), (8, 9, 10)), origin="a test")


def cell_of(dtype="exact", *, case=None, mode="bridge"):
    return Cell(case=case or Case(family="gpt2"), loading_mode=mode, dtype=dtype)


def layer_norm(model, layer=0):
    return model.get_submodule(f"transformer.h.{layer}.ln_1")


@pytest.fixture(scope="module")
def references():
    return References()


@pytest.fixture(scope="module")
def perturbed(tmp_path_factory):
    """Give a case whose weights have digits that only float32 holds."""
    folder = tmp_path_factory.mktemp("checkpoint") / "gpt2"
    shutil.copytree(synthetic.build("gpt2", "default", size="tiny").path, folder)
    tensors = load_file(folder / "model.safetensors")
    finer = {name: values * (1 + 2.0**-20) for name, values in tensors.items()}
    save_file(finer, folder / "model.safetensors", metadata={"format": "pt"})
    return Case(family="gpt2", checkpoint=f"folder:{folder}")


def test_a_reference_in_true_float64_is_its_own_oracle(references):
    exact = references.of(cell_of())
    assert exact.oracle is exact


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_that_every_dtype_holds_share_one_oracle(dtype, references):
    assert references.of(cell_of(dtype)).oracle is references.of(cell_of())


def test_weights_that_float32_holds_share_the_oracle_with_float32(perturbed):
    references = References()
    assert references.of(cell_of("float32", case=perturbed)).oracle is references.of(
        cell_of(case=perturbed)
    )


def test_weights_that_are_rounded_have_an_oracle_of_their_own_that_is_rounded_too(perturbed):
    references = References()
    low = references.of(cell_of("bfloat16", case=perturbed))
    assert low.oracle is not references.of(cell_of(case=perturbed))
    rounded = dict(low.runner.model.named_parameters())
    for name, weight in low.oracle.runner.model.named_parameters():
        assert weight.dtype == torch.float64
        assert torch.equal(weight, rounded[name].double())


def test_an_oracle_of_rounded_weights_sees_only_what_the_computation_rounds(perturbed):
    references = References()
    low = references.of(cell_of("bfloat16", case=perturbed))
    found, wanted = low.activations(PROMPT), low.oracle.activations(PROMPT)
    assert torch.equal(found["embed"].double(), wanted["embed"])
    unrounded = references.of(cell_of(case=perturbed)).activations(PROMPT)
    assert not torch.equal(found["embed"].double(), unrounded["embed"])


def test_modes_of_a_case_share_a_reference(references):
    assert references.of(cell_of(mode="bridge")) is references.of(cell_of(mode="hf_sdpa"))


def test_dtypes_of_a_case_have_each_their_own(references):
    assert references.of(cell_of("float32")) is not references.of(cell_of("bfloat16"))


def test_another_case_lets_the_last_one_go():
    references = References()
    first = references.of(cell_of())
    references.of(cell_of(case=Case(family="gpt2", variant="unscaled")))
    assert references.of(cell_of()) is not first


def test_a_prompt_is_run_once_and_kept_and_one_more_prompt_is_not_kept():
    reference = References().of(cell_of())
    once = reference.activations(PROMPT, keep=False)
    kept = reference.activations(PROMPT)
    assert kept is not once
    assert reference.activations(PROMPT) is kept


def test_all_of_the_oracle_is_in_float64(references):
    taken = references.of(cell_of()).activations(PROMPT)
    assert {tensor.dtype for tensor in taken.values()} == {torch.float64}


@pytest.mark.parametrize("site", ["blocks.1.ln1.out", "blocks.2.ln2.out", "ln_final.out"])
def test_gain_and_bias_of_a_norm_give_what_it_gives(site, references):
    reference = references.of(cell_of())
    before = {
        "blocks.1.ln1.out": "blocks.1.resid_pre",
        "blocks.2.ln2.out": "blocks.2.resid_mid",
        "ln_final.out": "blocks.2.resid_post",
    }[site]
    taken = reference.activations(PROMPT)
    gain, bias = reference.affine_of(site)
    normalized = torch.nn.functional.layer_norm(taken[before], (20,), eps=1e-5)
    torch.testing.assert_close(normalized * gain + bias, taken[site], rtol=0, atol=1e-13)


def test_a_norm_that_multiplies_by_one_plus_its_weight_has_that_gain():
    reference = References().of(cell_of(case=Case(family="gemma")))
    weight = reference.runner.model.get_submodule("model.norm").weight
    gain, bias = reference.affine_of("ln_final.out")
    assert torch.equal(gain, weight + 1.0)
    assert not bias.any()


@pytest.mark.parametrize("ln_folded", [False, True])
def test_the_value_bias_is_what_the_projection_gives_for_zeros_or_for_the_norms_bias(
    ln_folded, references
):
    reference = references.of(cell_of())
    attention = reference.runner.model.get_submodule("transformer.h.1.attn.c_attn")
    into = layer_norm(reference.runner.model, 1).bias if ln_folded else torch.zeros(20).double()
    wanted = (into @ attention.weight + attention.bias)[40:].view(5, 4)
    found = reference.value_bias_of("blocks.1.attn.v", ln_folded=ln_folded)
    torch.testing.assert_close(found, wanted.detach(), rtol=0, atol=1e-14)


def test_at_z_the_value_bias_is_repeated_to_the_query_heads():
    case = Case(family="qwen2")
    reference = References().of(cell_of(case=case))
    value = reference.value_bias_of("blocks.0.attn.v", ln_folded=False)
    at_z = reference.value_bias_of("blocks.0.attn.z", ln_folded=False)
    assert (value.shape, at_z.shape) == ((2, 10), (4, 10))
    assert torch.equal(at_z, value[[0, 0, 1, 1]])
