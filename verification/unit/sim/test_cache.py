"""Entries of the cache are whole, or made again; two processes do not make the same one; it is the user's own."""

import errno
import fcntl
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tailrace.sim import cache, cache_entry
from tailrace.sim.cache import cache_folder, cached, content_key, is_cached
from tailrace.sim.cache_contents import clear, contents
from tailrace.sim.cache_entry import description, size_of
from tailrace.spec.errors import ToolError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAILRACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "kind").iterdir())


def test_the_variable_names_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == folder
    monkeypatch.setenv("TAILRACE_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"
    monkeypatch.delenv("TAILRACE_CACHE")
    assert cache_folder().name == "tailrace"


def test_keys_depend_on_parts_their_order_and_their_ends() -> None:
    keys = [content_key(parts) for parts in (["a", "b"], ["b", "a"], ["ab"], ["ab", ""], ["a", b"b"])]
    assert len(set(keys)) == 4
    assert keys[0] == keys[4]


def test_an_entry_is_made_once(folder: Path) -> None:
    made = []

    def make(draft: Path) -> None:
        made.append(draft)
        (draft / "file").write_text("content")

    assert not is_cached("kind", "key")
    assert cached("kind", "key", make, what="a thing") == cached("kind", "key", make, what="a thing") == folder / "kind" / "key"
    assert is_cached("kind", "key")
    assert len(made) == 1
    assert (folder / "kind" / "key" / "file").read_text() == "content"
    assert entries(folder) == ["key"]


def test_files_that_change_while_an_entry_is_made(folder: Path, tmp_path: Path) -> None:
    """What was made of both versions has the name of neither."""
    source = tmp_path / "source"
    source.write_text("one")

    def make(draft: Path) -> None:
        (draft / "file").write_text(source.read_text())
        if source.read_text() == "one":
            source.write_text("two")

    def key() -> str:
        return content_key([source.read_text()])

    with pytest.raises(ToolError) as error:
        cached("kind", key, make, what="a thing")
    assert str(error.value) == "files that a thing is made from were changed while it was made: run it again"
    assert entries(folder) == []
    entry = cached("kind", key, make, what="a thing")
    assert (entry / "file").read_text() == "two"
    assert entry.name == content_key(["two"])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, ToolError])
def test_an_interrupted_entry_leaves_nothing(folder: Path, error: type[BaseException]) -> None:
    def make(draft: Path) -> None:
        (draft / "half").write_text("written")
        raise error("stop")

    with pytest.raises(error):
        cached("kind", "key", make, what="a thing")
    assert entries(folder) == []


def _make_slowly(number: int, results: "multiprocessing.Queue[str]") -> None:
    def make(draft: Path) -> None:
        for name in ("a", "b"):
            (draft / name).write_text(str(number))
            time.sleep(0.05)

    entry = cached("kind", "key", make, what="a thing")
    results.put((entry / "a").read_text() + (entry / "b").read_text())


def test_processes_at_the_same_time_do_no_harm(folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[str] = context.Queue()
    processes = [context.Process(target=_make_slowly, args=(number, results)) for number in range(4)]
    for process in processes:
        process.start()
    seen = {results.get(timeout=30) for _ in processes}
    for process in processes:
        process.join()
    assert len(seen) == 1
    assert len(set(seen.pop())) == 1
    assert entries(folder) == ["key"]


def test_ctrl_c_in_the_middle_of_a_compilation_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    program = (
        "import signal, sys, pathlib\n"
        # A shell that starts the tests in the background makes them, and what they start, ignore Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tailrace.sim.cache import cached\n"
        "from tailrace.sim.processes import run_all\n"
        "slow = [sys.executable, '-c', 'import time; print(1); open(\"begun\", \"w\"); time.sleep(60)']\n"
        "cached('kind', 'key', lambda draft: run_all([slow, slow], draft), what='a thing')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], env=os.environ, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(folder.glob("kind/.*/begun")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    assert entries(folder) == []


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("{}/file", "it is not a folder"),
        ("{}/file/below", "Not a directory"),
        ("{}/loop", "Too many levels of symbolic links"),
        ("/dev/null", "it is not a folder"),
        ("{}/" + "n" * 300, "File name too long"),
        ("~nobody-of-this-name/x", "there is no such user"),
    ],
)
def test_a_place_where_no_folder_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, reason: str) -> None:
    """Whatever the cache is wanted for."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    named = named.format(tmp_path)
    monkeypatch.setenv("TAILRACE_CACHE", named)
    text = f"the cache {named} can't be used ({reason}): set TAILRACE_CACHE to a folder that can be written"
    for use in (lambda: cached("kind", "key", fill, what="a thing"), lambda: is_cached("kind", "key"), contents, clear):
        with pytest.raises(ToolError, match=f"^{re.escape(text)}$"):
            use()


@pytest.mark.parametrize("named", ["", " "])
def test_an_empty_name_is_not_the_usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    """A script whose own variable is not set would empty the user's cache."""
    # Should this fail, it is not the real one that is emptied.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TAILRACE_CACHE", named)
    for use in (lambda: cached("kind", "key", fill, what="a thing"), lambda: is_cached("kind", "key"), contents, clear):
        with pytest.raises(ToolError, match=r"^TAILRACE_CACHE is empty: let it name a folder, or unset it$"):
            use()


