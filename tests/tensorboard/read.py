"""Reads with PyPI's tensorboard what tests/tensorboard/write.ts wrote: every scalar and text of a run that was resumed."""

import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0})
events.Reload()
scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
texts = {
    tag: [(e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors(tag)] for tag in events.Tags()["tensors"]
}

assert sorted(scalars) == [
    "eval/perplexity",
    "train/flops",
    "train/frozen",
    "train/launches",
    "train/learning_rate",
    "train/loss",
    "train/memory_bytes",
    "train/step_ms",
    "train/tokens_per_second",
], sorted(scalars)
# Steps 3 and 4 of the interrupted part are gone.
assert scalars["train/loss"] == [(1, 11), (2, 12), (3, 23), (4, 24), (5, 25), (6, 26)], scalars["train/loss"]
assert scalars["train/memory_bytes"][0] == (1, 2.0**33)
assert scalars["eval/perplexity"] == [(0, 9.5), (6, 8.5)], scalars["eval/perplexity"]
assert abs(scalars["train/learning_rate"][2][1] - 1e-3 / 3) < 1e-9
assert sorted(texts) == ["configuration", "sample"], sorted(texts)
assert texts["sample"] == [(0, "The whale 🐋"), (6, "The ship")], texts["sample"]
assert '"model": "näve <b>"' in texts["configuration"][0][1]
plugin = events.SummaryMetadata("sample").plugin_data.plugin_name
assert plugin == "text", plugin
print(f"tensorboard read {len(scalars)} scalars and {len(texts)} texts")
