"""HTTP routes for uploads: images, samples and weight files."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from esrgan_jax.app.guard import browser_of
from esrgan_jax.app.image_work import MEGA, Limits, open_within, safe_name, without_folders
from esrgan_jax.app.jpeg_quality import LOSSY, jpeg_quality
from esrgan_jax.app.networks import LOSSY_NETWORK, check_weights
from esrgan_jax.app.previews import preview_size, write_preview
from esrgan_jax.app.session_files import SessionFiles
from esrgan_jax.errors import InputError, RunError

SAMPLE_IMAGES = {"cat": "chelsea.png", "coffee": "coffee.png", "rocket": "rocket.jpg"}
SHRUNK = 2  # how much samples are reduced: they finish soon, and gain much
NO_COOKIE = "this page needs a cookie; allow cookies for this address and reload the page"


class Intake:
    """Routes that receive files.

    Args:
        files: Where they are kept.
        limits: Largest sizes.
        hints: Whether another network is suggested for a JPEG of low quality.
    """

    def __init__(self, files: SessionFiles, limits: Limits, hints: bool):
        self.files, self.limits, self.hints = files, limits, hints
        self.weights: dict[str, dict[str, Path]] = {}  # {browser: {key: file}}

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
        """Returns a browser's weight files that still exist, by key, oldest first."""
        return {k: path for k, path in self.weights.get(browser, {}).items() if path.is_file()}

    async def image(self, request: Request) -> Response:
        """POST /images?name=… with the file as body, or ?sample=…: returns facts on the image."""
        sample = request.query_params.get("sample")

        def save_sample(path: Path) -> None:
            _sample(sample or "").save(path)

        take = save_sample if sample else None
        name = f"{sample}.png" if sample else request.query_params.get("name", "")
        return await self._answer(request, name, take, self._read_image)

    async def weight(self, request: Request) -> Response:
        """POST /weights?name=… with the file as body: returns its key."""
        return await self._answer(
            request, request.query_params.get("name", ""), None, self._read_weights
        )

    async def removed(self, request: Request) -> Response:
        """DELETE /images?key=…: deletes files of the browser."""
        self.files.remove(browser_of(request.headers), request.query_params.getlist("key"))
        return JSONResponse({})

    async def sample(self, request: Request) -> Response:
        """GET /samples/{name}: returns a thumbnail of a sample."""
        name = request.path_params["name"]
        if name not in SAMPLE_IMAGES:
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
        read: Callable[[str, Path], dict[str, object]],
    ) -> Response:
        """Keeps a file and returns facts on it, or deletes it and returns what is wrong."""
        browser = browser_of(request.headers)
        if not browser:
            return JSONResponse({"error": NO_COOKIE}, 403)
        path = self.files.place(safe_name(name))
        key = self.files.add(browser, path)
        try:
            if take is None:
                await _write_body(request, path, self.limits.megabytes)
            else:
                await run_in_threadpool(take, path)
            about = await run_in_threadpool(read, browser, path)
        except (InputError, RunError, MemoryError, OSError) as error:
            self.files.remove(browser, [key])
            message = without_folders(error, self.files.folder) or "out of memory"
            return JSONResponse({"error": message, "name": path.name}, 400)
        except BaseException:  # the browser went away
            self.files.remove(browser, [key])
            raise
        return JSONResponse({"key": key, "name": path.name, **about})

    def _read_image(self, browser: str, path: Path) -> dict[str, object]:
        image = open_within(path, self.limits)
        size = preview_size(image.height, image.width)
        shown = write_preview(image, self.files.place("image.jpg"), size)
        return {
            "width": image.width,
            "height": image.height,
            "frames": image.frames,
            "notes": list(image.notes),
            "hint": quality_hint(jpeg_quality(path)) if self.hints else None,
            "shown": self.files.url(self.files.add(browser, shown)),
        }

    def _read_weights(self, browser: str, path: Path) -> dict[str, object]:
        check_weights(path)
        kept = self.weights.setdefault(browser, {})
        key = f"own-{len(kept)}"
        kept[key] = path
        return {"network": key}


def quality_hint(quality: int | None) -> dict[str, str] | None:
    """Returns which network to suggest for a JPEG of that quality; None at LOSSY or better."""
    if quality is None or quality >= LOSSY:
        return None
    text = (
        f"This JPEG was saved at a quality of about {quality}. Most networks also sharpen its "
        f"blocks; {LOSSY_NETWORK} was trained on such images."
    )
    return {"text": text, "network": LOSSY_NETWORK}


def _sample(name: str) -> Image.Image:
    """Returns a sample of scikit-image, reduced."""
    import skimage

    if name not in SAMPLE_IMAGES:
        raise InputError(f"{name[:50]}: there is no such sample")
    image = Image.open(Path(skimage.__file__).parent / "data" / SAMPLE_IMAGES[name]).convert("RGB")
    return image.reduce(SHRUNK)


async def _write_body(request: Request, path: Path, megabytes: float) -> None:
    """Writes a request's body to a file; InputError if it is too large."""
    size = 0
    with path.open("wb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > megabytes * MEGA:
                raise InputError(
                    f"{path.name}: has more than {megabytes:g} megabytes, the most that this app "
                    "takes; choose a smaller one, or start the app with --max_megabytes"
                )
            file.write(chunk)
