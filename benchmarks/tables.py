"""Write what README.md says of speed, and its plots, from the figures in benchmarks/results.

python -m benchmarks.tables
"""

from __future__ import annotations

import json
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.names import (
    CAREFUL,
    CAREFUL_FASTEST,
    CAREFUL_FASTEST_TORCH,
    CAREFUL_ORT,
    CAREFUL_TORCH,
    HIPEDGE,
    NAIVE,
    SAME_WORK,
)
from benchmarks.plots import draw_peers, draw_scaling, rounded

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
IMAGES = ROOT / "docs" / "img"
BEGIN, END = "<!-- speed -->\n", "<!-- end of speed -->\n"

# What hipedge is compared with in words.
CROPS_REFERENCES = {
    CAREFUL: "the careful loop",
    CAREFUL_FASTEST: "the one with the fastest decoders",
    NAIVE: "the naive one",
}
SCREENED_REFERENCES = {
    CAREFUL_ORT: "the careful loop with ONNX Runtime",
    CAREFUL_TORCH: "the one with PyTorch",
    CAREFUL_FASTEST_TORCH: "the one with the fastest decoders and PyTorch",
}
# A quiet machine has less than this many processes waiting for each core.
BUSY_LOAD = 0.5

Rates = Mapping[str, Mapping[str, float]]  # films a second, by transfer syntax and contender


def medians(peers: Mapping[str, Any], kind: str) -> dict[str, dict[str, float]]:
    """Return the median of each contender's rates, by transfer syntax."""
    return {
        syntax: {name: statistics.median(values) for name, values in figures[kind].items()}
        for syntax, figures in peers["syntaxes"].items()
    }


def render(
    peers: Mapping[str, Any],
    scaling: Mapping[str, Any],
    pipeline: Mapping[str, Any],
    start: Mapping[str, Any],
) -> str:
    """Return the section's text, without its heading."""
    crops, screened = medians(peers, "crops_per_s"), medians(peers, "screened_per_s")
    blocks = [
        _filled(
            "Films a second, from a file to the network's crops: each loop reads, decodes, crops"
            f" and shrinks, in the way that its documents show. {_inputs(peers)} hipedge also"
            " hashes the file, looks for damaged pixels and"
            " finds the hips; the others do none of it, and are given the boxes: *the same work* is"
            " hipedge's rate without hashing and finding, by its processes' clocks. The"
            " careful loop (OpenCV) windows and shrinks only the crops, in one thread, with"
            " pydicom's usual decoders or with the fastest; the naive one (scikit-image) takes the"
            " VOI LUT of the whole film. **Bold** is the fastest of those that all do."
        ),
        _table(crops, [(HIPEDGE, CAREFUL), (SAME_WORK, CAREFUL)]),
        _filled(_summary(crops, HIPEDGE, CROPS_REFERENCES)),
        _filled(_summary(crops, SAME_WORK, CROPS_REFERENCES)),
        _filled(
            "With the network behind, on the CPU: the command `hipedge screen` less its start"
            f" ({_backend(peers)}), which finds the hips and records its findings too, and the"
            " same loops with the same network."
        ),
        _table(screened, [(HIPEDGE, CAREFUL_TORCH)]),
        _filled(_summary(screened, HIPEDGE, SCREENED_REFERENCES)),
        "![films a second of hipedge and of others, by transfer syntax](docs/img/speed.svg)",
        _filled(_pipeline(pipeline)),
        *_cores(pipeline["cpu"]),
        _filled(_start(start["figures"])),
        _filled(_scaling(scaling)),
        "![rate and memory over a long run](docs/img/scaling.svg)",
        _filled(_measured("The loops", peers, "peers") + " " + _decoders(peers)),
        _filled(_measured("The whole line", pipeline, "pipeline")),
        _filled(_measured("The start", start, "start")),
        _filled(_measured("The long runs", scaling, "scaling")),
    ]
    return "\n\n".join(blocks)


