from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_hearing import spoken

from avskrift.evaluation.joined_clips import join_clips


@given(st.lists(st.floats(0.5, 12.0), max_size=12), st.floats(5.0, 30.0), st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_no_recording_is_longer_than_asked_and_none_is_closed_before_it_is_full(lengths: list[float], seconds: float, most: int) -> None:
    clips = [spoken(number, "ja", seconds=length) for number, length in enumerate(lengths)]
    recordings = join_clips(clips, seconds=seconds, recordings=most)
    assert len(recordings) <= most
    placed = [clip.index for recording in recordings for clip in recording.clips]
    assert placed == list(range(len(placed)))
    assert len(placed) == len(clips) or len(recordings) == most
    for number, recording in enumerate(recordings):
        assert recording.seconds <= seconds or len(recording.clips) == 1
        following = recording.clips[-1].index + 1
        if number + 1 < len(recordings):
            assert recording.seconds + lengths[following] + 1.0 > seconds
        assert all(0 <= clip.start_s < clip.end_s <= recording.seconds for clip in recording.clips)
