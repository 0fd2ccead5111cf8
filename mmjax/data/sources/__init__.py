"""Sources by name: what a config's {"name": ..., **keywords} builds. A new one is a class and a row."""

from mmjax.data.sources.memory import Memory, Synthetic
from mmjax.data.sources.prepared import Tfds

SOURCES = {"tfds": Tfds, "synthetic": Synthetic, "memory": Memory}
