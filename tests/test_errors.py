"""Exit codes, messages on stderr, and interrupts."""

import gc
import signal
import sys
import time

import pytest

from esrgan_jax.errors import (
    InputError,
    RunError,
    is_of_signal,
    listed,
    missing,
    printable,
    run_command,
    signal_code,
)


def command(result):
    def main():
        if isinstance(result, BaseException):
            raise result
        return result

    return main


@pytest.mark.parametrize(
    ("result", "code", "stderr"),
    [
        (None, None, ""),  # sys.exit(None) is success
        (0, 0, ""),
        (3, 3, ""),
        (InputError("no such file: a.png"), 2, "error: no such file: a.png\n"),
        (RunError("the loss is not finite"), 1, "error: the loss is not finite\n"),
        (
            InputError("no a\x1b[31m\nb\x9b.png, no é"),
            2,
            "error: no a\\x1b[31m\\nb\\x9b.png, no é\n",
        ),
        (KeyboardInterrupt(), 130, "stopped\n"),
    ],
)
def test_exit_codes_and_messages(result, code, stderr, capsys):
    with pytest.raises(SystemExit) as exit_:
        run_command(command(result))
    assert exit_.value.code == code
    assert capsys.readouterr() == ("", stderr)


@pytest.mark.parametrize("bug", [ValueError("ours"), RuntimeError("ours"), KeyError("ours")])
def test_other_exceptions_are_raised(bug):
    with pytest.raises(type(bug), match="ours"):
        run_command(command(bug))


def test_long_lists_are_shortened():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"], most=3) == "a, b, c"
    assert listed(list("abcdefg"), most=3) == "a, b, c and 4 more"
    assert listed(list("abcdefgh")) == "a, b, c, d, e, f and 2 more"
    assert len(listed(["x" * 10**6])) == 200


def test_printable_escapes_control_characters():
    assert printable("a\tb\r\x00\x7f") == r"a\tb\r\x00\x7f"
    assert printable("a\u202egnp.exe") == r"a\u202egnp.exe"
    assert printable("写真 é \u200d \udce9") == "写真 é \u200d \udce9"  # not control characters


def test_missing_names_the_package_and_its_install_command():
    error = missing("videos", "PyAV", "av<20")
    assert str(error) == "videos need PyAV, which is not installed: pip install 'av<20'"


@pytest.mark.parametrize("where", ["collector", "finalizer"])
def test_an_interrupt_in_a_callback_is_not_lost(where, capsys, request):
    """Python ignores exceptions in these callbacks; JAX installs one in the garbage collector."""
    # A shell starts background processes with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    left = [1]

    def interrupted(*_):
        if left:
            left.pop()
            signal.raise_signal(signal.SIGINT)

    finalized = type("Finalized", (), {"__del__": interrupted})

    def main():
        if where == "collector":
            gc.callbacks.append(interrupted)
            try:
                gc.collect()
            finally:
                gc.callbacks.remove(interrupted)
        else:
            finalized()
        assert not left
        time.sleep(10)

    hook, handler = sys.unraisablehook, signal.getsignal(signal.SIGALRM)
    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert end.value.code == 130
    assert capsys.readouterr().err == "stopped\n"
    assert (sys.unraisablehook, signal.getsignal(signal.SIGALRM)) == (hook, handler)


def test_the_exit_code_after_a_signal_can_ask_a_scheduler_to_try_again():
    codes = [signal_code(n, r) for n in (signal.SIGTERM, signal.SIGINT) for r in (False, True)]
    assert codes == [143, 75, 130, 130]
    assert all(map(is_of_signal, codes))
    assert not any(map(is_of_signal, (0, 1, 2)))
