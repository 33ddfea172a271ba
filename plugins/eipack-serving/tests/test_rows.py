"""Requests by rows become arrays, and arrays rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from eipack_serving import BadRequest
from eipack_serving.rows import columns, rows

X = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
COUNT = {"name": "count", "datatype": "INT8", "shape": [-1]}
MASK = {"name": "mask", "datatype": "BOOL", "shape": [-1]}


def test_the_rows_of_one_input_are_its_values() -> None:
    made = columns({"instances": [[1, 2.5], [3, 4]]}, [X])
    np.testing.assert_array_equal(made["x"], np.array([[1, 2.5], [3, 4]], "float32"))
    assert made["x"].dtype == np.float32


def test_the_rows_of_several_inputs_are_objects_by_their_names() -> None:
    given = [{"x": [1, 2], "count": 3, "mask": True}, {"mask": False, "x": [5, 6], "count": -4}]
    made = columns({"instances": given}, [X, COUNT, MASK])
    assert made["x"].tolist() == [[1, 2], [5, 6]]
    assert made["count"].tolist() == [3, -4]
    assert made["mask"].tolist() == [True, False]
    assert [one.dtype.name for one in made.values()] == ["float32", "int8", "bool"]


@pytest.mark.parametrize(
    ("payload", "inputs", "reason"),
    [
        ([[1, 2]], [X], 'no "instances"'),
        ({"instances": []}, [X], 'no "instances"'),
        ({"instances": [[1, 2], [3]]}, [X], "no FP32 of one shape"),
        ({"instances": [["a", "b"]]}, [X], "no FP32"),
        ({"instances": [[None, 1]]}, [X], "no FP32"),
        ({"instances": [{"x": [1, 2]}, {"y": [1, 2]}]}, [X], "instance 1 is not an object of x"),
        ({"instances": [[1, 2]]}, [X, COUNT], "instance 0 is not an object of count, x"),
        ({"instances": [1.5]}, [COUNT], "hold float64, it is INT8"),
        ({"instances": [300]}, [COUNT], "no INT8"),
        ({"instances": [2]}, [MASK], "hold int64, it is BOOL"),
        ({"instances": [1]}, [{"name": "h", "datatype": "BF16", "shape": [-1]}], "protocol v2"),
    ],
    ids=[
        "a list",
        "no rows",
        "ragged rows",
        "text",
        "nothing in place of a number",
        "another name",
        "values without names",
        "a fraction for an integer",
        "an integer too large",
        "a number for a truth value",
        "a datatype that JSON has no number for",
    ],
)
def test_rows_that_do_not_fit_are_refused(
    payload: Any, inputs: list[dict[str, Any]], reason: str
) -> None:
    with pytest.raises(BadRequest, match=reason):
        columns(payload, inputs)


def test_one_output_gives_its_values_by_rows() -> None:
    assert rows({"y": np.array([[1, 2], [3, 4]])}, 2) == [[1, 2], [3, 4]]


def test_several_outputs_give_objects_by_rows() -> None:
    made = rows({"y": np.array([[1], [2]]), "best": np.array([7, 8])}, 2)
    assert made == [{"y": [1], "best": 7}, {"y": [2], "best": 8}]


@pytest.mark.parametrize("output", [np.array(1.0), np.zeros((3, 2))], ids=["a scalar", "other"])
def test_an_output_that_is_not_by_rows_is_refused(output: np.ndarray) -> None:
    with pytest.raises(BadRequest, match="use protocol v2"):
        rows({"y": output}, 2)
