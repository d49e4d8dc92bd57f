import pytest

from harness.models.windows import window_of

W = {"model_type": "any", "sliding_window": 6}


@pytest.mark.parametrize(
    ("config", "windows"),
    [
        ({"model_type": "gpt2"}, [None, None, None]),
        ({**W, "sliding_window": None}, [None, None, None]),
        (W, [6, 6, 6]),
        (
            {**W, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
            [6, None, 6],
        ),
        ({**W, "model_type": "gemma2"}, [6, None, 6]),
        ({**W, "sliding_window_pattern": 3}, [6, 6, None]),
        ({**W, "use_sliding_window": False, "max_window_layers": 0}, [None, None, None]),
        ({**W, "use_sliding_window": True, "max_window_layers": 1}, [None, 6, 6]),
        (
            {**W, "model_type": "qwen2_moe", "use_sliding_window": True, "max_window_layers": 1},
            [6, None, None],
        ),
        (
            {
                "model_type": "gpt_neo",
                "window_size": 6,
                "attention_types": [[["global", "local"], 2]],
            },
            [None, 6, None],
        ),
    ],
)
def test_each_spelling_of_windows_is_read(config, windows):
    assert [window_of(config, layer) for layer in range(3)] == windows
