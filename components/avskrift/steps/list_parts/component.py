"""The KFP face of list_parts."""

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("data"), packages_to_install=[], install_kfp_package=False)
def list_parts(
    source: str,
    parts: int = 1,
    language: str = "sv",
    validated_remainder: bool = False,
    on_missing: str = "fail",
    refresh: str = "",  # noqa: ARG001 - it is there to be another one
) -> list[int]:
    """Number the parts into which the reading of a source is divided, after a look at its lists.

    Args:
        source: One source of recordings with transcripts, or several joined by " + ".
        parts: How many parts.
        language: A Whisper language code or its English name.
        validated_remainder: Of Common Voice, also the validated clips that are in no split.
        on_missing: What a recording without its transcript (or the reverse) does: fail the step, or skip it.
        refresh: Any text; another one than before makes Kubeflow read again what it would take from its cache.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.list_parts.step import Config, run

    with boundary("list_parts"):
        result = run(
            Config(source=source, parts=int(parts), language=language, validated_remainder=validated_remainder, on_missing=on_missing)
        )
        return result.parts
