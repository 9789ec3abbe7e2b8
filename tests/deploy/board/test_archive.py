"""Archives that are damaged, or made to write where they should not: refused before anything of them is used."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from deploy.board.archive import KIND, MANIFEST, SCHEMA_VERSION, check, unpack
from deploy.board.refusal import Refusal
from stereo.artifacts import sha256_bytes

FILES = {"models/toy/fp32.onnx": b"graph" * 1000, "pairs/p/left.png": b"image"}
Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> Entry:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info, data


def manifest_of(files: dict[str, bytes], **changes: object) -> bytes:
    members = {name: {"sha256": sha256_bytes(data), "size_bytes": len(data)} for name, data in files.items()}
    return json.dumps({"kind": KIND, "schema_version": SCHEMA_VERSION, "members": members, **changes}).encode()


def write(path: Path, *entries: Entry) -> Path:
    with tarfile.open(path, "w") as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return path


def whole(files: dict[str, bytes] = FILES) -> list[Entry]:
    return [entry(MANIFEST, manifest_of(files)), *(entry(name, data) for name, data in files.items())]


def refused(path: Path, match: str) -> None:
    """Both here and there, and nothing is left or written anywhere."""
    place = path.parent / "board" / "bundle"
    place.parent.mkdir(exist_ok=True)
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(Refusal, match=match):
        check(str(path))
    with pytest.raises(Refusal, match=match):
        unpack(str(path), place)
    assert sorted(path.parent.rglob("*")) == before


def test_a_whole_archive_is_unpacked(tmp_path: Path) -> None:
    path = write(tmp_path / "b.tar", *whole())
    sizes: list[int] = []
    assert set(check(str(path), sizes.append)["members"]) == set(FILES)
    assert sum(sizes) == len(manifest_of(FILES)) + sum(map(len, FILES.values()))
    unpack(str(path), tmp_path / "out" / "bundle")
    for name, data in FILES.items():
        assert (tmp_path / "out" / "bundle" / name).read_bytes() == data
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bundle"]


def test_what_a_power_cut_left_is_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "b.tar", *whole())
    for left in ("bundle", "bundle.part"):
        (tmp_path / "out" / left / "models").mkdir(parents=True)
        (tmp_path / "out" / left / "models" / "half").touch()
    unpack(str(path), tmp_path / "out" / "bundle")
    assert not (tmp_path / "out" / "bundle" / "models" / "half").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    "name", ["/etc/evil", "../evil", "models/../../evil", "models/./x", "a//b", "a\\..\\b", "a\nb", "models/", "."]
)
def test_paths_that_lead_out(tmp_path: Path, name: str) -> None:
    listed = {**FILES, name: b"evil"}
    refused(write(tmp_path / "listed.tar", *whole(listed)), "leads out of its folder")
    refused(write(tmp_path / "not_listed.tar", *whole(), entry(name, b"evil")), "leads out of its folder|no plain file")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE,
     tarfile.CONTTYPE],
)  # fmt: skip
def test_links_and_devices(tmp_path: Path, kind: bytes) -> None:
    first, *rest = whole({**FILES, "models/link": b""})
    rest[-1] = entry("models/link", kind=kind, link="/etc/passwd")
    refused(write(tmp_path / "b.tar", first, *rest), "no plain file")


def test_a_sparse_member(tmp_path: Path) -> None:
    """A few bytes in the archive that unpack to any number of zeros."""
    info, data = entry("models/hole", b"")
    info.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "1000000", "GNU.sparse.numblocks": "1"}
    path = tmp_path / "b.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for each, content in [*whole({**FILES, "models/hole": bytes(1_000_000)})[:-1], (info, data)]:
            tar.addfile(each, io.BytesIO(content))
    refused(path, "no plain file")


def test_a_file_cannot_be_a_folder_too(tmp_path: Path) -> None:
    first, *rest = whole({"models": b"", "models/x": b"evil"})
    path = write(tmp_path / "b.tar", first, *rest)
    with pytest.raises(Refusal, match="exclude each other"):
        unpack(str(path), tmp_path / "out" / "bundle")
    assert not any((tmp_path / "out").iterdir())


def test_members_that_the_manifest_does_not_list(tmp_path: Path) -> None:
    refused(write(tmp_path / "b.tar", *whole(), entry("more", b"x")), "without its manifest listing it")


def test_a_member_twice(tmp_path: Path) -> None:
    name, data = next(iter(FILES.items()))
    refused(write(tmp_path / "b.tar", *whole(), entry(name, data)), "twice")
    refused(write(tmp_path / "m.tar", *whole(), entry(MANIFEST, manifest_of({}))), "without its manifest listing it")


def test_a_missing_member(tmp_path: Path) -> None:
    refused(write(tmp_path / "b.tar", *whole()[:-1]), "left.png is missing")


@pytest.mark.parametrize(
    ("data", "match"), [(b"other", "checksum differs"), (b"longer than listed", "18 bytes in place of 5")]
)
def test_other_content(tmp_path: Path, data: bytes, match: str) -> None:
    refused(write(tmp_path / "b.tar", *whole()[:-1], entry("pairs/p/left.png", data)), match)


@pytest.mark.parametrize("cut", [0, 100, 600, 3000, -10300])
def test_a_cut_archive(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "b.tar", *whole())
    path.write_bytes(path.read_bytes()[:cut])
    refused(path, "no whole archive|is empty|manifest is damaged|is missing|is damaged")


def test_flipped_bits_are_noticed_or_harmless(tmp_path: Path) -> None:
    """A flip in content or header is refused; in padding it changes nothing that is unpacked."""
    path = write(tmp_path / "b.tar", *whole({"a": b"12345"}))
    data = path.read_bytes()
    kept = 0
    for position in range(0, 3072, 61):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        try:
            unpack(str(path), tmp_path / "out" / "bundle")
        except Refusal:
            continue
        kept += 1
        assert (tmp_path / "out" / "bundle" / "a").read_bytes() == b"12345"
    assert 0 < kept < 3072 // 61


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"{", "damaged"),
        (b"[]", "damaged"),
        (b"\xff", "damaged"),
        (b"[" * 100_000, "damaged"),
        (manifest_of({}, kind="x"), "no bundle"),
        (manifest_of({}, schema_version=2), "version 2"),
        (manifest_of({}, members={"a": {"sha256": 1, "size_bytes": 1}}), "no bundle"),
        (manifest_of({}, members={"a": None}), "damaged"),
    ],
)
def test_broken_manifests(tmp_path: Path, data: bytes, match: str) -> None:
    refused(write(tmp_path / "b.tar", entry(MANIFEST, data)), match)


def test_other_archives(tmp_path: Path) -> None:
    refused(write(tmp_path / "first.tar", *reversed(whole())), "no bundle of stereodistill")
    (tmp_path / "text.tar").write_text("no archive" * 100)
    refused(tmp_path / "text.tar", "no whole archive")
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        for info, data in whole():
            tar.addfile(info, io.BytesIO(data))
    refused(tmp_path / "packed.tar", "no whole archive")
    refused(tmp_path / "nothing.tar", "no such bundle")
    with pytest.raises(Refusal, match="is a folder"):
        check(str(tmp_path))


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """A header that claims more than the manifest lists stops the reading before any of it is written."""
    first = whole()[0]
    info = tarfile.TarInfo("models/toy/fp32.onnx")
    info.size = 1 << 40
    path = tmp_path / "b.tar"
    with path.open("wb") as file:
        file.write(write(tmp_path / "head.tar", first).read_bytes()[: 512 + 512 * -(-len(first[1]) // 512)])
        file.write(info.tobuf())
    (tmp_path / "head.tar").unlink()
    refused(path, "1099511627776 bytes in place of 5000|no whole archive")
