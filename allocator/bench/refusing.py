"""Why a document is no workload, in words: what pydantic found, by the names that the document uses."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from allocator.bench.errors import InvalidWorkload


def explain(error: ValidationError, document: Any) -> InvalidWorkload:
    """All that is wrong, in one error; its field is that of the first."""
    found = [(_field(detail["loc"], document), _problem(detail)) for detail in error.errors()]
    field, problem = found[0]
    return InvalidWorkload(field, "; ".join([problem, *(f"{other}: {what}" for other, what in found[1:])]))


def _field(place: Sequence[int | str], document: Any) -> str:
    """`arrival.rate_per_s`, `faults[0].at_s`: without the names of models, which pydantic puts in between."""
    name, here = "", document
    for step in place:
        if isinstance(here, Mapping) and step not in here and step in (here.get("model"), here.get("kind")):
            continue
        if step == "[key]":
            continue
        name += f"[{step}]" if isinstance(step, int) else f".{step}" if name else step
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):
            here = None
    return name or "workload"


def _problem(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "union_tag_invalid":
            return f"there is no {context['tag']!r}; there are {context['expected_tags'].replace(chr(39), '')}"
        case "union_tag_not_found":
            return f"say which one: {context['discriminator'].replace(chr(39), '')} is missing"
        case "extra_forbidden":
            return "there is no such field"
        case "string_pattern_mismatch":
            return f"must be 1 to 64 letters, digits and _ . - without spaces, not {detail['input']!r}"
        case "model_attributes_type":
            return f"must be a mapping of fields, not {detail['input']!r}"
        case "missing":
            return "is missing"
        case "value_error":
            return str(context["error"])
        case _:
            text = detail["msg"].replace("Input should be", "must be")
            return f"{text}, not {detail['input']!r}"
