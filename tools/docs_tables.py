"""Writes the tables of scores in docs/ from the recorded results in docs/runs.

    python -m tools.docs_tables          # rewrites the tables that differ
    python -m tools.docs_tables --check  # only says which differ

A table follows a line `<!-- table: NAME -->`, and NAME is in TABLES. What `benchmarks.table` makes
of docs/runs/performance/NAME.jsonl, which a benchmark has written, is between a line
`<!-- benchmark: NAME -->` and a line `<!-- end of benchmark -->`.
"""

import argparse
import functools
import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.table import read_lines, sections
from esrgan_jax.command_line import parse
from esrgan_jax.errors import RunError, run_command
from esrgan_jax.evaluation.metrics import METRICS
from tools.docs_records import COLUMNS
from tools.docs_training import package, training

DOCS = Path(__file__).parents[1] / "docs"
MARK = re.compile(r"^(( *)<!-- table: (\w+) -->\n)(?: *\|.*\n)*", re.MULTILINE)
BENCHMARK = re.compile(
    r"(<!-- benchmark: (\w+) -->\n).*?(?=^<!-- end of benchmark -->$)", re.MULTILINE | re.DOTALL
)
KINDS = {  # of LR images, as the tables and tools/degrade_images.py name them
    "clean": "clean",
    **{f"JPEG {quality}": f"jpeg{quality}" for quality in (75, 50, 30)},
    **{"noise 10": "noise10", "blur": "blur", "phone": "phone"},
}
PAIRS = {"authors": ("RRDB_PSNR_x4", "RRDB_ESRGAN_x4"), "package": ("lite-x4-psnr", "lite-x4-gan")}
FILTERS = {
    "OpenCV, INTER_CUBIC": "opencv_cubic",
    "OpenCV, INTER_LINEAR": "opencv_linear",
    "OpenCV, INTER_AREA": "opencv_area",
    "Pillow, BICUBIC": "pillow_bicubic",
}
SHOWN = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # alphas
CHANGES = {  # rows of configs/ablations/lite.py
    "srgan_baseline": "residual blocks with batch normalisation, features after activation, GAN",
    "no_bn": "without batch normalisation",
    "before_activation": "features before activation",
    "ragan": "relativistic average GAN",
    "rrdb": "dense blocks",
    "no_l1": "`rrdb` without the L1 term",
    "no_psnr": "`rrdb` without a PSNR stage",
}
ANIME = "RealESRGAN_x4plus_anime_6B"

Scores = Mapping[str, float]


def read(name: str) -> Any:
    """Returns the content of a JSON file in docs/runs."""
    return json.loads((DOCS / "runs" / f"{name}.json").read_text())


def alphas(pair: str, dataset: str, kind: str = "network") -> list[dict[str, float]]:
    """Returns the scores of a pair of networks for each alpha."""
    return read(f"interpolation/{pair}_{dataset.lower()}")[kind]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Returns a table for GitHub, of texts; all but the first `texts` columns are numbers."""
    lines = [head, ["---"] * texts + ["--:"] * (len(head) - texts), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def marked(metric: str, values: Sequence[float]) -> list[str]:
    """Returns the values as printed; those printed like the best one are in bold."""
    shown = [METRICS[metric].shown(value) for value in values]
    best = METRICS[metric].shown(METRICS[metric].best(values))
    return [f"**{text}**" if text == best else text for text in shown]


def networks(dataset: str, methods: Sequence[str], metrics: Sequence[str]) -> str:
    """Returns a table of networks on a dataset; a line for each of `methods`."""
    found: dict[str, Scores] = {}
    for pair, (psnr, gan) in PAIRS.items():
        whole = read(f"interpolation/{pair}_{dataset.lower()}")
        lines = {line["alpha"]: line for line in whole["network"]}
        found |= {"bicubic": whole["bicubic"], psnr: lines[0], gan: lines[1]}
        if pair == "package":
            found["lite-x4, alpha 0.8, denoise 0"] = lines[0.8]
    for method in set(methods) - set(found):
        found[method] = read(f"{method}_{dataset.lower()}")["mean"]
    columns = [marked(name, [found[method][name] for method in methods]) for name in metrics]
    count = read(f"interpolation/package_{dataset.lower()}")["images"]
    head = [f"{dataset}, x4, mean of {count}", *(METRICS[name].arrowed for name in metrics)]
    return table(head, [[*row] for row in zip(methods, *columns, strict=True)])


def paper() -> str:
    """Returns the paper's table: published scores, and those of this code where measured."""
    published = read("published")
    sets = list(published["bicubic"])
    rows = []
    for method in ("bicubic", "RRDB_PSNR_x4"):
        rows.append([f"{method}, published"])
        rows.append([f"{method}, this code"])
        for dataset in sets:
            rows[-2].append("{:.2f} / {:.4f}".format(*published[method][dataset]))
            path = DOCS / "runs" / f"interpolation/authors_{dataset.lower()}.json"
            scores = _ends(path).get(method) if path.exists() else None
            rows[-1].append(
                f"{scores['psnr_y']:.2f} / {scores['ssim_y']:.4f}" if scores else "not measured"
            )
    return table(["x4, PSNR-Y / SSIM-Y", *sets], rows)


