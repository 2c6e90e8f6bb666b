"""Configs that stand in signatures: read-only, for a default is shared by all calls."""

from types import MappingProxyType

BN = MappingProxyType(dict(type='BN'))
