"""How the thread that watches the other processes ends; test_processes.py has some."""

from esrgan_jax import distributed, process_watch


def test_the_thread_has_ended_when_the_watch_is_stopped(monkeypatch):
    """Python aborts the process if it ends while the thread is inside the coordinator's client."""
    told = []
    monkeypatch.setattr(process_watch, "BEAT", 1e-3)
    monkeypatch.setattr(distributed, "place", lambda: (0, 2))
    monkeypatch.setattr(distributed, "put", lambda key, text: told.append((key, text)))
    monkeypatch.setattr(
        distributed, "read", lambda key: {} if key == "failed" else {"1": told[-1][1]}
    )
    watch = process_watch.ProcessWatch()
    while not told:
        watch._thread.join(0.01)
    watch.stop()
    assert not watch._thread.is_alive()
    assert told[0] == ("alive/0", "1")
