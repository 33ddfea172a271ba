"""Requests by rows, as the prediction API of TensorFlow Serving and KServe v1 has them.

`instances` is a list with an element a row, and `predictions` answers with one for each: the value
alone where the model has one input or one output, otherwise an object by names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from eipack_serving.arrays import Array
from eipack_serving.failures import BadRequest

_DTYPES: Final = {
    "BOOL": np.dtype("bool"),
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
}
_ORDER: Final = "biuf"


def columns(payload: Any, inputs: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """Stack the rows of a request into an array for each input.

    `inputs` are those of the model's metadata: name, datatype and shape.

    Raises:
        BadRequest: The rows do not name the inputs, or their values do not fit.
    """
    rows = payload.get("instances") if isinstance(payload, Mapping) else None
    if not isinstance(rows, list) or not rows:
        raise BadRequest('the request has no "instances"; give them as a list of rows')
    if len(inputs) == 1 and not isinstance(rows[0], Mapping):
        rows = [{inputs[0]["name"]: row} for row in rows]
    names = {one["name"] for one in inputs}
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or set(row) != names:
            raise BadRequest(f"instance {number} is not an object of {', '.join(sorted(names))}")
    return {
        one["name"]: _stacked([row[one["name"]] for row in rows], one["name"], one["datatype"])
        for one in inputs
    }


def _stacked(values: list[Any], name: str, datatype: str) -> Array:
    if datatype not in _DTYPES:
        raise BadRequest(f"input {name!r} is {datatype}, which rows cannot hold; use protocol v2")
    dtype = _DTYPES[datatype]
    try:
        given = np.array(values)
        # a fraction is never cut off for the sake of an integer
        fits = not given.size or _ORDER.index(given.dtype.kind) <= _ORDER.index(dtype.kind)
        stacked = np.array(values, dtype) if fits else None
    except (TypeError, ValueError, OverflowError) as error:
        raise BadRequest(f"the rows of input {name!r} are no {datatype} of one shape") from error
    if stacked is None:
        raise BadRequest(f"the rows of input {name!r} hold {given.dtype}, it is {datatype}")
    return stacked


def rows(outputs: Mapping[str, Array], count: int) -> list[Any]:
    """Return the outputs row by row.

    Raises:
        BadRequest: An output has not one element for each of the `count` rows.
    """
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != count:
            raise BadRequest(
                f"output {name!r} has shape {array.shape} for {count} rows, which cannot be told "
                "apart by rows; use protocol v2"
            )
    lists = {name: array.tolist() for name, array in outputs.items()}
    if len(lists) == 1:
        return list(next(iter(lists.values())))
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