def test_a_folder_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux answers there that it does not exist."""
    monkeypatch.setenv("TAILRACE_CACHE", "/proc/tailrace")
    text = (
        r"^the cache /proc/tailrace/kind can't be written \((Operation not permitted|Permission denied)\): set TAILRACE_CACHE to"
        " a folder that can$"
    )
    with pytest.raises(ToolError, match=text):
        cached("kind", "key", fill, what="a thing")
    assert contents() == []


def test_a_cache_that_can_only_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is used; nothing is added or removed."""
    entry = cached("kind", "key", fill, what="a thing")

    def refuse(path: object = None, dir: object = None, **_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path or dir))

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    assert cached("kind", "key", fill, what="a thing") == entry
    text = r"^the cache {} can't be written \(Read-only file system\): set TAILRACE_CACHE to a folder that can$"
    with pytest.raises(ToolError, match=text.format(re.escape(f"{folder}/kind"))):
        cached("kind", "other", fill, what="a thing")
    with pytest.raises(ToolError, match=text.format(re.escape(str(folder)))):
        clear()
    assert len(contents()) == 1


def fill(draft: Path) -> None:
    (draft / "library.so").write_bytes(bytes(range(256)) * 40)
    (draft / "more").mkdir()
    (draft / "more" / "text").write_text("text", encoding="utf-8")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda e: os.truncate(e / "library.so", 1000), "library.so has 1000 bytes, not 10240"),
    "emptied": (lambda e: os.truncate(e / "library.so", 0), "library.so has 0 bytes, not 10240"),
    "a byte": (lambda e: (e / "library.so").write_bytes(bytes(10240)), "library.so has other contents than were written"),
    "removed": (lambda e: (e / "more" / "text").unlink(), "text: No such file or directory"),
    "no manifest": (lambda e: (e / "manifest.json").unlink(), "manifest.json: No such file or directory"),
    "half a manifest": (lambda e: os.truncate(e / "manifest.json", 50), "manifest.json can't be read"),
    "no mapping": (lambda e: (e / "manifest.json").write_text("[]"), "manifest.json can't be read"),
    "not text": (lambda e: (e / "manifest.json").write_bytes(b"\xff"), "manifest.json can't be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_again_and_that_is_said(folder: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, reason = DAMAGES[damage]
    entry = cached("kind", "key", fill, what="a thing")
    spoil(entry)
    assert not is_cached("kind", "key")
    assert cached("kind", "key", fill, what="a thing") == entry
    assert capsys.readouterr().err == f"tailrace: a thing in the cache is damaged ({reason}): making it again ({entry})\n"
    assert (entry / "library.so").read_bytes() == bytes(range(256)) * 40
    cached("kind", "key", lambda draft: pytest.fail("it is whole"), what="a thing")
    assert entries(folder) == ["key"]


def test_a_damaged_entry_stays_until_there_is_a_new_one(folder: Path) -> None:
    entry = cached("kind", "key", fill, what="a thing")
    os.truncate(entry / "library.so", 1000)

    def make(draft: Path) -> None:
        raise ToolError("no network")

    with pytest.raises(ToolError, match="^no network$"):
        cached("kind", "key", make, what="a thing")
    assert (entry / "library.so").stat().st_size == 1000
    assert entries(folder) == ["key"]


def test_a_large_file_is_not_read_again_unless_it_has_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_entry, "_LARGE", 1000)
    entry = cached("kind", "key", fill, what="a thing")
    library = entry / "library.so"
    status = library.stat()
    digest = cache_entry._digest
    monkeypatch.setattr(cache_entry, "_digest", lambda path: pytest.fail("read") if path == library else digest(path))
    assert is_cached("kind", "key")
    monkeypatch.setattr(cache_entry, "_digest", digest)
    os.utime(library, ns=(status.st_mtime_ns, status.st_mtime_ns + 1))
    assert is_cached("kind", "key")
    library.write_bytes(bytes(status.st_size))
    assert not is_cached("kind", "key")


def test_a_disk_that_loses_what_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "sync", lambda path: os.truncate(path / "key" / "library.so", 3))
    with pytest.raises(ToolError) as caught:
        cached("kind", "key", fill, what="a thing")
    assert str(caught.value) == (
        f"the disk of the cache {folder}/kind does not keep what is written to it (library.so has 3 bytes, not 10240): set"
        " TAILRACE_CACHE to a folder on another one"
    )


