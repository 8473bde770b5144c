"""As much of JSON Schema as docs/openapi.json uses: whether a value is what the document says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
KNOWN = {
    *("type", "properties", "required", "additionalProperties", "items", "prefixItems", "const", "enum"),
    *("anyOf", "$ref", "minItems", "minLength", "maxLength", "minimum", "maximum", "description", "example"),
}


class Schemas:
    """The schemas of a document, which refer to each other."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document

    def resolve(self, value: Any) -> Any:
        """What a ``$ref`` leads to; another value as it is."""
        while isinstance(value, dict) and "$ref" in value:
            found: Any = self.document
            for name in value["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            value = found
        return value

    def fits(self, value: Any, schema: Any) -> bool:
        """Whether the value fits. AssertionError for a keyword that is not known here."""
        schema = self.resolve(schema)
        assert set(schema) <= KNOWN, set(schema) - KNOWN
        kinds = schema.get("type", [])
        if kinds and not any(_TYPES[kind](value) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
            return False
        if "const" in schema and value != schema["const"]:
            return False
        if "enum" in schema and value not in schema["enum"]:
            return False
        if "anyOf" in schema and not any(self.fits(value, each) for each in schema["anyOf"]):
            return False
        return self._fields_fit(value, schema) and self._items_fit(value, schema)

    def _fields_fit(self, value: Any, schema: Mapping[str, Any]) -> bool:
        if not isinstance(value, dict):
            return True
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        for name, each in value.items():
            rule = known.get(name, more)
            if rule is False or (isinstance(rule, dict) and not self.fits(each, rule)):
                return False
        return set(schema.get("required", [])) <= set(value)

    def _items_fit(self, value: Any, schema: Mapping[str, Any]) -> bool:
        if not isinstance(value, list):
            return True
        rules = schema.get("prefixItems") or [schema.get("items", {})] * len(value)
        pairs = zip(value, rules, strict=False)
        return len(value) >= schema.get("minItems", 0) and all(self.fits(each, rule) for each, rule in pairs)
