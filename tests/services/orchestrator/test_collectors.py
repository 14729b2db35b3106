"""Labels of the metrics of one model and of several. What each metric counts: test_telemetry.py."""

from __future__ import annotations

from orchestrator.collectors import Counts, Durations, EngineCollector, EngineLoad, EngineState, LoadCollector
from orchestrator.telemetry import Telemetry

STATES = [EngineState("10.0.0.1:8000", True, 3)]


def samples(collector: LoadCollector | EngineCollector) -> dict[tuple[str, str], float]:
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for metric in collector.collect()
        for sample in metric.samples
    }


def test_load_of_a_single_model_has_no_label() -> None:
    found = samples(LoadCollector(lambda: {"": EngineLoad(requests=4, up=2)}, Telemetry().totals))
    assert found["engine_demand", ""] == 4
    assert found["demand_per_engine", ""] == 2


def test_load_of_several_models_has_a_label_and_leaves_out_what_is_unknown() -> None:
    loads = {"a": EngineLoad(requests=4, up=2, kv_cache=0.5), "b": EngineLoad(held=3)}
    found = samples(LoadCollector(lambda: loads, Telemetry().totals))
    assert (found["engine_demand", "a"], found["engine_demand", "b"]) == (4, 0)
    assert (found["held_demand", "a"], found["held_demand", "b"]) == (0, 3)
    assert found["kv_cache_use_percent", "a"] == 50
    assert ("kv_cache_use_percent", "b") not in found
    assert not any(name == "engine_start_seconds" for name, _ in found)


def test_states_of_several_models_name_the_model() -> None:
    assert samples(EngineCollector(lambda: {"": STATES}))["engine_up", "10.0.0.1:8000"] == 1
    found = samples(EngineCollector(lambda: {"a": STATES, "b": STATES}))
    assert found["engine_requests_in_flight", "10.0.0.1:8000,b"] == 3


def test_counts_and_durations_without_labels_start_at_zero() -> None:
    [count] = Counts("c", "", []).collect()
    assert [sample.value for sample in count.samples] == [0]
    [durations] = Durations("d", "", []).collect()
    assert {sample.value for sample in durations.samples} == {0}
