"""Compares two renders of a chart as an upgrade would: upgrade.py OLD NEW.

Fails when an object is gone, when a field changes that Kubernetes does not let change or that
connects objects, or when a Deployment's selector does not match its pods.
"""

import copy
import sys

import yaml

# Fields that are immutable, or by which others find the object or its pods.
FIXED = [
    "spec.selector",
    "spec.podSelector",
    "spec.scaleTargetRef",
    "spec.secretName",
    "spec.clusterIP",
    "spec.ipFamilies",
    "roleRef",
]


def field(value, path):
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def objects(file):
    """The objects of a render by kind and name, without hooks, which each upgrade makes anew."""
    found = {}
    with open(file) as text:
        for item in yaml.safe_load_all(text):
            if item and "helm.sh/hook" not in (field(item, "metadata.annotations") or {}):
                found[f"{item['kind']} {item['metadata']['name']}"] = item
    return found


def ports(item):
    """What clients of a Service are configured with."""
    return {port["name"]: port["port"] for port in field(item, "spec.ports") or []}


def wrong(old, new):
    for name, before in old.items():
        after = new.get(name)
        if after is None:
            yield f"{name} is gone"
            continue
        for path in FIXED:
            if field(before, path) != field(after, path):
                yield f"{name}: {path} was {field(before, path)}, is {field(after, path)}"
        if before["kind"] == "Service" and ports(before) != ports(after):
            yield f"{name}: its ports were {ports(before)}, are {ports(after)}"
    for name, item in new.items():
        wanted = field(item, "spec.selector.matchLabels") or {}
        labels = field(item, "spec.template.metadata.labels")
        if labels is not None and not wanted.items() <= labels.items():
            yield f"{name}: its selector {wanted} does not match its pods' labels {labels}"


def broken(old):
    """What an upgrade must not do, done to a copy of each object: (description, objects)."""
    for name, item in old.items():
        yield f"{name} goes", {key: value for key, value in old.items() if key != name}
        for path in FIXED:
            if field(item, path) is None:
                continue
            after = copy.deepcopy(old)
            parent, _, last = path.rpartition(".")
            holder = field(after[name], parent) if parent else after[name]
            holder[last] = {"other": "value"}
            yield f"{path} of {name} changes", after
        if item["kind"] == "Service":
            after = copy.deepcopy(old)
            after[name]["spec"]["ports"][0]["port"] += 1
            yield f"a port of {name} changes", after
        if field(item, "spec.template.metadata.labels"):
            after = copy.deepcopy(old)
            after[name]["spec"]["template"]["metadata"]["labels"] = {}
            yield f"the pods of {name} lose their labels", after


def main(old, new):
    old, new = objects(old), objects(new)
    found = list(wrong(old, new))
    # The check itself is held against what it must find.
    found += [f"not found: {what}" for what, after in broken(old) if not any(wrong(old, after))]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


sys.exit(main(sys.argv[1], sys.argv[2]))
