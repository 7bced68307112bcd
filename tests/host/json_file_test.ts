import { assertEquals, assertRejects } from "@std/assert";
import { DataError } from "@firn/train";
import { memoryFileSystem } from "@firn/train/data";
import { readJson } from "../../core/host/json_file.ts";

Deno.test("readJson refuses lists and objects that nest too deep for what walks through them, and infinite numbers", async () => {
  const nest = (depth: number): string => `{"a":${"[".repeat(depth)}1${"]".repeat(depth)}}`;
  const fileSystem = memoryFileSystem({
    "deep.json": nest(100_000),
    "flat.json": nest(100),
    "wild.json": '{"a":[{"b":1e999}]}',
  });
  await assertRejects(() => readJson("deep.json", { fileSystem }), DataError, '"deep.json" as it must nest');
  await assertRejects(() => readJson("wild.json", { fileSystem }), DataError, 'finite: "b" is not');
  assertEquals(Object.keys(await readJson("flat.json", { fileSystem })), ["a"]);
});
