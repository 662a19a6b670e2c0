"""The KFP face of read_part."""

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("data"), packages_to_install=[], install_kfp_package=False)
def read_part(
    source: str,
    staged: dsl.Output[dsl.Artifact],
    part: int = 0,
    parts: int = 1,
    language: str = "sv",
    validated_remainder: bool = False,
    on_missing: str = "fail",
    on_overlap: str = "fail",
    max_clips: int = 0,
    refresh: str = "",  # noqa: ARG001 - it is there to be another one
) -> None:
    """Read, check and encode one share of the recordings of a source.

    Args:
        source: One source of recordings with transcripts, or several joined by " + ".
        staged: The checked recordings, for prepare to merge.
        part: Which share, counted from 0.
        parts: How many shares there are.
        language: A Whisper language code or its English name.
        validated_remainder: Of Common Voice, also the validated clips that are in no split.
        on_missing: What a recording without its transcript (or the reverse) does: fail the step, or skip it.
        on_overlap: What named splits that share speakers or sentences do: fail the step, or hold-back the clips.
        max_clips: Look at so many clips alone, always the same ones; 0 takes all.
        refresh: Any text; another one than before makes Kubeflow read again what it would take from its cache.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.prepare.step import Config as What
    from avskrift.steps.read_part.step import Config, run

    with boundary(f"read_part_{int(part)}"):
        what = What(
            source=source,
            out=staged.path,
            language=language,
            validated_remainder=validated_remainder,
            on_missing=on_missing,
            on_overlap=on_overlap,
            max_clips=int(max_clips),
        )
        run(Config(prepare=what, part=int(part), of=int(parts)))
