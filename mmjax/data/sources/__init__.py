"""Sources by name: what a config's {"name": ..., **keywords} builds. A new one is a class and a row."""

from mmjax.data.sources.audio import AudioFolder
from mmjax.data.sources.coco import Karpathy, Vqa
from mmjax.data.sources.folders import ClassFolder, PairsFolder
from mmjax.data.sources.memory import Memory, Synthetic, Tones
from mmjax.data.sources.parquet import Parquet
from mmjax.data.sources.prepared import ArrayRecord, Tfds
from mmjax.data.sources.tables import Csv, Json
from mmjax.data.sources.tar import WebDataset
from mmjax.data.sources.video import VideoFolder

SOURCES = {
    "tfds": Tfds,
    "arrayrecord": ArrayRecord,
    "webdataset": WebDataset,
    "parquet": Parquet,
    "csv": Csv,
    "json": Json,
    "karpathy": Karpathy,
    "vqa": Vqa,
    "pairs_folder": PairsFolder,
    "class_folder": ClassFolder,
    "audio_folder": AudioFolder,
    "video_folder": VideoFolder,
    "memory": Memory,
    "synthetic": Synthetic,
    "tones": Tones,
}
