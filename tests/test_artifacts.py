"""Artefacts appear whole or not at all, and say what is wrong with them."""

import json

import pytest

from onesearch.artifacts import FORMAT, MANIFEST, ArtifactError, read_manifest, verify, write_json, writing


def write(folder, text="codes", kind="quantizer", parents=(), **more):
    with writing(folder, kind, parents, **more) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "codes.txt").write_text(text, "utf-8")
        write_json(temporary / "spec.json", {"sizes": [4, 2]})
    return folder


def change_manifest(folder, **fields):
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    write_json(folder / MANIFEST, {**manifest, **fields})


def test_what_is_written_is_verified_and_read_back(tmp_path):
    """Both files are listed by their path inside the folder; facts filled inside the block are in the manifest."""
    facts = {}
    with writing(tmp_path / "a", "log", config={"seed": 1}, facts=facts) as folder:
        (folder / "x").write_bytes(b"")
        facts["rows"] = 3
    manifest = verify(tmp_path / "a", "log")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # SHA-256 of no bytes, as published
    assert manifest.files == {"x": empty}
    assert (manifest.kind, manifest.config, manifest.facts, manifest.parents) == ("log", {"seed": 1}, {"rows": 3}, {})
    assert set(verify(write(tmp_path / "b"), "quantizer").files) == {"deep/codes.txt", "spec.json"}


def test_a_failed_block_changes_nothing(tmp_path):
    """The older artefact stands as it was, and no temporary folder is left beside it."""
    before = read_manifest(write(tmp_path / "a"))
    with pytest.raises(RuntimeError), writing(tmp_path / "a", "quantizer") as folder:
        (folder / "half").write_text("x", "utf-8")
        raise RuntimeError
    assert verify(tmp_path / "a", "quantizer") == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(RuntimeError), writing(tmp_path / "new", "quantizer"):
        raise RuntimeError
    assert not (tmp_path / "new").exists()


def test_a_new_artefact_replaces_the_older_one_whole(tmp_path):
    """A file that only the older one had is gone."""
    write(tmp_path / "a")
    with writing(tmp_path / "a", "quantizer") as folder:
        (folder / "only").write_text("x", "utf-8")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [MANIFEST, "only"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("is_broken", [False, True])
def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path, is_broken):
    if not is_broken:
        write(tmp_path / "there", "old")
    (tmp_path / "a").symlink_to(tmp_path / "there", target_is_directory=True)
    write(tmp_path / "a", "new")
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "a" / "deep" / "codes.txt").read_text("utf-8") == "new"
    assert is_broken or (tmp_path / "there" / "deep" / "codes.txt").read_text("utf-8") == "old"
    assert {path.name for path in tmp_path.iterdir()} == ({"a"} if is_broken else {"a", "there"})


def test_the_fingerprint_is_of_the_content(tmp_path):
    """Same kind, bytes and parents: the same fingerprint in another folder; one other byte, kind or parent: another."""
    first = read_manifest(write(tmp_path / "a")).fingerprint
    assert read_manifest(write(tmp_path / "b", facts={"note": 1})).fingerprint == first
    others = [
        write(tmp_path / "c", "code5"),
        write(tmp_path / "d", kind="encoder"),
        write(tmp_path / "e", parents=[tmp_path / "a"]),
    ]
    assert len({first, *(read_manifest(folder).fingerprint for folder in others)}) == 4


@pytest.mark.parametrize("damage", ["changed", "shorter", "missing"])
def test_a_damaged_file_is_named(tmp_path, damage):
    """One flipped character of the same length is enough."""
    path = write(tmp_path / "a") / "deep" / "codes.txt"
    if damage == "missing":
        path.unlink()
    else:
        path.write_text("coder" if damage == "changed" else "code", "utf-8")
    with pytest.raises(ArtifactError, match=r"deep/codes\.txt.*run the 'quantizer' stage again"):
        verify(tmp_path / "a", "quantizer")


def test_another_lineage_is_refused_with_both_fingerprints(tmp_path):
    log, other = write(tmp_path / "log", "one", "log"), write(tmp_path / "other", "two", "log")
    child = write(tmp_path / "child", parents=[log])
    assert verify(child, "quantizer", [log]).parents == {"log": read_manifest(log).fingerprint}
    with pytest.raises(ArtifactError) as error:
        verify(child, "quantizer", [other])
    assert read_manifest(log).fingerprint in str(error.value)
    assert read_manifest(other).fingerprint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_parent_that_was_retrained_in_place_is_noticed(tmp_path):
    log = write(tmp_path / "log", "one", "log")
    child = write(tmp_path / "child", parents=[log])
    write(log, "two", "log")
    with pytest.raises(ArtifactError, match="made from log"):
        verify(child, "quantizer", [log])


def test_another_kind_is_refused_naming_both(tmp_path):
    with pytest.raises(ArtifactError, match="holds 'quantizer', but 'encoder'"):
        verify(write(tmp_path / "a"), "encoder")


def test_a_newer_format_is_refused(tmp_path):
    change_manifest(write(tmp_path / "a"), format=FORMAT + 1)
    with pytest.raises(ArtifactError, match="upgrade onesearch"):
        verify(tmp_path / "a", "quantizer")


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "log"}', '{"surprise": 1}'])
def test_a_broken_manifest_is_refused(tmp_path, text):
    """Cut off, of another shape, without its fields, with fields of nobody's."""
    write(tmp_path / "a")
    (tmp_path / "a" / MANIFEST).write_text(text, "utf-8")
    with pytest.raises(ArtifactError, match="is not a manifest"):
        verify(tmp_path / "a", "quantizer")


def test_a_folder_without_manifest_is_unfinished(tmp_path):
    with pytest.raises(ArtifactError, match="holds no finished artefact"):
        read_manifest(tmp_path / "nowhere")


def test_json_is_readable_and_sorted(tmp_path):
    write_json(tmp_path / "x.json", {"b": "红色", "a": 1})
    assert (tmp_path / "x.json").read_text("utf-8") == '{\n "a": 1,\n "b": "红色"\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
