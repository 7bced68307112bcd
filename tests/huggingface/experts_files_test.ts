/** Files of mixtures of experts: a tensor for each expert, or one for all of a layer. */

import { assertEquals, assertRejects } from "@std/assert";
import { DataError, flatten, readAll } from "@firn/train";
import { type FileSystem, memoryFileSystem, openSafetensors, writeSafetensors } from "@firn/train/data";
import { loadModel, newModel, saveModel } from "@firn/train/hub";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const SOURCE = {
  model_type: "olmoe",
  hidden_size: 4,
  intermediate_size: 3,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  vocab_size: 8,
  max_position_embeddings: 8,
  num_experts: 2,
  num_experts_per_tok: 1,
};
const FILE = "model/model.safetensors", EXPERTS = "model.layers.0.mlp.experts";
const PARTS = [0, 1].flatMap((e) =>
  ["down_proj", "gate_proj", "up_proj"].map((name) => `${EXPERTS}.${e}.${name}.weight`)
);

interface Row {
  readonly name: string;
  readonly dtype: "F32";
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

async function rowsOf(fileSystem: FileSystem): Promise<Row[]> {
  await using file = await openSafetensors(FILE, { fileSystem });
  return await Promise.all(file.names.map(async (name) => ({
    name,
    dtype: "F32" as const,
    shape: file.specs.get(name)!.shape,
    data: await file.readF32(name),
  })));
}

async function folderOf(change: (row: Row) => Row | null): Promise<FileSystem> {
  const fileSystem = memoryFileSystem();
  await saveModel(gpu, await newModel(gpu, { source: SOURCE, seed: 1 }), { folder: "model", fileSystem });
  const rows = (await rowsOf(fileSystem)).flatMap((row) => change(row) ?? []);
  await writeSafetensors(FILE, rows, { fileSystem });
  return fileSystem;
}

const expertNames = (names: readonly string[]): string[] =>
  names.filter((name) => name.includes(".experts.")).toSorted();

Deno.test("a new mixture is saved with a tensor for each expert, and read back from them", async () => {
  const fileSystem = memoryFileSystem(), model = await newModel(gpu, { source: SOURCE, seed: 1 });
  await saveModel(gpu, model, { folder: "model", fileSystem });
  const rows = await rowsOf(fileSystem);
  assertEquals(expertNames(rows.map(({ name }) => name)), PARTS);
  assertEquals(rows.find(({ name }) => name === `${EXPERTS}.1.up_proj.weight`)!.shape, [3, 4]);
  const read = await loadModel(gpu, "model", { fileSystem }),
    of = (m: typeof read) => [...flatten(m.params).values()];
  assertEquals(await readAll(gpu, of(read)), await readAll(gpu, of(model)));
  const [up] = await readAll(gpu, [flatten(read.params).get(`${EXPERTS}.gate_up_proj`)!]);
  const second = rows.find(({ name }) => name === `${EXPERTS}.1.gate_proj.weight`)!;
  assertEquals(up.slice(24, 36), second.data, "the gate of expert 1 is behind both matrices of expert 0");
});

Deno.test("experts that a file has in one tensor are saved in one tensor", async () => {
  const model = await newModel(gpu, { source: SOURCE, seed: 1 });
  const [up, down] = await readAll(
    gpu,
    ["gate_up_proj", "down_proj"].map((name) => flatten(model.params).get(`${EXPERTS}.${name}`)!),
  );
  const fileSystem = await folderOf((row) => row.name.includes(".experts.") ? null : row);
  const more = [
    { name: `${EXPERTS}.gate_up_proj`, dtype: "F32" as const, shape: [2, 6, 4], data: up as Row["data"] },
    { name: `${EXPERTS}.down_proj`, dtype: "F32" as const, shape: [2, 4, 3], data: down as Row["data"] },
  ];
  const before = [...await rowsOf(fileSystem), ...more];
  await writeSafetensors(FILE, before, { fileSystem });
  await saveModel(gpu, await loadModel(gpu, "model", { fileSystem }), { folder: "model", fileSystem });
  const byName = (rows: readonly Row[]) => new Map(rows.map((row) => [row.name, row.data]));
  assertEquals(byName(await rowsOf(fileSystem)), byName(before));
});

Deno.test("an expert that is missing, or of another shape, is named", async () => {
  const part = `${EXPERTS}.1.up_proj.weight`,
    rule = `"${EXPERTS}.gate_up_proj" consists of tensors of shape [3, 4]`;
  const cases: [(row: Row) => Row | null, string][] = [
    [(row) => row.name === part ? null : row, "it is missing"],
    [(row) => row.name === part ? { ...row, shape: [4, 3] } : row, "it has [4, 3]"],
  ];
  for (const [change, seen] of cases) {
    const fileSystem = await folderOf(change);
    const error = await assertRejects(() => loadModel(gpu, "model", { fileSystem }), DataError);
    assertEquals(error.message, `Cannot load "${part}" of "${FILE}" as ${rule}: ${seen}`);
  }
});
