"""Reports and advice as real runs give them, made from a seed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from eipack.advisor.advice import Advice, Choice, Cost, Kind, PricesUsed, Sizing
from eipack.measuring.environment import Environment
from eipack.measuring.report import Noise, Parts, Report, Resources, Row, Settings, WarmUp
from eipack.measuring.scenario import Scenario
from eipack.statistics.percentiles import mean_ms, percentile_ms

HOSTILE = "<script>alert('x')</script>&$\\frac$\x1b[31m\u202e"
FIGURES = {"p50_ms": 50, "p90_ms": 90, "p95_ms": 95, "p99_ms": 99}


def environment(**more: Any) -> Environment:
    known: dict[str, Any] = {
        "date": "2026-11-20T09:30:12+00:00",
        "machine": "Intel(R) Xeon(R) Platinum 8488C",
        "cores": 8,
        "memory_bytes": 33_000_000_000,
        "instance": "c7i.2xlarge",
        "system": "Linux x86_64",
        "python": "3.11.9",
        "torch": "2.13.0+cpu",
        "threads": 8,
        "eipack": "0.1.0",
        "libraries": {"onnxruntime": "1.24.1", "openvino": "2026.1.0"},
        "package": "resnet18",
        "package_version": "3",
        "package_digest": "blake3:" + "4f1d" * 16,
        "weights_bytes": 46_800_000,
        "input_bytes": 602_112,
    }
    return Environment(**{**known, **more})


def latencies(middle_ms: float, calls: int, seed: int, *, drift: float = 0.0) -> np.ndarray:
    """Draw latencies with a tail, a few outliers among them."""
    draw = np.random.default_rng(seed)
    ms = middle_ms * (0.93 + 0.07 * draw.lognormal(0, 0.7, calls))
    ms[draw.random(calls) < 0.004] *= draw.uniform(1.5, 3)
    return ms * (1 + drift * np.linspace(0, 1, calls))


def row(target: str, middle_ms: float = 5.0, calls: int = 1000, seed: int = 1, **more: Any) -> Row:
    drift = more.pop("drift", 0.0)
    ns = (latencies(middle_ms, calls, seed, drift=drift) * 1e6).astype(int)
    samples = tuple(map(int, ns))
    figures = {name: percentile_ms(samples, percent) for name, percent in FIGURES.items()}
    half = 0.9 / max(calls, 1) ** 0.5
    ends = {name: (v * (1 - half / 8), v * (1 + half / 8)) for name, v in figures.items()}
    ends["p99_ms"] = (figures["p99_ms"] * 0.97, figures["p99_ms"] * 1.07 if calls > 300 else None)
    threads = more["scenario"].concurrency if "scenario" in more else 1
    known: dict[str, Any] = {
        "program": "torchscript",
        "method": "trace",
        "ran_on": target,
        "device": "Intel Xeon",
        "cold_start_ms": 3100.0 + middle_ms,
        "load_ms": 41.5,
        "first_ms": 6 * middle_ms,
        "warm_up": WarmUp(20, 22 * middle_ms, settled=True),
        "calls": calls,
        "discarded": 20,
        "mean_ms": mean_ms(samples),
        **figures,
        "intervals": {**ends, "mean_ms": (mean_ms(samples) * 0.99, mean_ms(samples) * 1.01)},
        "conservative_ms": {"p90_ms": figures["p90_ms"] * 1.01, "p99_ms": None},
        "stable": not drift,
        "calls_per_s": threads * 950 / middle_ms,
        "rows_per_s": threads * 950 / middle_ms,
        "resources": Resources(middle_ms * 3.9, 120_000_000, 810_000_000, None, None),
        "samples_ns": samples,
        "turns": tuple(min(50, calls - at) for at in range(0, calls, 50)),
        "began_ns": tuple(map(int, np.concatenate([[0], np.cumsum(ns)[:-1]]) * 4)),
    }
    return Row(target, **{**known, **more})


def report(rows: Sequence[Row], **more: Any) -> Report:
    noise = Noise("cpu", "torchscript", 1.004, 0.99, 1.018, 0.018)
    known: dict[str, Any] = {"noise": noise, "settings": Settings(calls=1000, seed=7)}
    known["environment"] = environment()
    return Report(2, "nearest-rank", rows=tuple(rows), **{**known, **more})


def usual_rows() -> list[Row]:
    remote = {
        "accelerator": "eia2.medium",
        "parts": Parts(0.31, 0.05, 3.1),
        "resources": Resources(0.7, 5_000_000, 400_000_000, 260_000_000, 0.78),
    }
    gone = "no accelerator 'eia:3' is attached (attached: eia:0); try: eipack eia attach"
    return [
        row("cpu", 9.1, seed=1),
        row("cpu+openvino", 6.2, seed=2, program="onnx", method="export"),
        row("cpu+onnxruntime", 6.25, seed=3, program="onnx", method="export", drift=0.25),
        row("eia:0", 3.5, seed=4, **remote),
        row("cuda:0", 1.4, seed=5, device="NVIDIA T4"),
        Row("eia:3", "torchscript", error=gone),
        Row("cpu+rough", "onnx", error="output 'logits' is off by 0.31", wrong=True),
    ]


def sweep_rows() -> list[Row]:
    loads = (1, 2, 4, 8, 16)
    return [
        row(
            target,
            middle * (1 + n / full),
            seed=n,
            scenario=Scenario("closed-loop" if n > 1 else "single-stream", concurrency=n),
        )
        for target, middle, full in (("cpu", 9.0, 4), ("cuda:0", 2.0, 9))
        for n in loads
    ]


@pytest.fixture
def usual() -> Report:
    return report(usual_rows())


def _kind(line: dict[str, str]) -> Kind:
    if line["accelerator"]:
        return "accelerator"
    return "gpu" if line["host"].startswith(("g4", "p3")) else "cpu"


PUBLISHED = """
host,accelerator,usd_per_hour,p90_ms,mean_ms
m5.large,eia2.medium,0.22,10.77,10.28
m5.large,eia2.large,0.34,9.02,8.72
m5.large,eia2.xlarge,0.44,8.78,8.50
m5.xlarge,eia2.medium,0.31,9.88,9.99
m5.xlarge,eia2.large,0.43,9.17,8.83
m5.xlarge,eia2.xlarge,0.53,8.99,8.64
c5.large,eia2.medium,0.21,9.89,10.03
c5.large,eia2.large,0.33,9.05,8.77
c5.large,eia2.xlarge,0.43,8.93,8.63
c5.xlarge,eia2.medium,0.29,10.04,10.07
c5.xlarge,eia2.large,0.41,8.93,8.59
c5.xlarge,eia2.xlarge,0.51,8.92,8.59
g4dn.xlarge,,0.53,5.97,5.92
g4dn.2xlarge,,0.76,5.95,5.90
g4dn.4xlarge,,1.20,5.98,5.96
c5.xlarge,,0.17,49.85,49.46
m5.xlarge,,0.19,55.20,54.45
c5.4xlarge,,0.68,17.52,17.38
m5.4xlarge,,0.77,17.07,16.90
p3.2xlarge,,3.06,9.60,9.31
"""


def published(limit_ms: float = 15.0) -> Advice:
    """Turn the published table into advice as it would be: those that qualify first, by cost."""
    choices = list[Choice]()
    for line in csv.DictReader(PUBLISHED.split()):
        p90, mean, hourly = (float(line[name]) for name in ("p90_ms", "mean_ms", "usd_per_hour"))
        choices.append(
            choice(
                line["host"],
                hourly / 3600 * mean / 1e3 * 1e5,
                p90,
                accelerator=line["accelerator"] or None,
                kind=_kind(line),
                usd_per_hour=hourly,
                intervals={},
                serial=Cost(hourly / 3600 * mean / 1e3 * 1e5),
                verdict="pass" if p90 < limit_ms else "fail",
            )
        )
    return advice(choices, limits={"p90_ms": limit_ms}, package="openai-gpt")


def choice(instance: str, usd: float = 0.1, p90_ms: float = 9.0, **more: Any) -> Choice:
    known: dict[str, Any] = {
        "accelerator": None,
        "kind": "cpu",
        "target": "cpu",
        "program": "torchscript",
        "precision": "float32",
        "source": "report.json",
        "usd_per_hour": 0.17,
        "latencies": {"mean_ms": p90_ms * 0.95, "p90_ms": p90_ms},
        "intervals": {"p90_ms": (p90_ms * 0.96, p90_ms * 1.05)},
        "serial": Cost(usd, usd * 0.94, usd * 1.06),
        "verdict": "pass" if p90_ms < 15 else "fail",
    }
    return Choice(instance, **{**known, **more})


def advice(choices: Sequence[Choice], **more: Any) -> Advice:
    def order(one: Choice) -> tuple[bool, float]:
        return (
            one.verdict != "pass" or one.excluded is not None,
            one.serial.usd if one.serial else 9,
        )

    ordered = sorted(choices, key=order)
    good = [one for one in ordered if not order(one)[0]]
    known: dict[str, Any] = {
        "package": "resnet18",
        "limits": {"p90_ms": 15.0},
        "best": good[0] if good else None,
        "nearest": None
        if good
        else min(ordered, key=lambda one: one.latencies.get("p90_ms", 9e9))
        if ordered
        else None,
        "sentence": f"{good[0].name} is the cheapest with p90 below 15 ms: $0.06 for 100,000 calls"
        if good
        else "nothing keeps p90 below 15 ms",
        "prices": PricesUsed(
            "ei-2020",
            "USD",
            ("us-east-1",),
            ("on-demand Linux",),
            "2020-06-01",
            "2020-06-01",
            ("published comparison",),
            historical=True,
        ),
        "warnings": ("the prices are historical: the services are no longer sold",),
    }
    return Advice(1, choices=tuple(ordered), **{**known, **more})


@pytest.fixture
def few() -> Advice:
    attached = {"accelerator": "eia2.medium", "kind": "accelerator", "target": "eia:0"}
    return advice(
        [
            choice("c5.large", 0.061, 9.9, sizing=Sizing(200, 3, 459.9, 0.71), **attached),
            choice("g4dn.xlarge", 0.087, 6.0, kind="gpu", target="cuda:0"),
            choice("c5.xlarge", 0.24, 49.9),
            choice("c5.4xlarge", 0.12, 14.7, verdict="insufficient", more_calls=1200),
            choice(
                "m5.large",
                0.0,
                0,
                serial=None,
                latencies={},
                intervals={},
                verdict=None,
                usd_per_hour=None,
                excluded="no price for m5.large in ei-2020",
            ),
        ]
    )
