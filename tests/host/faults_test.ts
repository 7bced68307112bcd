/**
 * Whatever operation fails, what was there before is whole, or what is new is.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { FileError, FirnError, newModel } from "@firn/train";
import { type FileSystem, hostFileSystem, lockFolder, writeSafetensors } from "@firn/train/data";
import { saveModel } from "@firn/train/hub";
import { openLog } from "@firn/train/report";
import { inFolder } from "../data/files.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { type Fault, faultyFiles, KilledError } from "./faulty_deno.ts";

const SOURCE = {
  model_type: "llama",
  hidden_size: 4,
  intermediate_size: 4,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  vocab_size: 3,
  tie_word_embeddings: true,
};

/** The content of every file below a folder, by path. */
async function contentOf(folder: string): Promise<Map<string, string>> {
  const content = new Map<string, string>();
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = `${folder}/${name}`;
    if (isDirectory) {
      for (const [inner, text] of await contentOf(path)) content.set(`${name}/${inner}`, text);
    } else content.set(name, (await Deno.readFile(path)).toString());
  }
  return content;
}

const same = (a: Map<string, string>, b: Map<string, string>): boolean =>
  JSON.stringify([...a].toSorted()) === JSON.stringify([...b].toSorted());

/** A save: what it writes below a folder, before and after. */
type Save = (folder: string, version: number, fileSystem: FileSystem) => Promise<void>;

/** Fails every operation of a save in turn. */
async function failEverywhere(save: Save, fault: Fault): Promise<number> {
  for (let at = 1;; at++) {
    const done = await inTurn(save, { fault, at });
    if (done) return at - 1;
  }
}

async function inTurn(
  save: Save,
  { fault, at }: { readonly fault: Fault; readonly at: number },
): Promise<boolean> {
  let done = false;
  await inFolder(async (folder) => {
    await save(folder, 1, hostFileSystem());
    const before = await contentOf(folder);
    const { fileSystem, operations } = faultyFiles(fault, at);
    const error = await save(folder, 2, fileSystem).then(() => null, (error: unknown) => error);
    if (operations() < at) {
      assertEquals(error, null);
      done = true;
      return;
    }
    if (fault === "kill") {
      assert(error === null || error instanceof KilledError, `${at}: ${error}`);
      // The next start puts the folder in order.
      await using _lock = await lockFolder(folder);
    } else if (error !== null) {
      assert(error instanceof FileError && error.message.includes(folder), `${at}: ${error}`);
    }
    const left = await contentOf(folder);
    left.delete(".firn.lock");
    // What could not be removed at the end of a save that succeeded goes at the next start.
    if (error === null) {
      for (const path of left.keys()) if (/\.(tmp|old)(\/|$)/.test(path)) left.delete(path);
    }
    if (same(left, before)) return;
    await save(folder, 2, hostFileSystem());
    const after = await contentOf(folder);
    after.delete(".firn.lock");
    for (const path of after.keys()) if (/\.(tmp|old)\//.test(path)) after.delete(path);
    assertEquals([...left.keys()].toSorted(), [...after.keys()].toSorted(), `${fault} at ${at}`);
    assert(same(left, after), `${fault} at ${at} left something torn`);
  });
  return done;
}

const SAVES: Readonly<Record<string, Save>> = {
  async "writeSafetensors"(folder, version, fileSystem) {
    const tensor = { name: "x", dtype: "F32", shape: [2], data: new Float32Array([version, 2]) } as const;
    await writeSafetensors(`${folder}/x.safetensors`, [tensor], { fileSystem });
  },
  async "write of a report"(folder, version, fileSystem) {
    await fileSystem.write(`${folder}/report.html`, `<p>${version}</p>`);
  },
};

for (const fault of ["ENOSPC", "EIO", "kill"] as const) {
  for (const [name, save] of Object.entries(SAVES)) {
    Deno.test(`${name} keeps the old file or has the new one when any operation fails: ${fault}`, async () => {
      assert(await failEverywhere(save, fault) >= 3);
    });
  }
}

Deno.test("saveModel keeps the old folder or has the new one when any operation fails", async () => {
  await using gpu = await openTestGpu();
  const models = await Promise.all([1, 2].map((seed) => newModel(gpu, { source: SOURCE, seed })));
  const save: Save = (folder, version, fileSystem) =>
    saveModel(gpu, models[version - 1], { folder: `${folder}/model`, fileSystem });
  for (const fault of ["ENOSPC", "kill"] as const) assert(await failEverywhere(save, fault) >= 10);
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
    {
      await using _lock = await lockFolder(folder);
      await assertRejects(() => lockFolder(folder), FileError, `process ${Deno.pid}`);
      assertEquals([...(await contentOf(folder)).keys()].toSorted(), [".firn.lock", "model/config.json"]);
    }
    assertEquals([...(await contentOf(folder)).keys()], ["model/config.json"]);
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
