"""What goes wrong on the page, as its messages say it."""

import html
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from jax.errors import JaxRuntimeError

from esrgan_jax import app_model
from esrgan_jax.errors import InputError, RunError


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """What a user should know of becomes a message of the page: a sentence, never HTML."""
    try:
        yield
        return
    except (InputError, RunError) as error:
        sentence = app_model.plainly(error, folder)
    except (JaxRuntimeError, MemoryError) as error:
        sentence = str(error).partition("\n")[0] + " (smaller tiles take less memory)"
    raise gr.Error(html.escape(sentence), duration=None, print_exception=False)
