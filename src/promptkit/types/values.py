"""What a value can be: JSON, a template's variables, and what a structured reply is read as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
"""What JSON can say."""

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Parsed_co = TypeVar("Parsed_co", covariant=True, default=Json)
    """What a structured reply is read as: JSON, or an instance of the caller's model."""
else:  # before Python 3.13 its own has no defaults, and nothing at run time asks for them
    from typing import TypeVar

    Parsed_co = TypeVar("Parsed_co", covariant=True)

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value]"
"""What a template variable can hold once it is coerced. Never None: absent is absent."""

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object whose members a room reads by name and checks itself."""