def test_what_a_killed_process_left_is_removed(folder: Path) -> None:
    program = (
        "import os, signal\n"
        "from tailrace.sim.cache import cached\n"
        "def make(draft):\n"
        "    (draft / 'half').write_text('written')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "cached('kind', 'key', make, what='a thing')\n"
    )
    subprocess.run([sys.executable, "-c", program], env=os.environ, check=False)
    assert len(entries(folder)) == 2
    cached("kind", "key", fill, what="a thing")
    assert entries(folder) == ["key"]


def test_another_process_is_waited_for(folder: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from tailrace.sim.cache import cached\n"
        "def make(draft):\n"
        "    print('making', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    (draft / 'file').write_text(sys.argv[1])\n"
        "print((cached('kind', 'key', make, what='a thing') / 'file').read_text())\n"
    )

    def start(name: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", program, name], stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    first = start("first")
    assert first.stdout is not None
    assert first.stdout.readline() == "making\n"
    second = start("second")
    assert second.stderr is not None
    assert second.stderr.readline() == f"tailrace: another process ({first.pid}) is making a thing: waiting for it\n"
    assert first.communicate("\n", timeout=30)[0] == "first\n"
    assert second.communicate("\n", timeout=30)[0] == "first\n"
    assert entries(folder) == ["key"]


def test_a_file_system_without_locks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)

    def make(draft: Path) -> None:
        # Somebody else is faster.
        cached("kind", "key", lambda other: (other / "file").write_text("first"), what="a thing")
        (draft / "file").write_text("second")

    assert (cached("kind", "key", make, what="a thing") / "file").read_text() == "first"
    assert entries(folder) == ["key"]


def test_the_cache_is_the_users_own(folder: Path) -> None:
    entry = cached("kind", "key", fill, what="a thing")
    assert [path.stat().st_mode & 0o777 for path in (folder, entry.parent, entry)] == [0o700] * 3
    assert not any(path.stat().st_mode & 0o022 for path in entry.rglob("*"))


@pytest.mark.parametrize("place", ["", "kind", "kind/key", "kind/key/library.so"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_can_write_is_not_loaded(folder: Path, place: str, mode: int) -> None:
    cached("kind", "key", fill, what="a thing")
    path = folder / place
    path.chmod(path.stat().st_mode | mode)
    with pytest.raises(ToolError) as caught:
        cached("kind", "key", fill, what="a thing")
    assert str(caught.value) == (
        f"other users can write to the cache {path}, and could put other code there: run chmod -R go-w {path}, or set"
        " TAILRACE_CACHE to a folder of your own"
    )
    path.chmod(path.stat().st_mode & ~mode)
    assert is_cached("kind", "key")


def test_a_folder_like_tmp_will_do(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o1777)
    entry = cached("kind", "key", fill, what="a thing")
    assert entry.parent.stat().st_mode & 0o777 == 0o700
    assert is_cached("kind", "key")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_belongs_to_others_is_not_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = cached("kind", "key", fill, what="a thing")
    os.chown(entry, 12345, 12345)
    with pytest.raises(ToolError) as caught:
        cached("kind", "key", fill, what="a thing")
    assert str(caught.value) == (
        f"the cache {entry} belongs to another user, who could put other code there: set TAILRACE_CACHE to a folder of your own"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("named", [False, True])
def test_a_full_disk_says_where_and_what_to_do(folder: Path, number: int, named: bool) -> None:
    """A write that fails has no file name."""

    def make(draft: Path) -> None:
        raise OSError(number, os.strerror(number), *([str(draft / "file")] if named else []))

    with pytest.raises(ToolError) as caught:
        cached("kind", "key", make, what="a thing")
    assert str(caught.value) == (
        f"the cache {folder}/kind can't be written ({os.strerror(number)}): free some space there and in"
        f" {tempfile.gettempdir()}, or set TAILRACE_CACHE and TMPDIR to folders on another disk"
    )


def test_errors_that_are_not_the_caches_stay_what_they_are(folder: Path) -> None:
    def make(draft: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file", "/elsewhere")

    with pytest.raises(FileNotFoundError):
        cached("kind", "key", make, what="a thing")


def test_a_folder_with_letters_and_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_CACHE", str(tmp_path / "jörg ü"))
    entry = cached("kind", "key", lambda draft: (draft / "größe").write_text("x"), what="ein Ding für Jörg")
    assert cached("kind", "key", fill, what="a thing") == entry == tmp_path / "jörg ü" / "kind" / "key"
    assert description(entry) == "ein Ding für Jörg"


def test_size_of_a_folder_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").write_bytes(b"12345")
    (tmp_path / "gone").mkdir()
    listed = os.scandir

    def scandir(place: str) -> object:
        if Path(place) == tmp_path / "gone":
            raise FileNotFoundError(place)
        return listed(place)

    monkeypatch.setattr(os, "scandir", scandir)
    assert size_of(tmp_path) == 5
