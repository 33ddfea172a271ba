"""The nesting of values, described, taken apart and put together again."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eipack.errors import SignatureMismatch, UnsupportedModel
from eipack.tree import NONE, TENSOR, NamedOutputs, Tree, describe, flatten, unflatten

T = torch.zeros(1)
Pair = namedtuple("Pair", "first second")  # noqa: PYI024 - untyped ones are as common


@dataclass
class Record:
    value: object
    note: object = None


values = st.recursive(
    st.sampled_from([T, None]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3) | st.integers(0, 5), inner, max_size=3),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=12,
)


def same(left, right):
    if isinstance(left, torch.Tensor):
        return left is right
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        alike = type(left).__name__ == type(right).__name__ and len(left) == len(right)
        return alike and all(same(a, b) for a, b in zip(left, right, strict=True))
    return left == right


@given(values)
def test_taking_apart_and_putting_together_gives_the_same(value):
    tree, leaves, paths = describe(value, constants=False)
    assert len(leaves) == len(paths)
    assert flatten(tree, value) == leaves
    assert same(value, unflatten(tree, iter(leaves)))


@given(values)
def test_paths_lead_to_their_tensors(value):
    _, leaves, paths = describe({"root": value}, constants=False)
    assert all(path.split(".")[0] == "root" for path in paths)
    assert len(leaves) == len(paths)


def test_paths_name_keys_positions_and_fields():
    value = {"a": [T, (T,)], "p": Pair(T, {1: T}), "r": Record(T)}
    _, _, paths = describe(value, constants=False)
    assert paths == ["a.0", "a.1.0", "p.first", "p.second.1", "r.value"]


def test_constants_are_kept_where_they_are_allowed():
    tree, leaves, _ = describe((T, 3, True, "x", 0.5), constants=True)
    assert [child.value for child in tree.children] == [None, 3, True, "x", 0.5]
    assert unflatten(tree, iter(leaves)) == (T, 3, True, "x", 0.5)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((T, 3), "a int at '1' cannot be packaged"),
        ({"a": ["text"]}, "a str at 'a.0'"),
        (object(), "a object cannot be packaged"),
        ({1.5: T}, "a dict cannot be packaged"),
        ({T}, "a set cannot be packaged"),
    ],
    ids=["number", "text", "object", "float keys", "set"],
)
def test_what_is_no_tensor_is_named_with_its_place(value, message):
    with pytest.raises(UnsupportedModel, match=message):
        describe(value, constants=False)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": T}, r"expected a dict with the keys \['a', 'b'\], got a dict with the keys \['a'\]"),
        ({"a": T, "b": (T,)}, "at 'b': expected a tuple of 2, got a tuple of 1"),
        ({"a": T, "b": [T, None]}, "at 'b': expected a tuple of 2, got a list of 2"),
        ({"a": T, "b": (T, 3)}, "at 'b.1': expected None, got 3"),
        ([T], "expected a dict with the keys"),
        (None, "got NoneType"),
    ],
    ids=str,
)
def test_another_structure_is_explained_with_its_place(value, message):
    tree, _, _ = describe({"a": T, "b": (T, None)}, constants=False)
    with pytest.raises(SignatureMismatch, match=message):
        flatten(tree, value)


def test_the_order_of_keys_does_not_matter():
    other = torch.ones(1)
    tree, _, _ = describe({"a": T, "b": other}, constants=False)
    assert flatten(tree, {"b": other, "a": T}) == [T, other]


def test_a_constant_must_be_the_same_and_of_the_same_type():
    tree, _, _ = describe((T, 1), constants=True)
    for wrong in (2, True, 1.0, None):
        with pytest.raises(SignatureMismatch, match="the constant 1"):
            flatten(tree, (T, wrong))


def test_an_object_is_read_by_fields_or_by_keys():
    tree, _, _ = describe(Record(T), constants=False)
    assert (tree.kind, tree.keys, tree.type_name) == ("object", ("value", "note"), "Record")
    assert flatten(tree, Record(T)) == [T]
    assert flatten(tree, {"value": T}) == [T]
    with pytest.raises(SignatureMismatch, match="an object with the field 'value'"):
        flatten(tree, Pair(T, T))


def test_named_outputs_are_read_by_name_by_attribute_and_by_position():
    outputs = NamedOutputs({"logits": T, "states": None, "loss": 2 * T})
    assert list(outputs) == ["logits", "loss"]
    assert outputs.logits is outputs["logits"] is outputs[0] is T
    assert outputs.states is None
    assert outputs.to_tuple() == tuple(outputs.values())
    assert outputs[:1] == (T,)
    assert len(outputs) == 2
    with pytest.raises(KeyError):
        outputs["states"]


def test_named_outputs_have_the_tree_of_what_they_stand_for():
    tree, leaves, _ = describe(Record(T), constants=False)
    again, _, _ = describe(unflatten(tree, iter(leaves)), constants=False)
    assert (again.kind, again.keys, again.children) == (tree.kind, tree.keys, (TENSOR, NONE))


def test_an_ordered_dict_is_a_dict():
    tree, _, _ = describe(OrderedDict(a=T), constants=False)
    assert tree == Tree("dict", (TENSOR,), ("a",))
    assert tree.is_flat


def outputs():
    """Make named outputs with a field that shadows a method of dicts, and one that is None."""
    tree = Tree("object", (TENSOR, TENSOR, NONE), ("values", "indices", "extra"), type_name="Top")
    return unflatten(tree, iter([torch.tensor(1.0), torch.tensor(2)]))


def test_named_outputs_may_have_a_field_called_like_a_method_of_dicts():
    top = outputs()
    assert top[0] is top.values is top["values"]
    assert top.to_tuple() == (top["values"], top["indices"])
    assert top.extra is None


def test_named_outputs_can_be_copied_and_pickled():
    for again in (
        copy.copy(outputs()),
        copy.deepcopy(outputs()),
        pickle.loads(pickle.dumps(outputs())),
    ):
        assert type(again) is NamedOutputs
        assert list(again) == ["values", "indices"]
        assert again.extra is None


def test_keys_and_attributes_of_named_outputs_are_one():
    top = outputs()
    top["values"] = 3
    top.indices = 4
    assert (top.values, top["indices"]) == (3, 4)
    top.indices = None
    assert "indices" not in top
    assert top.indices is None


def test_a_named_tuple_has_one_class():
    tree = Tree("namedtuple", (TENSOR,), ("x",), type_name="Point")
    first, second = (unflatten(tree, iter([torch.zeros(1)])) for _ in range(2))
    assert type(first) is type(second)
