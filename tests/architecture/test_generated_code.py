"""The generated code is what the compiler makes of `proto/`, untouched by hand."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from tests.architecture.sources import GENERATED, ROOT

SCHEMAS = sorted((ROOT / "proto" / "fusion_cluster" / "v1").glob("*.proto"))


def without_json_names(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    """protoc fills them in for a descriptor set, and not for generated code."""
    copy = descriptor_pb2.FileDescriptorProto.FromString(file.SerializeToString())
    messages = list(copy.message_type)
    while messages:
        message = messages.pop()
        messages += message.nested_type
        for field in message.field:
            field.ClearField("json_name")
    return copy


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda path: path.name)
def test_a_generated_module_says_what_its_schema_says(schema: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "descriptors"
    status = find_spec("google.rpc.status_pb2")
    assert status is not None
    assert status.origin is not None
    include = [f"-I{ROOT / 'proto'}", f"-I{Path(status.origin).parents[2]}"]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", *include, f"--descriptor_set_out={fresh}", str(schema)]
    subprocess.run(protoc, check=True, timeout=60)
    (compiled,) = descriptor_pb2.FileDescriptorSet.FromString(fresh.read_bytes()).file
    module = import_module(f"fusion_cluster.v1.{schema.stem}_pb2")
    generated = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    assert without_json_names(generated) == without_json_names(compiled)


def test_every_generated_file_is_marked_and_has_its_schema() -> None:
    stems = {schema.stem for schema in SCHEMAS}
    for path in GENERATED.glob("*_pb2*"):
        assert path.name.split("_pb2")[0] in stems, f"{path.name} has no schema in proto/"
        assert "generated" in "\n".join(path.read_text().splitlines()[:5]).lower(), f"{path.name} is not marked"
