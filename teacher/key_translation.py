"""From the names of FoundationStereo's published weights to ours.

Every published entry is accounted for: it has a place here, is a second name of another entry, or is known never to be
used. Anything else is an error, and so is anything that lacks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

# Read by the published network's constructor alone: present in the checkpoint, without effect on the output.
NEVER_USED = (
    r"context_zqr_convs\.",
    r"stem_4\.",
    r"cnet\.down\.",
    r"cnet\.norm\.",
    r"feature\.dino\.depth_anything\.depth_head\.scratch\.refinenet4\.resConfUnit1\.",
    r"feature\.dino\.depth_anything\.depth_head\.scratch\.output_conv2\.",
    r"feature\.dino\.depth_anything\.pretrained\.mask_token$",
)

# One module under two names: the first is skipped, the second has a place below.
ALIASES = ((r"(cnet\.layer\d\.\d)\.downsample\.1\.", r"\1.norm3."),)

VIT = r"feature\.dino\.depth_anything\.pretrained"
DPT = r"feature\.dino\.depth_anything\.depth_head"

# Applied in turn to the start of a name, first match wins; the published name's numbers are counted from 0 or 1 as they
# were, ours from 0.
PREFIXES: tuple[tuple[str, str], ...] = (
    (rf"{VIT}\.patch_embed\.proj\.", "features.mono.vit.patch_embed."),
    (rf"{VIT}\.(blocks\.\d+)\.mlp\.fc1\.", r"features.mono.vit.\1.mlp.0."),
    (rf"{VIT}\.(blocks\.\d+)\.mlp\.fc2\.", r"features.mono.vit.\1.mlp.2."),
    (rf"{VIT}\.", "features.mono.vit."),
    (rf"{DPT}\.scratch\.layer1_rn\.", "features.mono.head.level_convs.0."),
    (rf"{DPT}\.scratch\.layer2_rn\.", "features.mono.head.level_convs.1."),
    (rf"{DPT}\.scratch\.layer3_rn\.", "features.mono.head.level_convs.2."),
    (rf"{DPT}\.scratch\.layer4_rn\.", "features.mono.head.level_convs.3."),
    *(
        (rf"{DPT}\.scratch\.refinenet{number + 1}\.{theirs}\.", f"features.mono.head.fusion.{number}.{ours}.")
        for number in range(4)
        for theirs, ours in (("resConfUnit1", "skip_unit"), ("resConfUnit2", "unit"), ("out_conv", "out_conv"))
    ),
    (rf"{DPT}\.scratch\.output_conv1\.", "features.mono.head.output_conv1."),
    (rf"{DPT}\.", "features.mono.head."),
    (r"feature\.stem\.", "features.cnn.stem."),
    (r"feature\.stages\.(\d)\.downsample\.", r"features.cnn.downsamples.\1."),
    (r"feature\.stages\.(\d)\.blocks\.(\d+)\.norm\.", r"features.cnn.stages.\1.\2.mlp.0."),
    (r"feature\.stages\.(\d)\.blocks\.(\d+)\.mlp\.fc1\.", r"features.cnn.stages.\1.\2.mlp.1."),
    (r"feature\.stages\.(\d)\.blocks\.(\d+)\.mlp\.fc2\.", r"features.cnn.stages.\1.\2.mlp.3."),
    (r"feature\.stages\.(\d)\.blocks\.(\d+)\.", r"features.cnn.stages.\1.\2."),
    *(
        (rf"feature\.{theirs}\.{part}\.", f"features.decoder.{number}.{ours}.")
        for number, theirs in enumerate(("deconv8_4", "deconv16_8", "deconv32_16"))
        for part, ours in (
            (r"conv1\.conv", "up.0"), (r"conv2\.conv1", "merge.conv1.0"), (r"conv2\.conv2", "merge.conv2.0"),
        )
    ),
    (r"feature\.conv4\.0\.conv\.", "features.fuse.0.0."),
    (r"feature\.conv4\.([12])\.conv([12])\.", r"features.fuse.\1.conv\2.0."),
    (r"proj_cmb\.", "filtering.cost_volume.projection."),
    (r"corr_stem\.0\.", "filtering.stem.0."),
    (r"corr_stem\.1\.conv\.", "filtering.stem.1.0."),
    (r"corr_stem\.1\.bn\.", "filtering.stem.1.1."),
    (r"corr_stem\.([23])\.conv([12])\.", r"filtering.stem.\1.conv\2.0."),
    (r"corr_stem\.([23])\.bn([12])\.", r"filtering.stem.\1.conv\2.1."),
    (r"corr_feature_att\.", "filtering.stem_gate."),
    (r"classifier\.0\.conv\.", "filtering.classifier.0.0."),
    (r"classifier\.0\.bn\.", "filtering.classifier.0.1."),
    (r"classifier\.1\.conv([12])\.", r"filtering.classifier.1.conv\1.0."),
    (r"classifier\.1\.bn([12])\.", r"filtering.classifier.1.conv\1.1."),
    (r"classifier\.2\.", "filtering.classifier.2."),
    *(
        (rf"cost_agg\.conv{number + 1}\.{theirs}\.", f"filtering.hourglass.down.{number}.{ours}.")
        for number in range(3)
        for theirs, ours in ((r"0\.conv", "0.0"), (r"0\.bn", "0.1"), ("1", "1"))
    ),
    *(
        (rf"cost_agg\.{theirs}\.", f"filtering.hourglass.{ours}.")
        for theirs, ours in (
            ("conv3_up", "up_stages.1.up"), ("conv2_up", "up_stages.0.up"), ("conv1_up", "up"),
            ("agg_0", "up_stages.1.merge"), ("agg_1", "up_stages.0.merge"), ("conv_out", "finish"),
            (r"conv_patch\.0", "transformer.patchify"), (r"conv_patch\.1", "transformer.norm"),
            (r"atts\.4\.sa\.(\d)", r"transformer.layers.\1"),
            ("feature_att_8", "gate_down.0"), ("feature_att_16", "gate_down.1"), ("feature_att_32", "gate_down.2"),
            ("feature_att_up_16", "up_stages.1.gate"), ("feature_att_up_8", "up_stages.0.gate"),
        )
    ),
    (r"cnet\.conv1\.", "context.stem.0.0."),
    (r"cnet\.norm1\.", "context.stem.0.1."),
    (r"cnet\.layer([123])\.", r"context.stem.\1."),
    (r"cnet\.conv2\.conv\.", "context.join.0."),
    (r"cnet\.conv2\.bn\.", "context.join.1."),
    (r"cnet\.layer4\.", "context.down.0."),
    (r"cnet\.layer5\.", "context.down.1."),
    *(
        (rf"cnet\.outputs{name}\.{branch}\.", f"context.heads.{number}.{ours}.")
        for number, name in enumerate(("04", "08"))
        for branch, ours in enumerate(("state", "inputs"))
    ),
    (r"cnet\.outputs16\.0\.", "context.heads.2.state.0."),
    (r"cnet\.outputs16\.1\.", "context.heads.2.inputs.0."),
    (r"cam\.fc\.", "context.cam.mlp."),
    (r"sam\.samconv\.", "context.sam.conv."),
    (r"update_block\.gru04\.", "update.grus.0."),
    (r"update_block\.gru08\.", "update.grus.1."),
    (r"update_block\.gru16\.", "update.grus.2."),
    (r"update_block\.disp_head\.conv\.", "update.disp_head."),
    (r"update_block\.", "update."),
    (r"stem_2\.0\.conv\.", "upsampling.stem.0."),
    (r"stem_2\.1\.", "upsampling.stem.3."),
    (r"spx_2_gru\.conv1\.conv\.", "upsampling.up."),
    (r"spx_2_gru\.conv2\.conv\.", "upsampling.merge."),
    (r"spx_gru\.0\.", "upsampling.logits."),
)  # fmt: skip

# Then, anywhere in the name that came out, where only names of this kind are found.
PARTS: tuple[tuple[str, str], ...] = (
    (r"(hourglass\.(?:down\.\d|up_stages\.\d\.merge|finish)\.\d)\.conv1\.", r"\1.conv.planar."),
    (r"(hourglass\.(?:down\.\d|up_stages\.\d\.merge|finish)\.\d)\.conv2\.", r"\1.conv.axial."),
    (r"(hourglass\.up_stages\.\d\.merge\.0)\.conv\.", r"\1.0."),
    (r"(hourglass\.up_stages\.\d\.merge\.0)\.bn\.", r"\1.1."),
    (r"(hourglass\.(?:up_stages\.\d\.)?up)\.conv\.", r"\1.0."),
    (r"(hourglass\.(?:up_stages\.\d\.)?up)\.bn\.", r"\1.1."),
    (r"gate(_down\.\d)?\.feat_att\.0\.conv\.", r"gate\1.reduce.0."),
    (r"gate(_down\.\d)?\.feat_att\.0\.bn\.", r"gate\1.reduce.1."),
    (r"gate(_down\.\d)?\.feat_att\.1\.", r"gate\1.weigh."),
    (r"(transformer\.layers\.\d)\.self_attn\.q_proj\.", r"\1.query."),
    (r"(transformer\.layers\.\d)\.self_attn\.k_proj\.", r"\1.key."),
    (r"(transformer\.layers\.\d)\.self_attn\.v_proj\.", r"\1.value."),
    (r"(transformer\.layers\.\d)\.self_attn\.out_proj\.", r"\1.out."),
    (r"(transformer\.layers\.\d)\.linear1\.", r"\1.expand."),
    (r"(transformer\.layers\.\d)\.linear2\.", r"\1.contract."),
    (r"(context\.(?:stem|down)\.\d\.\d|context\.heads\.\d\.\w+\.0)\.conv([12])\.", r"\1.conv\2.0."),
    (r"(context\.(?:stem|down)\.\d\.\d|context\.heads\.\d\.\w+\.0)\.norm([12])\.", r"\1.conv\2.1."),
    (r"(context\.(?:stem|down)\.\d\.\d)\.downsample\.0\.", r"\1.shortcut.0."),
    (r"(context\.(?:stem|down)\.\d\.\d)\.norm3\.", r"\1.shortcut.1."),
    (r"(update\.disp_head\.\d)\.pwconv1\.", r"\1.mlp.0."),
    (r"(update\.disp_head\.\d)\.pwconv2\.", r"\1.mlp.2."),
    (r"(update\.grus\.\d\.\w+_gru)\.convq\.", r"\1.candidate."),
)

# Two published convolutions that we compute as one: update gate first, reset gate second.
MERGED = (r"(update\.grus\.\d\.\w+_gru)\.conv([zr])\.", r"\1.gates.")


def is_never_used(name: str) -> bool:
    """Whether a published entry has no effect."""
    return any(re.match(pattern, name) for pattern in NEVER_USED)


def alias_of(name: str) -> str | None:
    """The other name of a published entry that is stored twice."""
    for pattern, replacement in ALIASES:
        other, count = re.subn(pattern, replacement, name)
        if count:
            return other
    return None


def translated(name: str) -> str | None:
    """Our name of a published entry (of two merged ones still apart); None for one that is unknown."""
    for pattern, replacement in PREFIXES:
        renamed, count = re.subn(rf"^{pattern}", replacement, name)
        if count:
            break
    else:
        return None
    for pattern, replacement in PARTS:
        renamed = re.sub(pattern, replacement, renamed)
    return renamed


def translate(state: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Published weights under our names.

    Returns: the weights, and the names that are unknown. Entries that are never used and second names are dropped.
    """
    ours: dict[str, torch.Tensor] = {}
    unknown: list[str] = []
    for name, tensor in state.items():
        if is_never_used(name):
            continue
        other = alias_of(name)
        if other is not None and other in state:
            continue
        renamed = translated(other or name)
        if renamed is None:
            unknown.append(name)
        else:
            ours[renamed] = tensor
    return merge_gates(ours), unknown


def merge_gates(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Join the two gate convolutions of every GRU along their outputs."""
    pattern, replacement = MERGED
    merged = {name: tensor for name, tensor in weights.items() if not re.match(pattern, name)}
    for name in weights:
        match = re.match(pattern, name)
        if match and match[2] == "z":
            reset = name.replace(".convz.", ".convr.")
            if reset in weights:
                merged[re.sub(pattern, replacement, name)] = torch.cat([weights[name], weights[reset]])
    return merged
