"""Small archives in the forms that publishers and packages use."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

MOVIELENS_CSV = {
    "ml-latest-small/ratings.csv": "userId,movieId,rating,timestamp\n"
    "1,1,4.0,964982703\n1,3,0.5,964981247\n2,1,5.0,1445714835\n",
    "ml-latest-small/movies.csv": "movieId,title,genres\n"
    "1,Toy Story (1995),Adventure|Animation\n"
    '3,"Postman, The (Postino, Il) (1994)",(no genres listed)\n'
    "4,Babylon 5,Sci-Fi\n",
    "ml-latest-small/links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n3,10110877,11010\n4,,\n",
}


def zipped(members: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def wheel(folder: Path, name: str, version: str, members: dict[str, str | bytes]) -> Path:
    """A wheel that pip accepts, in `folder`."""
    info = f"{name}-{version}.dist-info"
    files = members | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    path.write_bytes(zipped(files | {f"{info}/RECORD": record}))
    return path


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
