"""The default matrix. Each file holds the cases of one family; here they are gathered."""

from harness.case import Case

ALL = (Case(family="gpt2"), Case(family="gpt2", variant="unscaled"), Case(family="llama"))
