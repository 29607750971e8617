"""HTTP routes for uploads: images, samples and weight files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from esrgan_jax.app.guard import browser_of
from esrgan_jax.app.image_work import Limits, open_within, plainly, safe_name
from esrgan_jax.app.jpeg_quality import LOSSY, jpeg_quality
from esrgan_jax.app.networks import FLAWED, MEGA, check_weights, download_of
from esrgan_jax.app.previews import preview_size, write_preview
from esrgan_jax.app.session_files import SessionFiles
from esrgan_jax.errors import InputError, RunError

SAMPLES = {"cat": "chelsea.png", "coffee": "coffee.png", "rocket": "rocket.jpg"}
SHRUNK = 2  # samples are smaller than scikit-image has them: soon done, and much is to be won
NO_COOKIE = "this page needs its cookie: allow cookies for this address, and load it again"


class Intake:
    """Routes that take files in.

    Args:
        files: Where they are kept.
        limits: What is refused.
    """

    def __init__(self, files: SessionFiles, limits: Limits):
        self.files, self.limits = files, limits
        self.weights: dict[str, dict[str, Path]] = {}  # of each browser, {key: file}

    def routes(self) -> list[Route]:
        return [
            Route("/images", self.image, methods=["POST"]),
            Route("/images", self.removed, methods=["DELETE"]),
            Route("/weights", self.weight, methods=["POST"]),
            Route("/samples/{name}", self.sample),
            Route("/files/{key}/{name}", self.files.fetch),
            Route("/results.zip", self.files.fetch_all),
        ]

    def uploaded(self, browser: str) -> dict[str, Path]:
        """The weight files of a browser that are still there, by key, oldest first."""
        return {k: path for k, path in self.weights.get(browser, {}).items() if path.is_file()}

    async def image(self, request: Request) -> Response:
        """POST /images?name=…, the file as body, or ?sample=…: what is known of the image."""
        sample = request.query_params.get("sample")

        def copied(path: Path) -> None:
            _sample(sample or "").save(path)

        take = copied if sample else None
        name = f"{sample}.png" if sample else request.query_params.get("name", "")
        return await self._answer(request, name, take, self._look)

    async def weight(self, request: Request) -> Response:
        """POST /weights?name=…, the file as body: its key."""
        return await self._answer(request, request.query_params.get("name", ""), None, self._weigh)

    async def removed(self, request: Request) -> Response:
        """DELETE /images?key=…: the user wants them no more."""
        self.files.remove(browser_of(request.headers), request.query_params.getlist("key"))
        return JSONResponse({})

    async def sample(self, request: Request) -> Response:
        """GET /samples/{name}: a sample's image, small."""
        name = request.path_params["name"]
        if name not in SAMPLES:
            return PlainTextResponse("there is no such sample", 404)
        path = self.files.folder / f"sample-{name}.png"
        if not path.is_file():
            small = await run_in_threadpool(_sample, name)
            small.thumbnail((128, 128))
            small.save(path)
        return FileResponse(path, headers={"cache-control": "max-age=86400"})

    async def _answer(
        self,
        request: Request,
        name: str,
        take: Callable[[Path], None] | None,
        look: Callable[[str, Path], dict[str, Any]],
    ) -> Response:
        """Keeps a file and says what it is, or why it cannot be used."""
        browser = browser_of(request.headers)
        if not browser:
            return JSONResponse({"error": NO_COOKIE}, 403)
        path = self.files.place(safe_name(name))
        key = self.files.add(browser, path)
        try:
            if take is None:
                await _received(request, path, self.limits.megabytes)
            else:
                await run_in_threadpool(take, path)
            about = await run_in_threadpool(look, browser, path)
        except (InputError, RunError, MemoryError, OSError) as error:
            self.files.remove(browser, [key])
            sentence = plainly(error, self.files.folder) or "it cannot be read: no memory is left"
            return JSONResponse({"error": sentence, "name": path.name}, 400)
        except BaseException:  # the browser went away
            self.files.remove(browser, [key])
            raise
        return JSONResponse({"key": key, "name": path.name, **about})

    def _look(self, browser: str, path: Path) -> dict[str, Any]:
        image = open_within(path, self.limits)
        size = preview_size(image.height, image.width)
        shown = write_preview(image, self.files.place("image.jpg"), size)
        return {
            "width": image.width,
            "height": image.height,
            "frames": image.frames,
            "notes": list(image.notes),
            "hint": hint(jpeg_quality(path)),
            "shown": self.files.url(self.files.add(browser, shown)),
        }

    def _weigh(self, browser: str, path: Path) -> dict[str, Any]:
        check_weights(path)
        kept = self.weights.setdefault(browser, {})
        key = f"own-{len(kept)}"
        kept[key] = path
        return {"network": key}


def hint(quality: int | None) -> dict[str, str] | None:
    """Which network a JPEG of that quality wants, and what it needs; None for a good one."""
    if quality is None or quality >= LOSSY:
        return None
    need = download_of(FLAWED)
    need = f" It is not on this machine: choosing it means {need}, or a file of yours (More)." * (
        need != ""
    )
    text = (
        f"This JPEG was saved at a quality of about {quality}. Networks trained on clean images "
        f"sharpen its blocks, too; {FLAWED} was trained for such images.{need}"
    )
    return {"text": text, "network": FLAWED}


def _sample(name: str) -> Image.Image:
    import skimage

    if name not in SAMPLES:
        raise InputError(f"{name[:50]}: there is no such sample")
    image = Image.open(Path(skimage.__file__).parent / "data" / SAMPLES[name]).convert("RGB")
    return image.reduce(SHRUNK)


async def _received(request: Request, path: Path, megabytes: float) -> None:
    """Writes a request's body; InputError if it is too large."""
    size = 0
    with path.open("wb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > megabytes * MEGA:
                raise InputError(
                    f"{path.name}: has more than {megabytes:g} megabytes, which this app takes up "
                    "to; take a smaller one, or start the app with --max_megabytes"
                )
            file.write(chunk)
