import os
import subprocess
import sys

import pytest
import torch
from torch.overrides import _get_current_function_mode_stack as modes
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

from harness.exact import true_float64

LOW = (torch.float32, torch.float16, torch.bfloat16)
VALUES = torch.tensor([1 / 3, 2 / 3, 1e-9], dtype=torch.float64)
EPS, THETA, HEAD = 1e-5, 10000.0, 8

# Every way that the libraries have of asking for a lower precision.
CASTS = {
    "float()": lambda x, _: x.float(),
    "half()": lambda x, _: x.half(),
    "bfloat16()": lambda x, _: x.bfloat16(),
    "to(dtype)": lambda x, dtype: x.to(dtype),
    "to(dtype=)": lambda x, dtype: x.to(dtype=dtype),
    "to(device, dtype)": lambda x, dtype: x.to("cpu", dtype),
    "type(dtype)": lambda x, dtype: x.type(dtype),
    "softmax(dtype=)": lambda x, dtype: torch.softmax(x, -1, dtype=dtype),
    "functional.softmax(dtype=)": lambda x, dtype: torch.nn.functional.softmax(x, -1, dtype=dtype),
    "cumsum(dtype=)": lambda x, dtype: x.cumsum(-1, dtype=dtype),
    "zeros_like(dtype=)": lambda x, dtype: torch.zeros_like(x, dtype=dtype),
    "arange(dtype=)": lambda _, dtype: torch.arange(3, dtype=dtype),
    "tensor(dtype=)": lambda _, dtype: torch.tensor([1 / 3], dtype=dtype),
    "full(dtype=)": lambda _, dtype: torch.full((3,), 1 / 3, dtype=dtype),
    "new_tensor(dtype=)": lambda x, dtype: x.new_tensor([1 / 3], dtype=dtype),
    "Module.to(dtype)": lambda _, dtype: torch.nn.Linear(2, 2).to(dtype).weight,
    "Module.float()": lambda _, __: torch.nn.Linear(2, 2).float().weight,
}


def rms_norm(states):
    norm = LlamaRMSNorm(HEAD, eps=EPS).double()
    return norm(states).detach()


def rotary_angles(states, positions):
    config = LlamaConfig(hidden_size=HEAD, num_attention_heads=1, rope_theta=THETA)
    cosine, sine = LlamaRotaryEmbedding(config)(states, positions)
    return torch.stack([cosine, sine])


def by_hand(positions):
    frequencies = THETA ** -(torch.arange(0, HEAD, 2).double() / HEAD)
    angles = positions.double()[..., None] * frequencies
    return torch.stack([angles.cos(), angles.sin()]).repeat(1, 1, 1, 2)


def largest(difference):
    return float(difference.abs().max())


@pytest.fixture
def states():
    return torch.randn(2, 11, HEAD, generator=torch.Generator().manual_seed(0)).double() / 3


@pytest.fixture
def positions():
    return torch.arange(11)[None] * 997


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)
def test_what_asks_for_a_lower_precision_gets_float64(cast, dtype):
    with true_float64():
        assert cast(VALUES, dtype).dtype == torch.float64


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("cast", [CASTS["to(dtype)"], CASTS["softmax(dtype=)"]])
def test_without_the_mode_the_same_request_is_heard(cast, dtype):
    assert cast(VALUES, dtype).dtype == dtype


def test_no_digit_is_lost_inside():
    with true_float64():
        assert torch.equal(VALUES.float().to(torch.bfloat16).half(), VALUES)
    assert not torch.equal(VALUES.float().double(), VALUES)


def test_what_names_no_dtype_is_made_in_float64():
    with true_float64():
        assert torch.zeros(2).dtype == torch.tensor([0.5]).dtype == torch.float64
        assert torch.nn.Linear(2, 2).weight.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.complex128])
def test_other_dtypes_are_left_alone(dtype):
    with true_float64():
        assert VALUES.to(dtype).dtype == dtype
        assert torch.ones(3, dtype=dtype).dtype == dtype


def test_what_reads_bytes_as_a_dtype_is_left_alone():
    stored = torch.tensor([1.5, -2.0])
    buffer = bytearray(stored.numpy().tobytes())
    with true_float64():
        bits = stored.view(torch.int32)
        assert bits.dtype == torch.int32
        assert torch.equal(bits.view(torch.float32), stored)
        assert torch.equal(bits.view(dtype=torch.float32), stored)
        assert torch.equal(torch.frombuffer(buffer, dtype=torch.float32), stored)
        assert torch.equal(torch.asarray(buffer, dtype=torch.float32), stored)


SCRIPTED = """
import torch

from harness.exact import true_float64


@torch.jit.script
def softmax(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.softmax(x, dim=-1, dtype=torch.float32)


with true_float64():
    print(softmax(torch.ones(3)).dtype)
"""


@pytest.mark.parametrize(("jit", "dtype"), [("0", "torch.float64"), ("1", "torch.float32")])
def test_scripted_functions_are_reached_only_where_pytorch_jit_is_0(jit, dtype, tmp_path):
    # transformers 4 scripts GPTBigCode's softmax; workers are started with PYTORCH_JIT=0.
    script = tmp_path / "scripted.py"
    script.write_text(SCRIPTED)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script],
        env={**os.environ, "PYTORCH_JIT": jit},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [dtype]


def test_torch_is_left_as_it_was_found():
    with true_float64():
        assert (torch.get_default_dtype(), len(modes())) == (torch.float64, 1)
    assert (torch.get_default_dtype(), len(modes())) == (torch.float32, 0)
    assert VALUES.float().dtype == torch.float32


def test_torch_is_left_as_it_was_found_also_by_an_error():
    with pytest.raises(ZeroDivisionError), true_float64():
        _ = 1 / 0
    assert (torch.get_default_dtype(), len(modes())) == (torch.float32, 0)


def test_a_default_dtype_of_the_users_comes_back():
    torch.set_default_dtype(torch.bfloat16)
    try:
        with true_float64():
            pass
        assert torch.get_default_dtype() == torch.bfloat16
    finally:
        torch.set_default_dtype(torch.float32)


def test_one_inside_another_stays_exact():
    with true_float64():
        with true_float64():
            pass
        assert VALUES.float().dtype == torch.zeros(1).dtype == torch.float64


def test_a_llama_norm_is_accurate_to_float64_inside_and_only_there(states):
    wanted = states / (states.pow(2).mean(-1, keepdim=True) + EPS).sqrt()
    with true_float64():
        assert largest(rms_norm(states) - wanted) < 1e-14
    assert largest(rms_norm(states) - wanted) > 1e-9


def test_rotary_angles_are_accurate_to_float64_inside_and_only_there(states, positions):
    wanted = by_hand(positions)
    with true_float64():
        # At angles near 10 000 a digit of the product's is worth 1e-12.
        assert largest(rotary_angles(states, positions) - wanted) < 1e-11
        assert largest((rotary_angles(states, positions) - wanted)[:, :, :2]) < 1e-14
    assert largest(rotary_angles(states, positions) - wanted) > 1e-5


def test_rotary_tables_must_be_built_inside_too(states, positions):
    config = LlamaConfig(hidden_size=HEAD, num_attention_heads=1, rope_theta=THETA)
    built_outside = LlamaRotaryEmbedding(config)
    with true_float64():
        found = torch.stack(built_outside(states, positions))
    assert largest(found - by_hand(positions)) > 1e-5
