import { assertEquals, assertRejects } from "@std/assert";
import { DataError, InputError, NotFoundError } from "@firn/train";
import { openCheckpoint } from "../../core/huggingface/shards.ts";
import { writeSafetensors } from "../../core/data/safetensors_write.ts";
import { inFolder } from "../data/files.ts";

const INDEX = "model.safetensors.index.json";

async function writeShards(folder: string, weightMap: unknown): Promise<void> {
  for (const [file, name] of [["one", "a"], ["two", "b"]]) {
    const data = new Float32Array([file.length, name.charCodeAt(0)]);
    await writeSafetensors(`${folder}/${file}.safetensors`, [{ name, dtype: "F32", shape: [2], data }]);
  }
  await Deno.writeTextFile(`${folder}/${INDEX}`, JSON.stringify({ weight_map: weightMap }));
}

Deno.test("openCheckpoint opens a single file", async () => {
  await using checkpoint = await openCheckpoint(`${import.meta.dirname}/../fixtures/llama`);
  assertEquals(checkpoint.specs.get("model.embed_tokens.weight")?.dtype, "F32");
  assertEquals(checkpoint.metadata, { format: "pt" });
});

Deno.test("openCheckpoint reads shards as one file", async () => {
  await inFolder(async (folder) => {
    await writeShards(folder, { b: "two.safetensors", a: "one.safetensors" });
    await using checkpoint = await openCheckpoint(folder);
    assertEquals(checkpoint.names.toSorted(), ["a", "b"]);
    assertEquals(await checkpoint.readF32("a"), new Float32Array([3, 97]));
    assertEquals(await checkpoint.readF32("b"), new Float32Array([3, 98]));
    await assertRejects(() => checkpoint.read("c"), InputError, '"c"');
  });
});

const BROKEN: readonly (readonly [string, unknown, string])[] = [
  ["a map that is none", [], '"weight_map" must map'],
  ["a shard outside the folder", { a: "../one.safetensors" }, "beside it"],
  ["a shard at an absolute path", { a: "/etc/one.safetensors" }, "beside it"],
  ["a shard of another kind", { a: "config.json" }, "beside it"],
  ["a shard that is no text", { a: 1 }, "beside it"],
  [
    "a tensor that no shard has",
    { a: "one.safetensors", c: "one.safetensors" },
    '"one.safetensors" lacks "c"',
  ],
  [
    "a tensor in another shard",
    { a: "two.safetensors", b: "two.safetensors" },
    '"two.safetensors" lacks "a"',
  ],
  ["a tensor that is not listed", { a: "two.safetensors" }, '"b" of "two.safetensors" is listed nowhere'],
];

for (const [what, weightMap, seen] of BROKEN) {
  Deno.test(`openCheckpoint refuses an index with ${what}`, async () => {
    await inFolder(async (folder) => {
      await writeShards(folder, weightMap);
      const error = await assertRejects(() => openCheckpoint(folder), DataError, seen);
      assertEquals(error.message.includes(`${folder}/${INDEX}`), true);
    });
  });
}

Deno.test("openCheckpoint names what is missing", async () => {
  await inFolder(async (folder) => {
    await assertRejects(() => openCheckpoint(folder), NotFoundError, "it has neither");
    await assertRejects(() => openCheckpoint(`${folder}/none`), NotFoundError, "no such folder");
    await writeShards(folder, { a: "three.safetensors" });
    await assertRejects(() => openCheckpoint(folder), NotFoundError, "three.safetensors");
    await Deno.writeTextFile(`${folder}/${INDEX}`, "{");
    await assertRejects(() => openCheckpoint(folder), DataError, INDEX);
  });
});
