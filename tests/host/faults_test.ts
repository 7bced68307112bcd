/**
 * Whatever operation fails, what was there before is whole, or what is new is.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { FileError, FirnError } from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { hostFileSystem, lockFolder, writeSafetensors } from "@firn/train/data";
import { newModel, saveModel } from "@firn/train/hub";
import { openLog } from "@firn/train/report";
import { inFolder } from "../data/files.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { define, stateAt } from "../torture/small_training.ts";
import { contentOf, failEverywhere, type Save } from "./fail_everywhere.ts";
import { type Fault, faultyFiles } from "./faulty_deno.ts";

const SOURCE = {
  model_type: "llama",
  hidden_size: 4,
  intermediate_size: 4,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  vocab_size: 3,
  tie_word_embeddings: true,
};

const SAVES: Readonly<Record<string, Save>> = {
  writeSafetensors: {
    async write(folder, version, fileSystem) {
      const tensor = { name: "x", dtype: "F32", shape: [2], data: new Float32Array([version, 2]) } as const;
      await writeSafetensors(`${folder}/x.safetensors`, [tensor], { fileSystem });
    },
  },
  "write of a report": {
    write: (folder, version, fileSystem) => fileSystem.write(`${folder}/report.html`, `<p>${version}</p>`),
  },
};

/** Fails every operation of a save and finds no damage. */
async function assertWhole(save: Save, fault: Fault): Promise<number> {
  const { operations, damage } = await failEverywhere(save, fault);
  assertEquals(damage, [], fault);
  return operations;
}

for (const fault of ["ENOSPC", "EIO", "kill"] as const) {
  for (const [name, save] of Object.entries(SAVES)) {
    Deno.test(`${name} keeps the old file or has the new one when any operation fails: ${fault}`, async () => {
      assert(await assertWhole(save, fault) >= 3);
    });
  }
}

Deno.test("saveModel keeps the old folder or has the new one when any operation fails", async () => {
  await using gpu = await openTestGpu();
  const models = await Promise.all([1, 2, 3].map((seed) => newModel(gpu, { source: SOURCE, seed })));
  const save: Save = {
    write: (folder, version, fileSystem) =>
      saveModel(gpu, models[version - 1], { folder: `${folder}/model`, fileSystem }),
  };
  for (const fault of ["ENOSPC", "kill"] as const) assert(await assertWhole(save, fault) >= 10);
});

Deno.test("saveCheckpoint keeps a checkpoint to go on with, and no temporary file, when any operation fails", async () => {
  await using gpu = await openTestGpu();
  const states = await Promise.all([1, 2, 3].map((step) => stateAt(define(gpu), step)));
  const save: Save = {
    write: (folder, version, fileSystem) =>
      saveCheckpoint(gpu, states[version - 1], { path: `${folder}/run.safetensors`, fileSystem }),
    read: async (folder) => String((await loadCheckpoint(`${folder}/run.safetensors`)).step),
  };
  for (const fault of ["EIO", "kill"] as const) assert(await assertWhole(save, fault) >= 5);
});

Deno.test("a log whose append fails has whole lines, and goes on", async () => {
  for (let at = 3; at <= 5; at++) {
    await inFolder(async (folder) => {
      const path = `${folder}/metrics.jsonl`, { fileSystem } = faultyFiles("ENOSPC", at + 2);
      const log = await openLog(path, { fileSystem });
      const error = await log.add([{ kind: "components", components: [] }]).then(
        () => null,
        (e: unknown) => e,
      );
      assert(error === null || error instanceof FirnError);
      const text = await Deno.readTextFile(path);
      assertEquals(log.lines.length, text.split("\n").length - 1);
      assert(text === "" || text.endsWith("\n"), text);
    });
  }
});

Deno.test("lockFolder lets one run have a folder, takes over that of a dead one, and puts in order what it left", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/.firn.lock`, "process 1 since long ago\n");
    await Deno.writeTextFile(`${folder}/x.1-0123456789ab.tmp`, "half");
    await Deno.mkdir(`${folder}/model.1-ba9876543210.old`);
    await Deno.writeTextFile(`${folder}/model.1-ba9876543210.old/config.json`, "old");
    const held = `model/config.json ${new TextEncoder().encode("old").toHex()}`;
    {
      await using _lock = await lockFolder(folder);
      await assertRejects(() => lockFolder(folder), FileError, `process ${Deno.pid}`);
      assertEquals(await contentOf(folder), held);
    }
    assertEquals((await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name), ["model"]);
  });
});

Deno.test("pipes, devices and folders are refused before they are opened", async () => {
  await inFolder(async (folder) => {
    const pipe = `${folder}/pipe`, files = hostFileSystem();
    await new Deno.Command("sh", { args: ["-c", `mkfifo "$0"`, pipe] }).output();
    for (const path of [pipe, "/dev/zero", folder]) {
      await assertRejects(() => files.read(path), FileError, path);
      await assertRejects(() => files.open(path), FileError, path);
      await assertRejects(() => files.append(path, "x"), FileError, path);
    }
    await Deno.writeTextFile(`${folder}/big`, "12345");
    await assertRejects(() => files.read(`${folder}/big`, { limit: 4 }), FileError, "it has 5");
  });
});

Deno.test("a full disk is named with the bytes that a file of tensors takes, its header included", async () => {
  const folder = await Deno.makeTempDir(), path = `${folder}/a.safetensors`, messages: string[] = [];
  const tensors = [{ name: "w", dtype: "F32", shape: [1000], data: new Float32Array(1000) }] as const;
  for (let at = 1; at <= 8; at++) {
    const { fileSystem } = faultyFiles("ENOSPC", at);
    await writeSafetensors(path, tensors, { fileSystem }).catch((error) => messages.push(error.message));
  }
  await writeSafetensors(path, tensors);
  const { size } = await Deno.stat(path);
  const rule = `as the disk must have room for ${size.toLocaleString("en-US")} bytes: it is full`;
  assert(messages.length > 0 && messages.every((message) => message.includes(rule)), messages.join("\n"));
  // The path is the one that was asked for, not that of the temporary file.
  assert(messages.every((message) => message.includes(`"${path}"`)), messages.join("\n"));
  await Deno.remove(folder, { recursive: true });
});
