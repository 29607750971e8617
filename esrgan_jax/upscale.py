"""Upscales images and videos: `python -m esrgan_jax.upscale INPUT… --output=PATH`."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from esrgan_jax.batch import made_by
from esrgan_jax.batch.arguments import check_files, parse_arguments
from esrgan_jax.batch.jobs import STREAM, Job, ResultOptions, noun, plan
from esrgan_jax.batch.passed_over import passed_over
from esrgan_jax.batch.report import Report
from esrgan_jax.errors import InputError, RunError, listed, printable, run_command
from esrgan_jax.video import parts as video_parts

CLEANING_SECONDS = 5  # a second Ctrl-C after this time ends the process at once


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command.

    Raises:
        InputError: The arguments are wrong, or no named input can be upscaled.
        RunError: Some inputs could not be upscaled.
    """
    args = parse_arguments(argv)
    jobs = plan(
        args.inputs,
        args.output,
        suffix=args.suffix,
        extension=args.extension,
        is_folder=args.is_folder,
    )
    check_files(args, jobs)

    import jax

    from esrgan_jax.batch.upscale_images import read_stream, upscale_files
    from esrgan_jax.compilation import keep_programs
    from esrgan_jax.sharding import split_cpu
    from esrgan_jax.upscaling.options import LARGEST_SIDE
    from esrgan_jax.upscaling.upscaler import Upscaler, result_size

    split_cpu()
    part, parts = args.share or (jax.process_index(), jax.process_count())
    jobs = jobs[part::parts]
    _check_existing(args, jobs)
    options = ResultOptions(
        *(args.scale, args.size, args.extension or ".png", args.depth, args.quality, args.lossless),
        settings=args.settings,
    )
    # Report sizes that are wrong for every image before a model is loaded.
    result_size((LARGEST_SIDE, LARGEST_SIDE), args.scale, args.size)
    out = sys.stderr if args.output == STREAM else sys.stdout
    keep_programs()
    upscaler = Upscaler.load(
        args.models,
        psnr_model=args.psnr_model,
        alpha=args.alpha,
        denoise=args.denoise,
        tile=args.tile,
        overlap=args.overlap,
        exact=args.exact,
        seamless=args.seamless,
        ensemble=args.ensemble,
        strength=args.strength,
        color=args.color,
        dtype=args.dtype,
        spatial=args.spatial,
    )
    stream = read_stream(jobs)
    if args.overwrite:
        for _, target in jobs:
            video_parts.remove_parts(target)
    existing = {} if args.overwrite else _existing(jobs, stream, upscaler.name, args.settings)
    done = [job for job, differs in existing.items() if differs is None]
    left = [job for job in jobs if job not in existing]
    count, kind = len(jobs) - len(done), noun(jobs)
    if len(jobs) == 1 and args.output == jobs[0][1] and (differs := existing.get(jobs[0])):
        raise _not_replaced(args.output, differs)
    try:
        with Report(args.progress, count, out, kind) as report:
            folders: list[Path] = [path for path in args.inputs if os.path.isdir(path)]
            for folder in folders:
                if note := passed_over(folder, args.output):
                    report.note(folder, note)
            for job in done:
                report.skipped(*job)
            for job, differs in existing.items():
                if differs is not None:
                    report.failed(job[0], _not_replaced(job[1], differs))
            upscale_files(upscaler, left, options, report, stream)
    except BrokenPipeError as error:
        raise RunError("stopped: standard output was closed") from error
    if report.failures:
        names = listed([name for name, _ in report.failures])
        # If no named input can be read, the exit code is 2, as in the other commands.
        named = {str(path) for path in args.inputs}.issuperset(name for name, _ in report.failures)
        error_type = InputError if named and report.refused == len(jobs) else RunError
        failed = len(report.failures)
        raise error_type(f"{failed} of {count} {kind}s could not be upscaled: {names}")
    if args.progress == "bar":
        plural = "s" if len(left) != 1 else ""
        skipped = f", {len(done)} skipped as done (--overwrite repeats them)" if done else ""
        shape = f"x{args.scale:g}" if args.scale else f"x{upscaler.scale}"
        if args.size:
            shape = "to {}x{}".format(*args.size)
        summary = f"{len(left)} {kind}{plural} upscaled {shape}: {args.output}{skipped}"
        print(printable(summary), file=out)


def _check_existing(args: argparse.Namespace, jobs: Sequence[Job]) -> None:
    """Raises InputError, before a model is loaded, if the only target exists and has no record."""
    if args.overwrite or len(jobs) != 1 or args.output != jobs[0][1] or args.output == STREAM:
        return
    if os.path.isfile(args.output) and made_by.find_record(args.output) is None:
        raise _not_replaced(args.output, str(made_by.difference(None, "")))


def _existing(
    jobs: Sequence[Job], stream: bytes, networks: str, settings: Mapping[str, made_by.Setting]
) -> dict[Job, str | None]:
    """Returns the jobs with existing targets, and how each differs from the new result or None."""
    existing: dict[Job, str | None] = {}
    for source, target in jobs:
        if target == STREAM or not os.path.isfile(target):
            continue
        content = stream if source == STREAM else source
        with suppress(InputError):  # an unreadable source is reported later
            record = made_by.make_record(networks, content, settings)
            existing[source, target] = made_by.difference(made_by.find_record(target), record)
    return existing


def _not_replaced(target: Path, differs: str) -> InputError:
    return InputError(
        f"{target}: already exists and {differs}. Choose another --output, or replace it "
        "with --overwrite"
    )


def run() -> NoReturn:
    """Runs `main` for a shell. A signal stops it soon and without a traceback."""
    received: list[tuple[int, float]] = []  # the first signal and its time

    def stop(number: int, _: object) -> None:
        if not received:
            received.append((number, time.monotonic()))
            raise KeyboardInterrupt
        if time.monotonic() - received[0][1] > CLEANING_SECONDS:
            os._exit(128 + number)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, stop)
    try:
        run_command(main)
    except SystemExit as end:
        # Python's own exit would wait for tiles on the device, print errors of a closed pipe, and
        # take a third of a second to free what JAX has made.
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            os._exit(int(end.code or 1))
        if received:
            os._exit(128 + received[0][0])
        if "jax" in sys.modules:
            os._exit(int(end.code or 0))
        raise


if __name__ == "__main__":
    run()