def _ends(path: Path) -> dict[str, Scores]:
    whole = json.loads(path.read_text())
    return {"bicubic": whole["bicubic"], whole["psnr_model"]: whole["network"][0]}


def interpolation(dataset: str) -> str:
    """Returns scores over alpha, of networks and pictures, for both pairs."""
    rows: list[list[str]] = []
    for pair in PAIRS:
        for kind in ("network", "picture"):
            for name in ("psnr_y", "lpips", "niqe"):
                lines = {line["alpha"]: line for line in alphas(pair, dataset, kind)}
                cells = [METRICS[name].shown(lines[alpha][name]) for alpha in SHOWN]
                rows.append([f"{pair}, {kind}, {METRICS[name].heading}", *cells])
    return table([f"{dataset}, alpha", *(f"{alpha:g}" for alpha in SHOWN)], rows)


def lr_filters() -> str:
    """Returns PSNR on LR images that other programs made, beside MATLAB's bicubic."""
    rows = [["MATLAB's bicubic", *_three(_of_pair("Set5"))]]
    for title, name in FILTERS.items():
        means = {each["model"]: each["mean"] for each in read(f"lr_filters/{name}")["models"]}
        rows.append([title, *_three(means)])
    return table(["LR of Set5 by", "bicubic", *PAIRS["authors"]], rows)


def _of_pair(dataset: str) -> dict[str, Scores]:
    whole = read(f"interpolation/authors_{dataset.lower()}")
    psnr, gan = PAIRS["authors"]
    return {"bicubic": whole["bicubic"], psnr: whole["network"][0], gan: whole["network"][-1]}


def _three(means: Mapping[str, Scores]) -> list[str]:
    return [f"{means[name]['psnr_y']:.2f}" for name in ("bicubic", *PAIRS["authors"])]


def degraded(metric: str, decimals: int, dataset: str = "Set14") -> str:
    """Returns the scores of networks on degraded images; the best ones as printed are bold."""
    folder = "degraded" if dataset == "Set14" else f"degraded_{dataset.lower()}"
    kinds = [read(f"{folder}/{name}") for name in KINDS.values()]
    columns = []
    for kind in kinds:
        texts = [f"{scores[metric]:.{decimals}f}" for scores in kind["models"].values()]
        best = METRICS[metric].best(map(float, texts))
        columns.append([f"**{text}**" if float(text) == best else text for text in texts])
    heading = f"{METRICS[metric].heading} of {dataset} {METRICS[metric].better}"
    rows = zip(kinds[0]["models"], *columns, strict=True)
    return table([heading, *KINDS], [[*row] for row in rows])


def ablations() -> str:
    """Returns the scores of small networks that differ in one thing each."""
    means = {each["model"]: each["mean"] for each in read("ablations/set14")["models"]}
    metrics = ("psnr_y", "lpips", "brightness")
    rows = []
    for name, change in CHANGES.items():
        scores = means.get(name)
        cells = [METRICS[m].shown(scores[m]) if scores else "not run" for m in metrics]
        rows.append([f"`{name}`", change, *cells])
    return table(["row", "change", *(METRICS[m].arrowed for m in metrics)], rows, texts=2)


