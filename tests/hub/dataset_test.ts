/**
 * Data files of datasets of a hub.
 *
 * @module
 */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { InputError, NotFoundError } from "@firn/train";
import { openRows } from "@firn/train/data";
import { downloadDataset } from "@firn/train/hub";
import { chosenData } from "../../core/huggingface/download_dataset.ts";
import { inFolder } from "../data/files.ts";
import { addCommit, startHub } from "./fake_hub.ts";

Deno.test("of a dataset its training split comes, or what the name says", () => {
  const all = [
    "README.md",
    "data/test-00000.parquet",
    "data/train-00001.parquet",
    "data/train-00000.parquet",
    "dataset_infos.json",
    "raw/all.csv",
  ];
  const of = (path: string, files: readonly string[] = all) =>
    chosenData(`org/rows${path && `/${path}`}`, { path, all: files });
  assertEquals(of(""), ["data/train-00000.parquet", "data/train-00001.parquet"]);
  assertEquals(of("data"), ["data/train-00000.parquet", "data/train-00001.parquet"]);
  assertEquals(of("data/test-00000.parquet"), ["data/test-00000.parquet"]);
  assertEquals(of("data/*-00000.parquet"), ["data/test-00000.parquet", "data/train-00000.parquet"]);
  assertEquals(of("raw"), ["raw/all.csv"]);
  assertEquals(of("", ["a.json", "a.jsonl", "test.jsonl"]), ["a.jsonl"]);
  assertEquals(of("", ["constraints.jsonl"]), ["constraints.jsonl"]);
  assertThrows(
    () => of("", ["main/train.jsonl", "socratic/train.jsonl"]),
    InputError,
    'as in "org/rows/main"',
  );
  assertThrows(() => of("data/dev.parquet"), NotFoundError, '"data/train-00001.parquet"');
  assertThrows(() => of("", ["README.md", "x.zip"]), NotFoundError, "none in parquet, jsonl");
});

Deno.test("rows of a dataset are read from the cache, and a second time without the hub", async () => {
  await using hub = startHub();
  const rows = ["War", "Peace"].map((text) => JSON.stringify({ text })).join("\n");
  const commit = addCommit(hub, "datasets/org/rows", {
    files: { "data/train-0.jsonl": rows, "data/train-1.jsonl": rows, "data/test-0.jsonl": rows },
  });
  await inFolder(async (cache) => {
    const options = { cache, endpoint: hub.endpoint, token: null, offline: false, retryDelay: 1 };
    const files = await downloadDataset("org/rows", options);
    const at = `${cache}/datasets--org--rows/snapshots/${commit}/data`;
    assertEquals(files, [`${at}/train-0.jsonl`, `${at}/train-1.jsonl`]);
    assertEquals((await openRows(files)).count, 4);
    hub.asked.length = 0;
    assertEquals(await downloadDataset("org/rows/data/", options), files);
    assertEquals(await downloadDataset(`org/rows/data/*-1.jsonl@${commit}`, options), [files[1]]);
    assertEquals(hub.asked, []);
    await assertRejects(() => downloadDataset("rows", options), InputError, "owner/name");
    await assertRejects(() => downloadDataset("org/rows/../x", options), InputError);
  });
});
