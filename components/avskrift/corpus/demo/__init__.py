"""The embedded demo corpus: Swedish sentences written for this project, spoken by eSpeak NG.

``plan`` says which speaker says which sentence in which split; ``speak`` makes one clip of it, the same bytes on every
run and in any order. Test and validation speakers and sentences appear in no other split. A word error rate on
synthetic speech says nothing of human Swedish.
"""

from avskrift.corpus.demo.plan import DEFAULT, LICENCE, TINY, DemoSize, DemoUtterance, corpus_sha256, plan
from avskrift.corpus.demo.speakers import SPEAKERS, Speaker
from avskrift.corpus.demo.synthesis import speak, synthesise

__all__ = [
    "DEFAULT",
    "LICENCE",
    "SPEAKERS",
    "TINY",
    "DemoSize",
    "DemoUtterance",
    "Speaker",
    "corpus_sha256",
    "plan",
    "speak",
    "synthesise",
]
