"""A view: some frames of a label set as a set of their own, without copying a file.

It is a folder with nothing but a manifest. The manifest has the fields of a label set's, `view_of` with the place and
the journal's checksum of the set whose files it shows, and `frames`, the numbers of the frames that count. A view opens
as a label set does (`LabelSet.open`), as long as that set is unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stereo.artifacts import MANIFEST_NAME, make_manifest, read_json, write_json
from stereo.errors import UserError
from stereo.label_journal import JOURNAL_NAME
from stereo.label_set import FORMAT_VERSION, KIND, LabelSet

# Fields that mean the same in a view as in the set it shows.
SHARED = ("source", "teacher", "disparity_scale", "keep_threshold", "rig")


def write_view(labels: LabelSet, names: Sequence[str], path: Path | str, *, reason: str) -> Path:
    """Write a view of a label set, or of another view. Returns its folder.

    Args:
        labels: the set.
        names: the frames that count.
        path: the view's folder; a view that is there already is replaced.
        reason: why the other frames do not count, for people.

    Raises:
        UserError: the set's labelling is not finished, a name is not in it, no name is given, or the folder holds
            something else than a view.
    """
    path = Path(path)
    if not labels.finished:
        raise UserError("its labelling is not finished, so what is in it will change", where=labels.path,
                        fix="run `stereodistill label` again, with the same options")  # fmt: skip
    numbers = dict(zip(labels.names, labels.numbers, strict=True))
    unknown = [name for name in names if name not in numbers]
    if unknown or not names:
        what = f"has no frame '{unknown[0]}'" if unknown else "a view needs at least one frame"
        raise UserError(what, where=labels.path, fix="the names are those of the frames, such as 000012")
    if (path / JOURNAL_NAME).exists() or path.resolve() == labels.root.resolve():
        raise UserError("holds a label set, not a view", where=path, fix="choose another folder")
    original = read_json(labels.root / MANIFEST_NAME, what=KIND)
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "finished": True,
        **{field: labels.manifest.get(field) for field in SHARED},
        "view_of": {
            "path": os.path.relpath(labels.root.resolve(), path.resolve()),
            "journal_sha256": original["journal_sha256"],
        },
        "reason": reason,
        "frames": sorted(numbers[name] for name in names),
    }
    made_from = {str(labels.root): original["journal_sha256"]}
    write_json(path / MANIFEST_NAME, make_manifest(KIND, made_from=made_from, config={}, content=content))
    return path
