"""Published weights by name: downloaded once, verified, and kept in a cache.

`python -m esrgan_jax.interop.zoo` lists them; with names as arguments it fetches those. Only
`fetch` uses the network, and only if neither this package nor the cache has the file.
"""

import argparse
import difflib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from esrgan_jax import bucket
from esrgan_jax.command_line import parse, program
from esrgan_jax.errors import InputError, RunError, run_command
from esrgan_jax.files import CACHE_VARIABLE, cache_folder, near, sha256
from esrgan_jax.interop.download import MEGABYTE, download
from esrgan_jax.interop.known_weights import PREFIX, WEIGHT_KINDS, ZOO, Weights

PACKAGED = Path(__file__).parents[1] / "weights"


def resolve(model: str | os.PathLike[str], kind: str = "generator") -> Path:
    """Returns the path of a MODEL argument: an existing path, or the file of a zoo name, fetched.

    Raises:
        InputError: It is neither, or names weights of another kind.
        RunError: As `fetch`.
    """
    require(model, kind)
    path = Path(os.path.expanduser(model))
    return path if os.path.exists(path) else fetch(os.fspath(model))


def require(model: str | os.PathLike[str], kind: str = "generator") -> None:
    """Raises an InputError unless a MODEL is an existing path or a zoo name; reads no file.

    A path may be a folder in a bucket.
    """
    name = os.fspath(model)
    path = Path(os.path.expanduser(name))
    names = [key for key, weights in ZOO.items() if weights.kind == kind]
    if name.startswith(bucket.SCHEMES):
        if not bucket.entries(bucket.opened(name)):
            raise InputError(f"{name}: no such folder; weight files in buckets are not read")
        return
    if name and (name in names or os.path.exists(path)):
        return
    if not name:
        raise InputError("the generator's name is empty: give a run, a weight file or a zoo name")
    problem = f"is {WEIGHT_KINDS[ZOO[name].kind]}" if name in ZOO else "no such file or directory"
    choice = _choice(name, names)
    similar_paths = near(path) if path.suffix and choice[-1] != "?" else ""
    raise InputError(
        f"{name}: {problem}, expected {WEIGHT_KINDS[kind]}: "
        f"a path, or a name of the zoo: {choice}{similar_paths}"
    )


def weights_path(name: str) -> Path:
    """Returns the path of a weight file: in this package, or in the cache after `fetch`.

    Raises:
        InputError: The zoo has no such name.
    """
    if name not in ZOO:
        raise InputError(f"{name}: is not in the zoo, which has {_choice(name, list(ZOO))}")
    weights = ZOO[name]
    folder = cache_folder() if weights.url else PACKAGED
    return folder / (weights.file or weights.url.rpartition("/")[2])


def fetch(name: str) -> Path:
    """Returns the path of a weight file, verified, and downloads it to the cache if necessary.

    A file that the user put into the cache is used if its hash is right, and so is a repacked file.
    A file with another hash is downloaded again. A download is moved into place after it is
    verified, so several processes may fetch the same file.

    Raises:
        InputError: The zoo has no such name.
        RunError: The file cannot be downloaded or is not the published one, the cache cannot be
            used, or the packaged file is missing or damaged.
    """
    path = weights_path(name)
    weights = ZOO[name]
    if not weights.url:
        if not path.is_file() or sha256(path) != weights.sha256:
            raise RunError(f"{path}: is missing or damaged: install esrgan_jax again")
        return path
    try:
        # The whole file is hashed each time, which is faster than reading the tensors.
        if weights.repacked:  # first, as it is smaller
            repacked, digest = path.with_name(weights.repacked[0]), weights.repacked[1]
            if _is_published(repacked, name, digest, "ignored"):
                return repacked
        if _is_published(path, name, weights.sha256, "downloaded again"):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not named by the process id, which can repeat on machines that share a cache.
        with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
            partial = Path(folder) / path.name
            _note(f"{name}: downloading {weights.url} to {path}")
            if problem := download(weights.url, partial, name, _size(weights), weights.sha256):
                raise RunError(
                    f"{name}: {weights.url} {problem}. "
                    f"Try again, or get the file on another machine and put it at {path}"
                )
            partial.replace(path)
    except OSError as error:
        raise RunError(
            f"{path}: the cache cannot be used: {error.strerror or error}. "
            f"Set {CACHE_VARIABLE} to a folder that can be written"
        ) from error
    verified = "sha256 verified"
    if len(weights.sha256) == PREFIX:
        verified = f"verified by the {PREFIX} digits of its sha256 that are published"
    _note(f"{name}: {verified}, licence {weights.licence}")
    return path


def _is_published(path: Path, name: str, digest: str, otherwise: str) -> bool:
    """Returns whether a file exists with the published sha256; prints a note on a wrong one."""
    if not path.exists():
        return False
    found = sha256(path)
    if found.startswith(digest):
        return True
    _note(
        f"{path}: is not {name} as published (its sha256 is {found}, expected {digest}); "
        f"it is {otherwise}"
    )
    return False


def _size(weights: Weights) -> int:
    # Parameters are float32 and make up nearly the whole file.
    return weights.size or 4 * weights.parameters


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _choice(name: str, names: list[str]) -> str:
    """Returns the names to choose from, followed by the one closest to `name`, if any."""
    # Users may give the published file's name: RealESRGAN_x4plus.pth.
    stem = Path(name).stem.lower().replace("_", "-")
    closest = difflib.get_close_matches(stem, names, 1, 0.7)
    return ", ".join(names) + (f". Did you mean {closest[0]}?" if closest else "")


def _publisher(url: str) -> str:
    """Returns the account on GitHub or the host of a URL, or esrgan_jax if the URL is empty."""
    parts = urlsplit(url)
    if parts.netloc == "github.com":
        return parts.path.split("/")[1]
    return parts.netloc.removeprefix("download.") or "esrgan_jax"


def zoo_table() -> str:
    """Returns the zoo as a text table, at most 100 characters wide."""
    rows = [("name", "for", "scale", "MB", "licence", "published by", "cached")]
    for name, weights in ZOO.items():
        scale = f"{weights.scale}x" if weights.scale else "-"
        path = weights_path(name)
        files = [path, path.with_name(weights.repacked[0])] if weights.repacked else [path]
        cached = "yes" if any(file.is_file() for file in files) else "no"
        cached = cached if weights.url else "packaged"
        size = str(round(_size(weights) / MEGABYTE) or "<1")
        publisher = _publisher(weights.url)
        rows.append((name, weights.what, scale, size, weights.licence, publisher, cached))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=program("interop.zoo"),
        description="List the weights that are known by name, or download some.",
        epilog="Commands that take a MODEL also take these names and download the file. Files are "
        f"kept in the user's cache, or in the folder that {CACHE_VARIABLE} names, unless packaged.",
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="weights to download (default: list)"
    )
    args = parse(parser, argv)
    if not args.names:
        print(zoo_table())
        print(f"\nThe cache is {cache_folder()}, or what {CACHE_VARIABLE} says.")
        return
    for name in args.names:
        weights_path(name)  # checks all names before the first download
    for name in args.names:
        print(fetch(name))
        print(f"  licence  {ZOO[name].licence}")
        if ZOO[name].data:
            print(f"  made of  {ZOO[name].data}")
        print(f"  cite     {ZOO[name].citation}")


if __name__ == "__main__":
    run_command(main)
