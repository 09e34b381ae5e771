"""Makes JSON schemas of CRDs for kubeconform, one file per kind and version.

crd_schemas.py FOLDER FILE…

Unknown fields are refused, as `kubectl apply` with strict validation refuses them.
"""

import json
import pathlib
import sys

import yaml


def strict(schema):
    """Closes every object that names its fields and does not say that it keeps others."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(value) for key, value in schema.items()}
    if (
        isinstance(schema.get("properties"), dict)
        and "additionalProperties" not in schema
        and not schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        schema["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        schema["type"] = ["integer", "string"]
    return schema


def main(folder, files):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        for crd in yaml.safe_load_all(pathlib.Path(file).read_text()):
            spec = crd["spec"]
            kind, group = spec["names"]["kind"].lower(), spec["group"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                # Every object has metadata, whatever its CRD says of it.
                schema["properties"]["metadata"] = {"type": "object"}
                path = folder / f"{kind}-{group}-{version['name']}.json"
                path.write_text(json.dumps(schema))


main(sys.argv[1], sys.argv[2:])