def activations() -> str:
    """Returns the share of VGG's features that are positive, of the baboon and on average."""
    shares = read("vgg_activations")
    layers = list(shares["baboon"])
    mean = {name: sum(each[name] for each in shares.values()) / len(shares) for name in layers}
    rows = {"baboon": shares["baboon"], f"Set14, mean of {len(shares)}": mean}
    texts = [
        [title, *(f"{100 * share[name]:.1f} %" for name in layers)] for title, share in rows.items()
    ]
    return table(["positive features", *layers], texts)


def records(name: str) -> str:
    """Returns a table of `docs_records`."""
    lines = (DOCS / "runs" / f"{name}.jsonl").read_text().splitlines()
    columns = COLUMNS[name]
    return table([*columns.formats], columns.rows([*map(json.loads, lines)]), columns.texts)


def benchmark(name: str) -> str:
    """Returns what a benchmark measured: for each machine its name, a table and notes."""
    lines = read_lines([DOCS / "runs" / "performance" / f"{name}.jsonl"])
    return "".join(f"{text}\n\n" for _, text in sections(lines))


LITE = ("lite-x4-psnr", "lite-x4, alpha 0.8, denoise 0", "lite-x4-gan")
ALL = ("bicubic", *LITE, *PAIRS["authors"])
SHORT = ("psnr_y", "ssim_y", "lpips", "niqe")
TABLES: dict[str, Callable[[], str]] = {
    "paper": paper,
    "set5": lambda: networks("Set5", ALL, SHORT),
    "set14": lambda: networks("Set14", ALL, SHORT),
    "published_networks": lambda: networks(
        "Set5",
        ("bicubic", *PAIRS["authors"], ANIME),
        ("psnr_y", "lpips", "niqe", "ssim_y", "psnr_rgb"),
    ),
    "published_set14": lambda: networks(
        "Set14", ("bicubic", *PAIRS["authors"]), ("psnr_y", "ssim_y", "psnr_rgb")
    ),
    "alpha_set5": lambda: interpolation("Set5"),
    "alpha_set14": lambda: interpolation("Set14"),
    "lr_filters": lr_filters,
    "activations": activations,
    "ablations": ablations,
    "degraded_lpips": lambda: degraded("lpips", 3),
    "degraded_psnr": lambda: degraded("psnr_y", 2),
    "degraded_niqe": lambda: degraded("niqe", 2),
    "kodak_lpips": lambda: degraded("lpips", 3, "Kodak24"),
    "kodak_psnr": lambda: degraded("psnr_y", 2, "Kodak24"),
    "kodak_niqe": lambda: degraded("niqe", 2, "Kodak24"),
    "package": lambda: table(["", ""], package(), texts=2),
    "training": lambda: table(["", "PSNR stage", "GAN stage"], training("lite_x4"), texts=3),
    "training_real": lambda: table(
        ["", "PSNR stage", "GAN stage"], training("lite_real_x4"), texts=3
    ),
    **{name: functools.partial(records, name) for name in COLUMNS},
}


def rewritten(text: str) -> str:
    """Returns a page with its marked tables made anew."""
    text = MARK.sub(lambda match: match[1] + textwrap.indent(TABLES[match[3]](), match[2]), text)
    return BENCHMARK.sub(lambda match: match[1] + benchmark(match[2]), text)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command.

    Raises:
        RunError: With --check, a table differs from the recorded results.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.docs_tables", description="Write the tables of docs from docs/runs."
    )
    parser.add_argument("--check", action="store_true", help="change nothing, fail if one differs")
    args = parse(parser, argv)
    differ = []
    for page in sorted(DOCS.glob("**/*.md")):
        text = page.read_text()
        if (new := rewritten(text)) != text:
            differ.append(page.name)
            if not args.check:
                page.write_text(new)
    if differ and args.check:
        raise RunError(f"tables of {', '.join(differ)} differ: python -m tools.docs_tables")
    print("written:" if differ else "nothing differs", *differ)


if __name__ == "__main__":
    run_command(main)
