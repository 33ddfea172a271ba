import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
import torch
from attrs import evolve
from torch import nn

import eipack
from eipack.errors import FormatVersionError, MalformedPackage
from eipack.manifest import Manifest, json_schema

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def manifest(shared_home):
    model = nn.Linear(4, 2).eval()
    batch = torch.export.Dim("batch", min=1, max=4)
    package = eipack.export(
        model,
        inputs=(torch.ones(2, 4),),
        method=["trace", "export"],
        dynamic_shapes={"input": {0: batch}},
        name="linéaire",
    )
    return package.manifest


def spoiled(manifest, change):
    document = json.loads(manifest.to_json())
    change(document)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n"


def test_a_manifest_comes_back(manifest):
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_the_spelling_is_that_of_pythons_json(manifest):
    assert spoiled(manifest, lambda _: None) == manifest.to_json()


@pytest.mark.parametrize("value", [1e-05, 1e22, 0.1, 5e-324, 3.0, 1.7976931348623157e308])
def test_floats_keep_their_value_and_spelling(manifest, value):
    error = evolve(manifest.evidence[0].checks[0].outputs[0], max_abs=value)
    check = evolve(manifest.evidence[0].checks[0], outputs=(error,))
    other = evolve(manifest, evidence=(evolve(manifest.evidence[0], checks=(check,)),))
    assert repr(value).encode() in other.to_json()
    assert Manifest.from_json(other.to_json()) == other


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b",", b", ", 1),
        lambda data: data.rstrip(),
        lambda data: data + b"\n",
        lambda data: data.replace("é".encode(), b"\\u00e9"),
        lambda data: data.replace(b'{"assets"', b'{"added":1,"assets"'),
        lambda data: data.replace(b'"format":"eipack"', b'"format":"eipack","format":"eipack"'),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: b"[" * 100_000,
        lambda data: b"",
        lambda data: b'{"format":"eipack","format_version":1}\n',
    ],
)
def test_any_other_spelling_is_refused(manifest, change):
    with pytest.raises(MalformedPackage):
        Manifest.from_json(change(manifest.to_json()))


@pytest.mark.parametrize("version", [0, 2, "1", None, 1e300])
def test_another_format_version_is_refused_with_what_to_do(manifest, version):
    data = spoiled(manifest, lambda document: document.update(format_version=version))
    with pytest.raises(FormatVersionError, match="pip install -U eipack") as caught:
        Manifest.from_json(data)
    assert caught.value.version == version


def double(key):
    return lambda document: document[key].append(document[key][0])


def double_spec(side):
    def change(document):
        document["signature"][side].append(document["signature"][side][0])

    return change


def put(value, *path):
    def change(document):
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return change


DEEP = {"kind": "tensor", "children": [], "keys": [], "value": None, "type_name": ""}
for _ in range(120):
    DEEP = {**DEEP, "kind": "list", "children": [DEEP]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (double("members"), "twice among its members"),
        (double("entries"), "twice among its entries"),
        (double("programs"), "twice among its programs"),
        (double("tensors"), "twice among its tensors"),
        (double_spec("inputs"), "twice among its inputs"),
        (double_spec("outputs"), "twice among its outputs"),
        (put("other", "tensors", 0, "entry"), "'other', which is none of its entries"),
        (put({"0": "other"}, "programs", 0, "bindings"), "'other', which is none of its entries"),
        (put(["programs/x/y"], "programs", 0, "members"), "none of its members"),
        (put(["weights.safetensors"], "programs", 0, "members"), "members of another one"),
        (put("other", "evidence", 0, "program"), "none of its programs"),
        (put(None, "members", 0, "digest"), "must have a digest"),
        (put("weights", "members", -1, "name"), "none of its members|must have a digest"),
        (put([], "entries", 0, "chunks"), "has 0 chunks"),
        (put(-1, "entries", 0, "nbytes"), "chunks"),
        (put(DEEP, "signature", "output_tree"), "nested more than 100 deep"),
        (put(["a"], "signature", "output_tree", "keys"), None),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(manifest, change, words):
    data = spoiled(manifest, change)
    if words is None:
        data = spoiled(manifest, put(["a", "b"], "signature", "input_tree", "keys"))
        words = "other keys than children"
    with pytest.raises(MalformedPackage, match=words):
        Manifest.from_json(data)


def test_the_published_schema_is_up_to_date():
    published = json.loads((ROOT / "docs" / "manifest.schema.json").read_text())
    assert published == json.loads(json.dumps(json_schema())), (
        "run: python -m eipack.manifest > docs/manifest.schema.json"
    )


def test_manifests_follow_the_published_schema(manifest):
    schema = json.loads((ROOT / "docs" / "manifest.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(manifest.to_json()))


@pytest.mark.parametrize("change", [put(1, "name"), put(1, "more"), lambda d: d.pop("narrowed")])
def test_other_documents_do_not_follow_the_schema(manifest, change):
    document = json.loads(manifest.to_json())
    change(document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json_schema())


def test_every_other_field_is_spelled_out_so_that_no_default_hides(manifest):
    document = msgspec.json.decode(manifest.to_json())
    assert document["signature"]["dims"] == [{"name": "batch", "min": 1, "max": 4, "sizes": None}]
    assert document["programs"][0]["target"] is None


def test_independent_rows_are_told_and_others_are_left_out_as_in_older_packages(manifest):
    assert json.loads(manifest.to_json())["programs"][0]["batch_independent"] is True
    older = spoiled(manifest, lambda document: document["programs"][0].pop("batch_independent"))
    read = Manifest.from_json(older)
    assert [program.batch_independent for program in read.programs] == [False, True]
    assert read.to_json() == older
    jsonschema.validate(json.loads(older), json_schema())


def test_dependent_rows_are_not_spelled_out(manifest):
    change = put(False, "programs", 0, "batch_independent")
    with pytest.raises(MalformedPackage, match="canonical"):
        Manifest.from_json(spoiled(manifest, change))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(spoiled(manifest, change)), json_schema())
