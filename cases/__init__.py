"""The default matrix. Each file holds the cases of one family; here they are gathered."""

from harness.models.families import FAMILIES, every_variant

ALL = tuple(case for name in FAMILIES for case in every_variant(name))
