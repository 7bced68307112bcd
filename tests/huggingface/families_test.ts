/**
 * Folders of every family: files of `transformers` and PEFT are read and written back unchanged.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { flatten, logits, type Model, openGpu, read } from "@firn/train";
import { openSafetensors } from "@firn/train/data";
import { loadAdapter, loadModel, mergeAdapter, saveAdapter, saveModel } from "@firn/train/hub";
import { families } from "@firn/train/models";
import { tokenBatch } from "../train/tiny.ts";

const gpu = await openGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const FIXTURES = `${import.meta.dirname}/../fixtures`;
const { inputIds } = tokenBatch([2, 8]);

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const parent = await Deno.makeTempDir();
  try {
    await body(`${parent}/copy`);
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
}

/** Asserts that two files have the same tensors: names, types and bits. */
async function assertSameTensors(seen: string, expected: string): Promise<void> {
  await using after = await openSafetensors(seen);
  await using before = await openSafetensors(expected);
  assertEquals(after.names.toSorted(), before.names.toSorted());
  for (const name of before.names) {
    assertEquals(after.specs.get(name)!.dtype, before.specs.get(name)!.dtype, name);
    assertEquals(await after.read(name), await before.read(name), name);
  }
}

const configOf = async (file: string): Promise<Record<string, unknown>> =>
  JSON.parse(await Deno.readTextFile(file));

const scores = async (model: Model): Promise<number[]> => [...await read(gpu, logits(model, inputIds))];

/** Families that read text alone and predict the next token. */
const DECODERS = Object.keys(families).filter((name) =>
  Object.values(families[name].heads)[0].task === "nextToken" && name !== "idefics3" && name !== "smolvlm"
);

for (const name of DECODERS) {
  const fixture = `${FIXTURES}/${name}`;

  Deno.test(`saveModel gives back a folder of transformers to the bit: ${name}`, async () => {
    await withFolder(async (folder) => {
      await saveModel(gpu, await loadModel(gpu, fixture), { folder });
      await assertSameTensors(`${folder}/model.safetensors`, `${fixture}/model.safetensors`);
      const config = await configOf(`${folder}/config.json`);
      assertEquals(config, await configOf(`${fixture}/config.json`));
      assertEquals([config.model_type, config.architectures], [name, [Object.keys(families[name].heads)[0]]]);
    });
  });
}

/** Folders with an adapter of PEFT. */
const ADAPTED = [...DECODERS.filter((name) => name !== "gemma2"), "llama-dora", "llama-saved-modules"];

for (const name of ADAPTED) {
  const fixture = `${FIXTURES}/${name}`;

  Deno.test(`saveAdapter gives back an adapter of PEFT to the bit: ${name}`, async () => {
    await withFolder(async (folder) => {
      await saveAdapter(gpu, await loadAdapter(gpu, await loadModel(gpu, fixture), `${fixture}/adapter`), {
        folder,
      });
      for (const file of ["adapter_config.json", "adapter_model.safetensors"]) {
        assertEquals(
          await Deno.readFile(`${folder}/${file}`),
          await Deno.readFile(`${fixture}/adapter/${file}`),
        );
      }
    });
  });

  Deno.test(`mergeAdapter gives the scores of the model with its pairs: ${name}`, async () => {
    const base = await loadModel(gpu, fixture), plain = await scores(base);
    const adapted = await loadAdapter(gpu, base, `${fixture}/adapter`), before = await scores(adapted);
    assert(before.some((score, i) => Math.abs(score - plain[i]) > 1e-2), "the pairs must change scores");
    const merged = await mergeAdapter(gpu, adapted), after = await scores(merged);
    assertEquals([...flatten(merged.params).keys()], [...flatten(base.params).keys()]);
    // f32 rounds `x W + (x A) B` and `x (W + A B)` differently: some 1e-7 a layer of scores below 1.
    const most = Math.max(...before.map((score, i) => Math.abs(after[i] - score)));
    assert(most < 1e-5, `off by ${most}`);
  });
}
