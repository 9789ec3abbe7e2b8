"""Options of the procedural scene engine and of the verb `scenes`; torch-free, so that `--help` works anywhere."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class SceneOptions:
    """What the procedural scenes look like.

    Args:
        max_disp: every disparity is below this, in pixels of the rendered size.
        textures: folders or files of photographs, used beside the procedural textures.
        photo_share: share of the texture bank cut from the photographs, where there are any.
        bank_size: number of textures and of cut-out shapes kept in memory (about 1.6 MB each).
        bank_seed: seed of the bank; another one gives other textures and shapes.
        objects: mean number of free-standing objects in a scene.
        supersample: 1 = one sample per pixel; 2 = four per pixel, averaged (about four times the time).
        photometric: noise, blur, vignetting and exposure differences between the eyes.
    """

    max_disp: float = 192.0
    textures: tuple[str, ...] = ()
    photo_share: float = 0.5
    bank_size: int = 128
    bank_seed: int = 0
    objects: float = 14.0
    supersample: int = 1
    photometric: bool = True


@dataclasses.dataclass
class ScenesConfig:
    """Draw a contact sheet of procedural stereo scenes.

    Args:
        out: folder for contact_sheet.png.
        count: number of scenes.
        size: of each view, HEIGHTxWIDTH.
        seed: of the scenes and of the texture bank.
        textures: folder of photographs to use beside the procedural textures.
        max_disp: largest disparity in pixels.
        supersample: 1, or 2 for smoother edges.
        photometric: the differences that two real cameras have.
    """

    out: str = dataclasses.field(kw_only=True)
    count: int = dataclasses.field(default=12, kw_only=True)
    size: str = dataclasses.field(default="256x512", kw_only=True)
    seed: int = dataclasses.field(default=0, kw_only=True)
    textures: str | None = dataclasses.field(default=None, kw_only=True)
    max_disp: float = dataclasses.field(default=192.0, kw_only=True)
    supersample: int = dataclasses.field(default=1, kw_only=True)
    photometric: bool = dataclasses.field(default=True, kw_only=True)
