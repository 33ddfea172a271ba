"""Which choice is best, which are level with it, and why the others are not chosen."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from eipack.advisor import Advice, Choice, advise
from eipack.errors import EipackError
from eipack.measuring.report import Report, Resources, Row
from eipack.measuring.scenario import Scenario

from .conftest import HERE, PRICES, loaded, report, row


def ask(*reports: Report, **asked: Any) -> Advice:
    return advise(list(reports), prices=PRICES, **asked)


def only(advice: Advice) -> Choice:
    (choice,) = advice.choices
    return choice


def names(advice: Advice) -> list[tuple[str, int | None]]:
    return [(choice.name, choice.rank) for choice in advice.choices]


def test_the_cheapest_that_keeps_the_limit_is_best() -> None:
    advice = ask(
        report(row(20.0)),
        report(row(12.0), instance="c5.xlarge"),
        report(row(2.0, "cuda:0"), instance="gpu.large"),
        p90_ms=15,
    )
    assert names(advice) == [("gpu.large", 1), ("c5.xlarge", 2), ("c5.large", None)]
    assert advice.choices[2].excluded == "p90 is 20.16 ms, above 15 ms"
    assert advice.best == advice.choices[0]
    assert advice.nearest is None
    assert (advice.package, advice.limits, advice.by) == ("small", {"p90_ms": 15}, "serial")


def test_costs_that_overlap_share_a_rank() -> None:
    advice = ask(report(row(10.0), row(10.15, "cpu+quick"), row(11.0, "cpu+slow")))
    assert [choice.rank for choice in advice.choices] == [1, 1, 3]
    assert advice.sentence.endswith(
        "$1.00 per 100,000 calls; c5.large on cpu+quick cannot be told apart from it by cost"
    )


def test_costs_that_differ_by_less_than_the_noise_floor_share_a_rank() -> None:
    rows = (row(10.0), row(10.5, "cpu+quick"))
    assert [choice.rank for choice in ask(report(*rows)).choices] == [1, 2]
    assert [choice.rank for choice in ask(report(*rows, floor=0.06)).choices] == [1, 1]


def test_of_two_that_are_level_the_one_that_did_not_drift_is_best() -> None:
    advice = ask(report(row(10.0, stable=False), row(10.1, "cpu+quick")))
    assert advice.best is not None
    assert advice.best.target == "cpu+quick"


def test_latencies_that_drifted_are_warned_of_and_not_excluded() -> None:
    advice = ask(report(row(10.0, stable=False)), p90_ms=15)
    assert only(advice).rank == 1
    assert "the latencies of c5.large drifted" in " ".join(advice.warnings)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Row("cuda:0", error="no such device"), "it failed: no such device"),
        (Row("cpu", error="output 0 differs", wrong=True), "its outputs are wrong: output 0"),
        (Row("cpu", calls=0), "no calls were timed"),
        (row(1.0, calls=1), "one call says nothing of the next"),
    ],
)
def test_a_row_that_proves_nothing_is_shown_and_never_best(bad: Row, reason: str) -> None:
    advice = ask(report(bad, row(10.0, "cpu+slow")))
    assert advice.best is not None
    assert advice.best.target == "cpu+slow"
    assert reason in (advice.choices[1].excluded or "")


def test_a_candidate_that_is_wrong_under_load_is_wrong() -> None:
    bad = evolve(loaded(1.0, 4), error="output 0 differs", wrong=True)
    advice = ask(report(row(1.0), bad))
    assert advice.best is None
    assert advice.nearest is None
    assert advice.sentence == "nothing that was measured can be recommended; the table says why"


def test_too_few_calls_are_insufficient_and_say_how_many_more_it_takes() -> None:
    advice = ask(report(row(10.0, calls=20)), p90_ms=15)
    choice = only(advice)
    assert (choice.verdict, choice.more_calls) == ("insufficient", 44)
    assert choice.excluded == (
        "p90 is 10.08 ms; to tell whether it keeps 15 ms takes about 44 more calls"
    )
    assert advice.nearest == choice
    assert "less time" not in advice.sentence


def test_every_limit_has_to_be_kept() -> None:
    assert only(ask(report(row(10.0)), p90_ms=15, mean_ms=11)).verdict == "pass"
    choice = only(ask(report(row(10.0)), p90_ms=9, mean_ms=8, p50_ms=20))
    assert choice.verdict == "fail"
    assert choice.excluded == "mean is 10 ms, above 8 ms; p90 is 10.08 ms, above 9 ms"


def test_a_verdict_on_a_mean_knows_the_turns_and_ignores_those_that_do_not_add_up() -> None:
    halves = tuple(ns for part in (9, 11) for ns in [part * 1_000_000] * 500)
    drifting = evolve(row(10.0), samples_ns=halves, turns=(100,) * 10)
    assert only(ask(report(drifting), mean_ms=10.3)).verdict == "insufficient"
    assert only(ask(report(evolve(drifting, turns=(3,))), mean_ms=10.3)).verdict == "pass"


def test_serial_cost_is_that_of_one_call_after_another_with_its_interval() -> None:
    cost = only(ask(report(row(10.0)))).serial
    assert cost is not None
    assert (cost.usd, cost.low, cost.high) == pytest.approx((1.0, 0.99, 1.01))


def test_saturated_cost_is_that_of_the_highest_throughput_within_the_limit() -> None:
    rows = (row(10.0), loaded(14.0, 2), loaded(30.0, 8))
    choice = only(ask(report(*rows), p90_ms=15))
    assert choice.calls_per_s == pytest.approx(2000 / 14)
    assert choice.saturated_scenario == "closed-loop x2"
    assert choice.saturated is not None
    assert choice.saturated.usd == pytest.approx(0.1 * 14 / 2)
    assert choice.saturated.low == pytest.approx(0.1 * 14 / 2 * 0.99)
    assert choice.saturated.high == pytest.approx(0.1 * 14 / 2 * 1.01)
    free = only(ask(report(*rows)))
    assert free.saturated_scenario == "closed-loop x8"


def test_without_a_load_that_keeps_the_limit_one_caller_is_the_highest_throughput() -> None:
    choice = only(ask(report(row(10.0), loaded(30.0, 2)), p90_ms=15))
    assert choice.calls_per_s == pytest.approx(100)
    assert choice.saturated_scenario == "single-stream"


def test_a_batch_counts_as_the_calls_that_its_rows_would_take() -> None:
    one = row(10.0, scenario=Scenario(batch=2), rows_per_s=200.0)
    eight = row(20.0, scenario=Scenario(batch=8), calls_per_s=50.0, rows_per_s=400.0)
    choice = only(ask(report(one, eight)))
    assert choice.latencies["mean_ms"] == 10.0
    assert choice.calls_per_s == pytest.approx(200)


def test_figures_are_those_of_one_caller_before_any_other_load() -> None:
    arriving = row(9.0, scenario=Scenario("open-loop", rate_per_s=10.0))
    choice = only(ask(report(arriving, row(10.0, scenario=Scenario(batch=4)))))
    assert choice.scenario == "single-stream, batch 4"


def test_a_batch_whose_rows_nobody_counted_is_no_throughput() -> None:
    batch = row(20.0, scenario=Scenario(batch=8), calls_per_s=500.0)
    assert only(ask(report(row(10.0), batch))).calls_per_s == pytest.approx(100)


def test_an_open_loop_whose_queue_grew_is_no_throughput() -> None:
    arriving = Scenario("open-loop", rate_per_s=150.0)
    kept = row(11.0, scenario=arriving, calls_per_s=150.0)
    assert only(ask(report(row(10.0), kept))).calls_per_s == 150.0
    for bad in ({"stable": False}, {"unanswered": 3}):
        choice = only(ask(report(row(10.0), evolve(kept, **bad))))
        assert choice.calls_per_s == pytest.approx(100)


def test_the_ranking_is_by_saturated_cost_where_all_have_one() -> None:
    slow = report(row(10.0), loaded(10.0, 8))
    fast = report(row(4.0), loaded(8.0, 2), instance="c5.xlarge")
    assert (ask(slow, fast).by, names(ask(slow, fast))[0]) == ("saturated", ("c5.large", 1))
    assert names(ask(slow, fast, by="serial"))[0] == ("c5.xlarge", 1)
    without = ask(slow, report(row(4.0), instance="c5.xlarge"))
    assert without.by == "serial"
    asked = ask(slow, report(row(4.0), instance="c5.xlarge"), by="saturated")
    assert asked.choices[1].excluded == (
        "its throughput under load was not measured, or kept no limit"
    )


def test_load_alone_gives_no_serial_cost() -> None:
    choice = only(ask(report(loaded(10.0, 4), loaded(20.0, 9))))
    assert choice.serial is None
    assert choice.scenario == "closed-loop x4"
    assert choice.rank == 1
    assert "takes single-stream" in (
        ask(report(loaded(1.0, 4)), by="serial").sentence
        + str(only(ask(report(loaded(1.0, 4)), by="serial")).excluded)
    )


def test_a_rate_is_sized_by_what_one_can_serve_and_ranked_by_the_month() -> None:
    slow = report(row(10.0), loaded(10.0, 2))
    fast = report(row(2.0), loaded(4.0, 4), instance="c5.xlarge")
    advice = ask(slow, fast, qps=300)
    best, other = advice.choices
    assert (advice.by, best.name) == ("month", "c5.xlarge")
    assert best.sizing is not None
    assert (best.sizing.count, best.sizing.utilisation) == (1, pytest.approx(0.3))
    assert best.sizing.usd_per_month == pytest.approx(7.2 * 730)
    assert other.sizing is not None
    assert other.sizing.count == 3  # 200 calls/s at 70 % are 140
    assert advice.sentence == (
        "c5.xlarge has the lowest cost: $5,256.00 a month, where one serves 300 calls a second"
    )


def test_a_lower_utilisation_takes_more_of_them() -> None:
    sizing = only(ask(report(row(10.0)), qps=90, max_utilisation=0.3)).sizing
    assert sizing is not None
    assert (sizing.count, sizing.utilisation) == (3, pytest.approx(0.3))


def test_sizing_by_one_caller_is_warned_of() -> None:
    assert "no throughput under load is known" in " ".join(ask(report(row(10.0)), qps=9).warnings)


def test_an_attached_accelerator_is_paid_with_its_host() -> None:
    choice = only(ask(report(row(10.0, "eia:0", accelerator="eia2.medium"))))
    assert (choice.name, choice.kind) == ("c5.large + eia2.medium", "accelerator")
    assert choice.usd_per_hour == pytest.approx(5.4)


def test_an_accelerator_of_unknown_size_is_priced_by_its_target() -> None:
    measured = report(row(10.0, "eia:0"))
    with pytest.raises(EipackError, match=r"no price of eia:0.*--accelerator-price eia:0=0.12"):
        ask(measured)
    assert only(ask(measured, accelerators={"eia:0": 0.4})).usd_per_hour == pytest.approx(4.0)


def test_a_price_of_ones_own_goes_before_the_catalogue() -> None:
    measured = report(row(10.0, "eia:0", accelerator="eia2.medium"))
    choice = only(ask(measured, accelerators={"eia2.medium": "gpu.large/8"}))
    assert choice.usd_per_hour == pytest.approx(3.6 + 4.5)


@pytest.mark.parametrize("price", [0, -1, "nan", "cheap", "g4dn.xlarge/0.5", "/4", "inf"])
def test_a_price_that_is_none_is_refused(price: Any) -> None:
    with pytest.raises(ValueError, match="an accelerator's price is"):
        ask(report(row(10.0)), accelerators={"eia2.medium": price})


def test_weights_that_do_not_fit_exclude_a_choice() -> None:
    choice = only(ask(report(row(10.0), weights_bytes=5_000_000_000)))
    assert choice.excluded == "weights and inputs take 5 GB of memory, and it has 4.29 GB"
    assert ask(report(row(10.0), weights_bytes=5_000_000_000)).sentence == (
        "nothing that was measured can be recommended; c5.large comes nearest: weights and inputs "
        "take 5 GB of memory, and it has 4.29 GB"
    )


def test_a_measured_peak_that_does_not_fit_excludes_a_choice() -> None:
    took = Resources(host_peak_bytes=2_000_000_000, device_peak_bytes=3_000_000_000)
    measured = row(10.0, "eia:0", accelerator="eia2.medium", resources=took)
    advice = ask(report(measured))
    assert only(advice).excluded == "at its peak it took 3 GB of memory, and it has 2 GB"
    assert advice.nearest == only(advice)
    host = evolve(measured, resources=Resources(host_peak_bytes=5_000_000_000))
    assert "its process took 5 GB" in (only(ask(report(host))).excluded or "")


def test_memory_is_asked_of_where_the_model_lies() -> None:
    on_gpu = report(row(2.0, "cuda:0"), instance="gpu.large")
    has = only(ask(on_gpu)).memory.accelerator
    assert has == 16 * 2**30
    assert only(ask(on_gpu, min_memory_gb=has / 1e9)).excluded is None
    assert only(ask(on_gpu, min_memory_gb=17.2)).excluded is not None
    advice = ask(report(row(2.0)), min_memory_gb=16)
    assert only(advice).excluded == "there have to be 16 GB of memory, and it has 4.29 GB"
    assert advice.sentence.startswith("nothing that was measured has 16 GB of memory; c5.large")


def test_memory_that_nobody_knows_does_not_do() -> None:
    choice = only(ask(report(row(2.0, "npu:0")), min_memory_gb=1))
    assert choice.kind == "accelerator"
    assert choice.excluded == "nobody says whether it has 1 GB of memory"


def test_other_packages_are_refused_unless_they_are_asked_for() -> None:
    two = (report(row(10.0)), report(row(9.0), package="large", package_digest="blake3:1"))
    with pytest.raises(EipackError, match=r"small in report 1, large in report 2.*--different"):
        ask(*two)
    advice = ask(*two, different_packages=True)
    assert advice.package == "small, large"
    assert "the reports are of 2 different packages" in advice.warnings


def test_reports_by_several_versions_of_torch_are_warned_of() -> None:
    two = (report(row(10.0)), report(row(9.0), torch="2.11.0", instance="c5.xlarge"))
    assert "several versions of torch: 2.11.0, 2.13.0" in " ".join(ask(*two).warnings)


def test_a_choice_is_called_by_what_tells_it_from_others() -> None:
    failed = Row("cuda:9", error="no such device")
    assert ask(report(row(10.0), failed)).sentence.startswith("c5.large has the lowest cost")
    several = (row(10.0, program="exported"), row(20.0), row(30.0, precision="bfloat16"))
    assert ask(report(*several)).sentence.startswith("c5.large by exported has")
    again = (report(row(10.0)), report(row(12.0)))
    assert ask(*again).sentence.startswith("c5.large (report 1) has the lowest cost")


def test_calls_of_different_sizes_are_warned_of() -> None:
    batch = report(row(10.0, scenario=Scenario(batch=8)), instance="c5.xlarge")
    told = " ".join(ask(report(row(10.0)), batch).warnings)
    assert "are compared (single-stream; single-stream, batch 8)" in told
    assert ask(report(row(10.0))).warnings == ()


def test_a_report_that_is_given_twice_counts_once() -> None:
    assert len(ask(report(row(10.0)), report(row(10.0))).choices) == 1


def test_an_instance_without_a_price_does_not_stop_the_others() -> None:
    advice = ask(report(row(1.0), instance="c5.lrge"), report(row(10.0), instance="c5.xlarge"))
    assert names(advice) == [("c5.xlarge", 1), ("c5.lrge", None)]
    assert "did you mean c5.large" in (advice.choices[1].excluded or "")


def test_an_unknown_instance_alone_is_an_error_with_the_nearest_names() -> None:
    with pytest.raises(EipackError, match=r"no price of c5.lrge; did you mean c5.large or c5.xlar"):
        ask(report(row(1.0), instance="c5.lrge"))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"p90_ms": 0}, "p90_ms is 0; it has to be a number above 0"),
        ({"mean_ms": float("nan")}, "mean_ms is nan"),
        ({"qps": -1}, "qps is -1"),
        ({"min_memory_gb": float("inf")}, "min_memory_gb is inf"),
        ({"max_utilisation": 1.5}, "max_utilisation is 1.5"),
        ({"by": "month"}, "give qps"),
    ],
)
def test_numbers_out_of_range_are_refused(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ask(report(row(1.0)), **asked)


def test_no_reports_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to advise from"):
        ask()


def test_advice_is_json_for_programs() -> None:
    import json

    document = json.loads(ask(report(row(10.0)), p90_ms=15).to_json())
    assert document["best"]["serial"]["usd"] == pytest.approx(1.0)
    assert (document["schema_version"], document["by"]) == (1, "serial")
    assert document["prices"]["catalogue"] == "test"


def test_the_machine_that_was_measured_stands_in_for_memory_that_the_catalogue_lacks() -> None:
    prices = evolve(PRICES, prices=(evolve(PRICES.prices[0], memory_gib=None),))
    choice = only(advise(report(row(10.0)), prices=prices))
    assert choice.memory.host == HERE.memory_bytes
