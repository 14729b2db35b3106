"""Rules on several models together: their names, and which of them answers for another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from infra.deployment.environment import lists_models
from infra.deployment.file import Deployment
from infra.deployment.plan import Plan

from .model_kinds import CHATS
from .rule import Changes, Found, Severity, rule

_NAME = re.compile(r"[\w./:@+-]{1,256}")
"""What the orchestrator accepts where it chooses among names."""

_TAKES_IMAGES = "MODEL_TAKES_IMAGES"


def names(deployment: Deployment) -> list[tuple[str, str]]:
    """The place and the value of every name that a client may request."""
    named = []
    for seen in deployment.entries:
        model = seen.model
        named.append(
            (seen.in_file("model.served_name" if model.served_name else "model.id"), seen.served_model)
        )
        named += [(seen.in_file("model.aliases"), alias) for alias in model.aliases]
        named += [(f"{seen.in_file('model.adapters')}.{name}", name) for name in model.adapters]
    return named


@rule("model-names", Severity.ERROR)
def model_names(plan: Plan) -> Found[str]:
    """Every model, alias and adapter has a name of its own, which clients request it by."""
    named = names(plan.deployment)
    count = Counter(name for _, name in named)
    for name, uses in count.items():
        if uses > 1:
            first, place = [place for place, given in named if given == name][:2]
            if place.endswith(".id"):
                place = place.removesuffix("id") + "served_name"
            yield (place, f"{name!r} is also the name of {first}; give each a name of its own")
    labels = Counter(one.label for one in plan.entries)
    for one in plan.entries:
        if labels[one.label] > 1:
            yield (
                f"models.{one.deployment.entry}",
                "it differs from another entry only by a dash, so their resources would have the same names; "
                "rename one",
            )
            return


@rule("name-characters", Severity.ERROR)
def name_characters(plan: Plan) -> Found[str]:
    """The orchestrator does not start with a list of models in which a name has other characters."""
    if lists_models(plan):
        for place, name in names(plan.deployment):
            if not _NAME.fullmatch(name):
                yield (place, f"{name!r} must have 1 to 256 letters, digits and characters of ./:@+_-")


def _without_takes_images(plan: Plan) -> Iterator[Changes]:
    for section in ("orchestrator", "tools"):
        given = getattr(plan.deployment, section).environment
        if _TAKES_IMAGES in given:
            kept = {name: value for name, value in given.items() if name != _TAKES_IMAGES}
            yield {f"{section}.environment": kept}


@rule("takes-images", Severity.ERROR, _without_takes_images)
def takes_images(plan: Plan) -> Found[str]:
    """Where the orchestrator has a list of models, each says for itself whether it takes images."""
    if lists_models(plan):
        for changes in _without_takes_images(plan):
            yield (
                f"{next(iter(changes))}.{_TAKES_IMAGES}",
                "it has no effect here; set kind: vision for a model that takes images",
            )


@rule("fallback", Severity.ERROR)
def fallback(plan: Plan) -> Found[str]:
    """A fallback is another model of the same kind, and fallbacks do not go in circles."""
    models = plan.deployment.models
    for name, entry in models.items():
        if entry.fallback is None:
            continue
        place = f"models.{name}.fallback"
        other = models.get(entry.fallback)
        if other is None:
            yield (place, f"there is no entry {entry.fallback!r}; the entries are {', '.join(models)}")
        elif other is entry:
            yield (place, "a model cannot answer for itself; name another entry, or delete the setting")
        elif other.kind != entry.kind and not {other.kind, entry.kind} <= set(CHATS):
            yield (
                place,
                f"{entry.fallback} is of the kind {other.kind}, and {name} of the kind {entry.kind}",
            )
        elif entry.kind == "embedding":
            yield (
                place,
                "the vectors of two embedding models cannot be compared, so none answers for another; "
                "delete the setting",
            )
        elif circle := _circle(plan.deployment, name):
            yield (place, f"the fallbacks go in a circle: {' -> '.join(circle)}; delete one of them")
            return


def _circle(deployment: Deployment, name: str) -> list[str]:
    """The way back to an entry over fallbacks; empty if there is none."""
    way = [name]
    while (entry := deployment.models.get(way[-1])) and entry.fallback:
        way.append(entry.fallback)
        if way[-1] == name:
            return way
        if way[-1] in way[:-1]:
            return []
    return []


@rule("adapters-from-shared", Severity.ERROR)
def adapters_from_shared(plan: Plan) -> Found[str]:
    """Each model has a prefix of its own for further adapters, since an adapter fits one model only."""
    seen: dict[str, str] = {}
    for one in plan.deployment.entries:
        place, prefix = one.in_file("model.adapters_from"), one.model.adapters_from
        if prefix is None:
            continue
        prefix = prefix.rstrip("/") + "/"
        for other, its in seen.items():
            if prefix.startswith(its) or its.startswith(prefix):
                yield (
                    place,
                    f"{one.model.adapters_from} overlaps with {other}, and an adapter fits one model only; "
                    "give each model a prefix of its own",
                )
                break
        seen[place] = prefix


RULES = (model_names, name_characters, takes_images, fallback, adapters_from_shared)
