/**
 * What a program of Node does with Firn: loads a model, trains a part of it and freezes what has converged, saves, goes on from
 * the checkpoint, and generates. Prints what came of it as JSON.
 *
 *     node train.js MODEL FOLDER
 *
 * @module
 */

import {
  adamW,
  defineTraining,
  type FreezePolicy,
  nextTokenLoss,
  openGpu,
  scan,
  type TrainingState,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { generateText } from "@firn/train/infer";
import { encodeDocument, loadTokenizer, lockFolder, openEncoder, tokenWindows } from "@firn/train/data";
import { loadModel, saveModel } from "@firn/train/hub";
import { after, definePolicy } from "@firn/train/policies";
import process from "node:process";

const STEPS = 4;

/** Freezes the gains of norms. */
const norms: FreezePolicy = definePolicy({
  name: "norms",
  init: (components) => components.map(({ path }) => path).filter((path) => path.includes("norm")),
  next: (state) => state,
  frozen: (state) => state,
  reason: () => ({ signal: "step", value: null, threshold: null, rule: "norms" }),
});

const [source, out] = process.argv.slice(2);
await using gpu = await openGpu();
await using _lock = await lockFolder(out);
const taken = await lockFolder(out).then(() => "", (error: Error) => error.message);
const model = await loadModel(gpu, source), tokenizer = await loadTokenizer(source);
const ids = encodeDocument(tokenizer, "Members of Congress: the state of our Union is strong. ".repeat(8));
const batches = tokenWindows(Int32Array.from(ids), { batch: 1, length: 8 });
const training = defineTraining(gpu, nextTokenLoss(model), {
  optimizer: adamW({ learningRate: 1e-3 }),
  trainable: (path) => /layers\.4\.(input_layernorm|mlp\.down_proj)/.test(path),
  policy: after(0.5, norms),
  steps: STEPS,
  lookEvery: 1,
});

/** Takes the steps that are left. */
async function go(
  state: TrainingState<typeof model.params>,
): Promise<[TrainingState<typeof model.params>, number[]]> {
  const losses: number[] = [];
  let last = state;
  for await (const next of scan(training, state, batches.from(state.step + 1))) {
    last = next;
    losses.push(...next.look?.loss ?? []);
    if (next.step === STEPS / 2 && state.step === 0) await saveCheckpoint(gpu, next, { path: `${out}/half` });
  }
  return [last, losses];
}
const [last, losses] = await go(await training.init(model.params));
const [, again] = await go(await training.resume(await loadCheckpoint(`${out}/half`)));
await saveModel(gpu, { ...model, params: last.params }, { folder: `${out}/model` });
using encoder = await openEncoder(source, { workers: 1 });
const example = { kind: "text", text: "Peace" } as const;
const [sample] = await encoder.encode([{ example, file: "a.jsonl", unit: "line", line: 1 }]);
const trained = await loadModel(gpu, `${out}/model`);
let text = "";
const options = { tokenizer, prompt: "The state of", maxTokens: 4, temperature: 0 };
for await (const piece of generateText(gpu, trained, options)) text += piece;
console.log(JSON.stringify({
  adapter: gpu.name,
  losses,
  again,
  frozen: last.frozen,
  taken,
  text,
  sample: typeof sample === "string" ? sample : [...sample.ids],
}));
