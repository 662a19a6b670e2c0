"""The figures of Whisper's front end, each named once.

Source: Radford et al., *Robust Speech Recognition via Large-Scale Weak Supervision* (2022), section 2.2.
"""

SAMPLE_RATE = 16_000  # Hz
N_FFT = 400  # samples: a window of 25 ms
HOP_LENGTH = 160  # samples: a stride of 10 ms
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH  # 100 log-mel frames
WINDOW_SECONDS = 30  # the longest audio the encoder reads at once
WINDOW_SAMPLES = WINDOW_SECONDS * SAMPLE_RATE
WINDOW_FRAMES = WINDOW_SECONDS * FRAMES_PER_SECOND  # 3000
FRAMES_PER_POSITION = 2  # the encoder's second convolution halves the frames: 1500 positions for 30 s
