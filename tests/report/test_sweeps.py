from rich.console import Console

from harness.report.sweeps import markdown, reasons_of, table

OLD, NEW, GONE = "port==1", "port==2", "port==3"


def row(spec, verdict="pass", **given):
    defaults = {
        "family": "gpt2",
        "variant": "default",
        "loading_mode": "bridge",
        "first_site": None,
        "reason": None,
        "transformers": f"5.{spec[-1]}",
        "transformer_lens": spec.removeprefix("port=="),
    }
    return {"spec": spec, "verdict": verdict, **defaults, **given}


ROWS = [
    row(OLD),
    row(OLD, loading_mode="bridge_compat"),
    row(OLD, "unavailable", family="olmo", reason="it has no olmo"),
    row(NEW, "fail", first_site="blocks.0.mlp.post", loading_mode="hooked_no_processing"),
    row(NEW, "pass", loading_mode="hooked_no_processing"),
    row(NEW, "fail", first_site="blocks.0.mlp.post", loading_mode="hooked", variant="gqa"),
    row(NEW),
    row(NEW, "error", family="olmo", reason="KeyError: olmo\nTraceback"),
    row(GONE, "unbuilt", family=None, reason="no such release", transformers=None),
]


def test_the_table_says_who_works_with_whom():
    assert markdown(ROWS).splitlines()[:4] == [
        "| family | TL 1<br>HF 5.1 | TL 2<br>HF 5.2 | port==3 |",
        "|---|---|---|---|",
        "| gpt2 | ✓ 2 | ✗ 0.mlp.post no_proc, gqa.hooked<br>✓ bridge | unbuilt |",
        "| olmo | – bridge | error bridge | unbuilt |",
    ]


def test_what_was_not_measured_is_said_once_with_its_reason():
    assert reasons_of(ROWS) == [
        "port==1: unavailable, 1 cells of olmo: it has no olmo",
        "port==2: error, 1 cells of olmo: KeyError: olmo",
        "port==3: unbuilt: no such release",
    ]
    assert "- port==3: unbuilt: no such release" in markdown(ROWS)


def test_a_terminal_shows_the_same():
    console = Console(width=100)
    with console.capture() as shown:
        console.print(table(ROWS))
    assert "✗ 0.mlp.post" in shown.get()
    assert "unbuilt" in shown.get()
