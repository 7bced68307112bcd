/**
 * Every operation of every save fails once: a full disk, a broken one, a kill.
 *
 * @module
 */

import type { Gpu } from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { hostFileSystem, writeSafetensors } from "@firn/train/data";
import { companionFiles, loadAdapter, loadModel, newModel, saveAdapter, saveModel } from "@firn/train/hub";
import { type Line, openLog } from "@firn/train/report";
import { failEverywhere, type Save } from "../host/fail_everywhere.ts";
import type { Fault } from "../host/faulty_deno.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { define, stateAt } from "./small_training.ts";
import { CONFIG, makeAdapter, makeModel } from "./small_model.ts";
import type { Failure, Row } from "./tally.ts";

const FAULTS: readonly Fault[] = ["ENOSPC", "EIO", "kill"];

/** Three versions of something. */
async function three<T>(make: (version: number) => Promise<T>): Promise<(version: number) => T> {
  const made: T[] = [];
  for (const version of [1, 2, 3]) made.push(await make(version));
  return (version) => made[version - 1];
}

/**
 * Fails every operation of every save.
 *
 * @param folder A folder for all files
 * @returns A row of the table for each kind of save
 */
export async function failSaves(folder: string): Promise<Row[]> {
  await makeModel(`${folder}/faults`);
  await makeAdapter(`${folder}/faults-adapter`);
  await using gpu = await openTestGpu();
  const saves = {
    "saveModel": await modelSave(gpu, `${folder}/faults`),
    "saveAdapter": await adapterSave(gpu, folder),
    "saveCheckpoint": await checkpointSave(gpu),
    "log": LOG,
    "report": REPORT,
    "writeSafetensors": SAFETENSORS,
  };
  const rows: Row[] = [];
  for (const [name, save] of Object.entries(saves)) {
    let count = 0;
    const failures: Failure[] = [];
    for (const fault of FAULTS) {
      const { operations, damage } = await failEverywhere(save, fault);
      count += operations;
      for (const { at, kind, seen } of damage) {
        failures.push({ column: kind, part: name, number: at, detail: `${fault}: ${seen}` });
      }
    }
    rows.push({ part: name, tried: `${count} faults`, kills: 0, failures });
  }
  return rows;
}

async function modelSave(gpu: Gpu, base: string): Promise<Save> {
  const model = await three((seed) => newModel(gpu, { source: CONFIG, seed })),
    files = await companionFiles(base);
  return {
    write: (folder, version, fileSystem) =>
      saveModel(gpu, model(version), { folder: `${folder}/model`, files, fileSystem }),
  };
}

async function adapterSave(gpu: Gpu, base: string): Promise<Save> {
  const model = await loadModel(gpu, `${base}/faults`);
  const adapted = await three(async (version) => {
    const loaded = await loadAdapter(gpu, model, `${base}/faults-adapter`), adapter = loaded.adapter!;
    return { ...loaded, adapter: { ...adapter, source: { ...adapter.source, lora_alpha: version } } };
  });
  return {
    write: (folder, version, fileSystem) =>
      saveAdapter(gpu, adapted(version), { folder: `${folder}/adapter`, fileSystem }),
  };
}

async function checkpointSave(gpu: Gpu): Promise<Save> {
  const state = await three((version) => stateAt(define(gpu), version));
  const name = "checkpoint.safetensors";
  return {
    write: (folder, version, fileSystem) =>
      saveCheckpoint(gpu, state(version), { path: `${folder}/${name}`, extra: { version }, fileSystem }),
    async read(folder) {
      const { path: _, params, leaves, ...rest } = await loadCheckpoint(`${folder}/${name}`);
      const values = [...params, ...leaves].map(([path, { data }]) => [path, [...data]]);
      return JSON.stringify({ ...rest, values });
    },
  };
}

const step = (at: number): Line => ({
  kind: "step",
  step: at,
  loss: 1 / at,
  learningRate: 0.1,
  stepMs: 1,
  launches: 3,
  flops: 10,
  frozen: 0,
  readings: {},
});

/** A run that goes on: a log that was whole, and three more looks. */
const LOG: Save = {
  async write(folder, version, fileSystem) {
    const path = `${folder}/metrics.jsonl`, begun = await hostFileSystem().stat(path) !== null;
    const log = await openLog(path, { ...begun && { upTo: 4 * (version - 1) }, fileSystem });
    if (!begun) await log.add([{ kind: "start", config: {}, adapter: "none" }]);
    for (const look of [1, 3]) {
      await log.add([step(4 * (version - 1) + look), step(4 * (version - 1) + look + 1)]);
    }
  },
  // Readers leave out half a line at the end.
  read: async (folder) => (await Deno.readTextFile(`${folder}/metrics.jsonl`)).replace(/[^\n]*$/, ""),
  // A look that was written whole is no damage.
  between: (found, before, after) => found.startsWith(before) && after.startsWith(found),
};

const REPORT: Save = {
  write: (folder, version, fileSystem) => fileSystem.write(`${folder}/report.html`, `<p>${version}</p>`),
};

const SAFETENSORS: Save = {
  async write(folder, version, fileSystem) {
    const tensor = { name: "x", dtype: "F32", shape: [2], data: new Float32Array([version, 2]) } as const;
    await writeSafetensors(`${folder}/x.safetensors`, [tensor], { fileSystem });
  },
};