def _filled(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _inputs(peers: Mapping[str, Any]) -> str:
    simulated = sum(name.startswith("phantom") for name in peers["films"])
    noun = "phantom" if simulated == 1 else "phantoms"
    return (
        f"The films: {simulated} {noun} of about 2500×3043 pixels, 12 bits, and a real one of"
        " 2140×1760 (NEMA WG04), which names no side, so that all see its hips both ways. Crops of"
        f" {peers['model']['size_px']} pixels."
    )


def _backend(peers: Mapping[str, Any]) -> str:
    return f"backend `{peers['backend'].split()[0]}`"


def _table(rates: Rates, ratios: Sequence[tuple[str, str]]) -> str:
    """Return a table of films a second, and in its last columns one rate over another."""
    contenders = list(max(rates.values(), key=len))
    head = ["transfer syntax", *contenders, *(f"{one} ÷ {other}" for one, other in ratios)]
    rows = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for syntax, by_name in rates.items():
        fastest = max(rate for name, rate in by_name.items() if name != SAME_WORK)
        cells = [_cell(by_name.get(name), fastest) for name in contenders]
        cells += [f"×{rounded(by_name[one] / by_name[other])}" for one, other in ratios]
        rows.append("| " + " | ".join([syntax, *cells]) + " |")
    return "\n".join(rows)


def _cell(rate: float | None, fastest: float) -> str:
    """Return a rate; none where a contender is the same as another one there."""
    if rate is None:
        return "–"
    return f"**{rounded(rate)}**" if rate == fastest else rounded(rate)


def _summary(rates: Rates, of: str, references: Mapping[str, str]) -> str:
    """Say how one contender compares over the syntaxes, and where any that is not ours is faster.

    Where a loop has no rate of its own for a syntax, the careful loop's is its rate too.
    """
    parts = []
    for reference, spoken in references.items():
        ratios = [by_name[of] / _rate_of(reference, by_name) for by_name in rates.values()]
        parts.append(
            f"×{rounded(statistics.median(ratios))} {spoken}"
            f" (×{rounded(min(ratios))} to ×{rounded(max(ratios))})"
        )
    faster = {
        syntax: [
            name
            for name, rate in by_name.items()
            if not name.startswith(HIPEDGE) and rate > by_name[of]
        ]
        for syntax, by_name in rates.items()
    }
    lost = [f"{syntax} ({', '.join(names)})" for syntax, names in faster.items() if names]
    verdict = f"Faster than that: {'; '.join(lost)}." if lost else "None is faster anywhere."
    *first, last = parts
    compared = f"{', '.join(first)} and {last}" if first else last
    return f"Over the syntaxes, {of} is in the median {compared}. {verdict}"


def _rate_of(name: str, by_name: Mapping[str, float]) -> float:
    return by_name[name] if name in by_name else by_name[name.replace(CAREFUL_FASTEST, CAREFUL)]


def _pipeline(pipeline: Mapping[str, Any]) -> str:
    """Say how near the whole line comes to what its parts allow."""
    fast, slow, cpu = (pipeline[name] for name in ("fast device", "slow device", "cpu"))
    return (
        f"The whole line, on {cpu['films']} phantoms: with a simulated device that answers in"
        f" 0.3 ms it delivers {fast['of_reading_alone']:.2f} of what reading alone does; one that"
        f" takes 30 ms for each hip is busy for {slow['busy']['device']:.2f} of the time. On the"
        f" CPU (`{cpu['backend'].split()[0]}`) it screens {rounded(cpu['films_per_s'])} films a"
        f" second, {cpu['efficiency']:.2f} of the limit that the parts alone imply; limited by the"
        f" {cpu['bottleneck']}; in {cpu['memory_mb']} MB."
    )


def _cores(cpu: Mapping[str, Any]) -> list[str]:
    """Return a table of the processor's time for a film, and what limits the rate.

    Nothing for figures of release 0.2 and before, which have no such times.
    """
    if "core_s_per_film" not in cpu:
        return []
    core_s = dict(cpu["core_s_per_film"])
    together = core_s.pop("pipeline")
    times = {**core_s, "all three alone": sum(core_s.values()), "the whole line": together}
    return [
        _filled(
            "Core-milliseconds a film there, of each part alone and of the whole line; limited by"
            f" {cpu['limited_by']}. Its energy cannot be measured on the machine, which has no RAPL"
            " counters."
        ),
        "\n".join(
            [
                "| " + " | ".join(times) + " |",
                "|" + "---:|" * len(times),
                "| " + " | ".join(rounded(1e3 * value) for value in times.values()) + " |",
            ]
        ),
    ]


def _start(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Say how long whole commands take."""
    ort, openvino = (figures[f"screen, {name}"] for name in ("onnxruntime", "openvino"))
    return (
        "The start: `hipedge screen` on a folder with one phantom, with the model that ships and"
        " into a new database, takes from its start to its end"
        f" {ort['wall_s']:.2f} s with ONNX Runtime and {openvino['wall_s']:.2f} s with OpenVINO"
        f" ({ort['core_s']:.2f} and {openvino['core_s']:.2f} s of processor time, of all its"
        f" processes); `hipedge flagged` takes {figures['flagged']['wall_s']:.2f} s, and the list"
        f" of commands {figures['help']['wall_s']:.2f} s. Nothing is installed there but what these"
        " need."
    )


def _scaling(scaling: Mapping[str, Any]) -> str:
    """Say how flat rate and memory stay, and what more workers bring."""
    *_, longest = sorted(scaling["runs"], key=lambda run: run["films"])
    parts = longest["films_per_s_by_part"]
    early, late = early_and_late_mb(longest["resident_mb"])
    cores = longest["workers"]
    by_count = {
        run["films"]: run["films_per_s"] for run in scaling["runs"][::-1] if run["workers"] == cores
    }
    by_workers = {
        run["workers"]: run["films_per_s"]
        for run in scaling["runs"]
        if run["films"] == scaling["runs"][-1]["films"]
    }
    counts = ", ".join(f"{rounded(by_count[count])} over {count:,}" for count in sorted(by_count))
    workers = ", ".join(
        f"{rounded(by_workers[count])} with {count}" for count in sorted(by_workers)
    )
    return (
        "Many small films, made for the run, with a stand-in for the network: films a second are"
        f" {counts}. In the tenths of the longest run they are {rounded(min(parts))} to"
        f" {rounded(max(parts))}, and its {longest['processes']} processes hold {early:.0f} MB"
        f" in its second tenth and {late:.0f} MB in its last but one, at most"
        f" {max(longest['resident_mb']):.0f} MB (pages that they share are counted each time)."
        f" By the number of workers: {workers}."
    )


def early_and_late_mb(resident_mb: list[float]) -> tuple[float, float]:
    """Return the median memory in the second and in the last but one tenth of a run.

    In the first tenth processes start, and in the last they end.
    """
    tenth = max(1, len(resident_mb) // 10)
    return (
        statistics.median(resident_mb[tenth : 2 * tenth] or resident_mb),
        statistics.median(resident_mb[-2 * tenth : -tenth] or resident_mb),
    )


def _measured(what: str, content: Mapping[str, Any], name: str) -> str:
    where = content["environment"]
    load = content["load_average"]
    busy = f", **busy with other work: a load of {load:.1f}**" if is_busy(content) else ""
    repeats = f", median of {content['repeats']}" if content.get("repeats", 1) > 1 else ""
    return (
        f"{what}: `python -m benchmarks.{name} {content['command'].split(' --json')[0]}`"
        f" at commit {where['commit']}, {where['date']}; {where['cores']} cores of an"
        f" {where['processor']}{busy}{repeats} ([figures](benchmarks/results/{name}.json))."
    )


def is_busy(content: Mapping[str, Any]) -> bool:
    """Say whether others were using the machine when the measurement began."""
    return bool(content["load_average"] > BUSY_LOAD * content["environment"]["cores"])


def _decoders(peers: Mapping[str, Any]) -> str:
    syntaxes = peers["syntaxes"].values()
    usual, fastest = (
        ", ".join(dict.fromkeys(figures["decoders"][kind] for figures in syntaxes))
        for kind in ("usual", "fastest")
    )
    versions = ", ".join(f"{name} {version}" for name, version in peers["peers"].items())
    return f"They decode with {usual}; the fastest are {fastest}. {versions}."


def load(name: str) -> dict[str, Any]:
    """Return the figures of a benchmark."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def main() -> None:
    """Write the section and the plots."""
    peers, scaling, pipeline, start = map(load, ("peers", "scaling", "pipeline", "start"))
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    section = render(peers, scaling, pipeline, start)
    README.write_text(f"{before}{BEGIN}{section}\n{END}{after}", encoding="utf-8")
    draw_peers(
        medians(peers, "crops_per_s"), medians(peers, "screened_per_s"), IMAGES / "speed.svg"
    )
    draw_scaling(scaling["runs"], IMAGES / "scaling.svg")


if __name__ == "__main__":
    main()
