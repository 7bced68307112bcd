/**
 * Files that a person picked, and what strangers may have called them.
 *
 * @module
 */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { FileError, InputError, NotFoundError, read } from "@firn/train";
import type { LlamaParams } from "@firn/train/models";
import { filesFileSystem, memoryFileSystem, openRows } from "@firn/train/data";
import { loadModel, newModel, saveModel } from "@firn/train/hub";
import { openTestGpu } from "../reference/open_gpu.ts";
import { llamaSource } from "../train/tiny.ts";

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** A file of a folder that was picked as a whole. */
const inFolder = (path: string, content: string): File =>
  Object.defineProperty(new File([content], path.split("/").at(-1)!), "webkitRelativePath", { value: path });

Deno.test("filesFileSystem holds picked files, those of a picked folder, and bytes by path", async () => {
  const one = filesFileSystem([new File(["{}"], "config.json")]);
  assertEquals([text(await one.read("config.json")), text(await one.read("./config.json"))], ["{}", "{}"]);
  const folder = filesFileSystem([inFolder("model/config.json", "a"), inFolder("model/deep/x", "b")]);
  assertEquals(await folder.list("."), [{ name: "config.json", kind: "file" }, {
    name: "deep",
    kind: "folder",
  }]);
  assertEquals(text(await folder.read("deep/x")), "b");
  const bytes = filesFileSystem(new Map([["a/x", new Uint8Array([1, 2, 3])]]));
  await using file = await bytes.open("a/x");
  assertEquals([file.size, await file.read(1, 9)], [3, new Uint8Array([2, 3])]);
  assertEquals([await bytes.stat("a"), await bytes.stat("b")], [{ kind: "folder", size: 0 }, null]);
  await assertRejects(() => bytes.read("b"), NotFoundError, 'Cannot open "b" as there is no such file');
  await assertRejects(() => bytes.read("a"), FileError, "it is a folder");
  await assertRejects(() => bytes.read("a/x", { limit: 2 }), FileError, "may have 2 bytes");
});

Deno.test("filesFileSystem refuses names that lead out of the root, and two of one name", () => {
  for (
    const path of ["../x", "a/../../x", "/etc/passwd", "a\\..\\x", "", "a//x", "./x", "a/", "x\0y", ".."]
  ) {
    assertThrows(() => filesFileSystem([[path, new Uint8Array()]]), InputError, "a file below their folder");
  }
  for (const paths of [["x", "x"], ["a", "a/b"], ["a/b", "a"]]) {
    const files = paths.map((path) => [path, new Uint8Array()] as const);
    assertThrows(() => filesFileSystem(files), InputError, "may be there once");
  }
  assertThrows(() => filesFileSystem([["../\x1b[2J", new Uint8Array()]]), InputError, '"../?[2J"');
});

Deno.test("filesFileSystem does not take names for those of objects, nor lets anything be written", async () => {
  const fileSystem = filesFileSystem([["__proto__/constructor", new Uint8Array([1])]]);
  assertEquals(await fileSystem.read("__proto__/constructor"), new Uint8Array([1]));
  assertEquals(await fileSystem.stat("constructor"), null);
  await assertRejects(() => fileSystem.read("__proto__/../../x"), FileError);
  await assertRejects(() => fileSystem.write("x", ""), FileError, "read-only");
  await assertRejects(() => fileSystem.lock("x", ""), FileError, "read-only");
});

Deno.test("a model and rows are loaded from files that a person picked", async () => {
  await using gpu = await openTestGpu();
  const model = await newModel<LlamaParams>(gpu, { source: llamaSource({ layers: 1, tied: true }), seed: 1 });
  const memory = memoryFileSystem();
  await saveModel(gpu, model, { folder: "model", fileSystem: memory });
  const names = (await memory.list("model")).map(({ name }) => name);
  const picked = await Promise.all(
    names.map(async (name) => [name, await memory.read(`model/${name}`)] as const),
  );
  const again = await loadModel<LlamaParams>(gpu, ".", { fileSystem: filesFileSystem(picked) });
  const weightOf = ({ params }: { readonly params: LlamaParams }) =>
    read(gpu, params.model.layers[0].self_attn.q_proj.weight);
  assertEquals(await weightOf(again), await weightOf(model));

  const fileSystem = filesFileSystem([new File(['{"text":"one"}\n{"text":"two"}\n'], "rows.jsonl")]);
  const rows = await openRows("rows.jsonl", { fileSystem });
  assertEquals(rows.count, 2);
});
