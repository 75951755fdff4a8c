"""The files that are served, the same bytes on every machine and in every run."""

import random
import subprocess

from .process import Failed

LINE = b"All the world is a stage, and all the files on it are players.\n"
# Path of the request: bytes of the file. `/hello` is no file, and its length is the application's; so is
# what the floor is asked for: it answers 512 bytes to every path.
BYTES = {"/small.txt": 512, "/medium.bin": 100_000, "/large.bin": 10_000_000, "/page.html": 30_000, "/hello": 0,
         "/answer.bin": 64_000, "/service-1000.txt": 512}
BROTLI_QUALITY = "11"  # as a build step would
WORDS = (
    "stage world player entrance exit part age infant mewling nurse schoolboy satchel morning face snail school lover "
    "furnace ballad mistress eyebrow soldier oath honour sudden quarrel bubble reputation cannon mouth justice belly "
    "eyes beard wise saw modern instance pantaloon spectacles nose pouch hose voice treble pipe whistle scene history "
    "childishness oblivion teeth taste everything the and of with in to a his all men women many one man time acts seven"
).split()


def write(folder, path, brotli=None):
    """Makes `folder` with the file of `path`, and with `brotli` its compressed copy beside it. Returns the body to expect."""
    folder.mkdir()
    file = folder / path[1:]
    body = page(BYTES[path]) if path.endswith(".html") else (LINE * (BYTES[path] // len(LINE) + 1))[:BYTES[path]]
    file.write_bytes(body)
    if brotli is None:
        return body
    done = subprocess.run([brotli, "--keep", "-q", BROTLI_QUALITY, str(file)], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise Failed(f"brotli failed: {done.stderr}")
    return (folder / (path[1:] + ".br")).read_bytes()


def page(length):
    """HTML of exactly `length` bytes that compresses about as prose does."""
    words = random.Random(1599)
    parts = ["<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>As You Like It</title></head>\n<body>\n"]
    size = len(parts[0])
    while size < length:
        sentence = " ".join(words.choice(WORDS) for _ in range(words.randint(6, 24)))
        parts.append(f'<p class="line" id="p{len(parts)}">{sentence.capitalize()}.</p>\n')
        size += len(parts[-1])
    end = "</body>\n</html>\n"
    return ("".join(parts)[:length - len(end)] + end).encode()
