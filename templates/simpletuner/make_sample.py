"""Makes sample/: drawn shapes with their captions, enough to see a training go through. Run with a Python that has Pillow."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220), "yellow": (235, 200, 40)}
SIDE, EDGE = 128, 24


def main() -> None:
    """Draw each shape in each colour."""
    folder = Path(__file__).with_name("sample")
    folder.mkdir(exist_ok=True)
    for colour, value in COLOURS.items():
        for shape in ("circle", "square", "triangle"):
            image = Image.new("RGB", (SIDE, SIDE), (245, 245, 245))
            draw, box = ImageDraw.Draw(image), (EDGE, EDGE, SIDE - EDGE, SIDE - EDGE)
            if shape == "circle":
                draw.ellipse(box, fill=value)
            elif shape == "square":
                draw.rectangle(box, fill=value)
            else:
                draw.polygon([(SIDE // 2, EDGE), (EDGE, SIDE - EDGE), (SIDE - EDGE, SIDE - EDGE)], fill=value)
            image.save(folder / f"{colour}-{shape}.png", optimize=True)
            (folder / f"{colour}-{shape}.txt").write_text(f"a {colour} {shape}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
