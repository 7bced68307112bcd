/**
 * The example `digits`: its data, its models under several policies, and its command line.
 *
 * @module
 */

import { assert, assertEquals, assertLess, assertMatch, assertThrows } from "@std/assert";
import {
  crossEntropy,
  flatten,
  type FreezePolicy,
  leaf,
  openGpu,
  scan,
  type Tensor,
  type TrainingState,
  unflatten,
} from "@firn/train";
import { gradES, prefix, snr } from "@firn/train/policies";
import { findComponents } from "../../core/loop/components.ts";
import { hostValues } from "../../core/tensor.ts";
import { accuracy, digitTraining, MODELS } from "../../examples/digits.ts";
import { digitBatches, type Digits, PIXELS, readDigits, SIDE } from "../../examples/digits_data.ts";
import { explain } from "../../examples/explanation.ts";
import { readLog } from "../../examples/run_log.ts";
import { inFolder } from "../data/files.ts";
import { example } from "./process.ts";

/** Images of one bright pixel, in place `7 + 5 i` of row 10, so that movement can be seen. */
function dots(count: number): Digits {
  const images = new Float32Array(count * PIXELS).fill(-1);
  for (let i = 0; i < count; i++) images[i * PIXELS + 10 * SIDE + 7 + 5 * i] = 1;
  return { count, images, labels: Int32Array.from({ length: count }, (_, i) => i) };
}

function values(x: Tensor): number[] {
  return [...hostValues(x, "batch")];
}

Deno.test("readDigits gives 10,000 images of ten classes, and holds out the last fifth of each", async () => {
  const { train, test } = await readDigits();
  const countOf = (digits: Digits, digit: number) => digits.labels.filter((label) => label === digit).length;
  assertEquals([train.count, test.count], [8000, 2000]);
  assertEquals([train.images.length, test.images.length], [8000 * PIXELS, 2000 * PIXELS]);
  for (let digit = 0; digit < 10; digit++) {
    assertEquals(countOf(test, digit), Math.round((countOf(train, digit) + countOf(test, digit)) / 5));
  }
  const mean = train.images.reduce((a, b) => a + b) / train.images.length;
  const square = train.images.reduce((a, b) => a + b * b, 0) / train.images.length;
  // The constants are those of all of MNIST: these images differ by less than 0.02.
  assert(Math.abs(mean) < 0.02 && Math.abs(square - 1) < 0.04, `${mean}, ${square}`);
});

Deno.test("digitBatches gives each image once an epoch, moved by a pixel at most, again the same for a seed", () => {
  const batches = digitBatches(dots(4), { batch: 2, seed: 3 });
  const from = batches.from(1), taken = [1, 2, 3, 4].map(() => from.next().value);
  const labels = taken.map((batch) => values(batch.labels));
  assertEquals(labels.slice(0, 2).flat().toSorted(), [0, 1, 2, 3]);
  assertEquals(labels.slice(2).flat().toSorted(), [0, 1, 2, 3]);
  const moves: number[][] = [];
  for (const { images, labels } of [...taken, ...Array.from({ length: 20 }, () => from.next().value)]) {
    values(labels).forEach((label, row) => {
      const at = values(images).slice(row * PIXELS, (row + 1) * PIXELS).indexOf(1);
      moves.push([Math.floor(at / SIDE) - 10, at % SIDE - 7 - 5 * label]);
    });
  }
  for (const axis of [0, 1]) {
    assertEquals([...new Set(moves.map((move) => move[axis]))].toSorted((a, b) => a - b), [-1, 0, 1]);
  }
  const again = digitBatches(dots(4), { batch: 2, seed: 3 }).from(3);
  assertEquals([3, 4].map(() => again.next().value), taken.slice(2));
  assertThrows(() => digitBatches(dots(4), { batch: 5, seed: 0 }), RangeError, "as there are 4");
});

Deno.test("digitBatches gives every image in place for evaluation, and labels what is missing with -100", () => {
  const digits = dots(3);
  const [full, rest] = digitBatches(digits, { batch: 2, seed: 0 }).all();
  assertEquals([values(full.labels), values(rest.labels)], [[0, 1], [2, -100]]);
  assertEquals(values(full.images), [...digits.images.slice(0, 2 * PIXELS)]);
  assertEquals(values(rest.images), [...digits.images.slice(2 * PIXELS), ...new Float32Array(PIXELS)]);
});

/** By these, something freezes within 30 steps: thresholds that every reading passes. */
const POLICIES: readonly FreezePolicy[] = [
  gradES({ tau: 1e9 }),
  snr({ share: 1, alpha: 0, patience: 1 }),
  prefix({ intervals: 3 }),
];

for (const [name, model] of Object.entries(MODELS)) {
  Deno.test(`digitTraining of the ${name} learns, and a step gets cheaper under gradES, snr and prefix`, async () => {
    await using gpu = await openGpu();
    const { train, test } = await readDigits();
    for (const policy of POLICIES) {
      const training = digitTraining(gpu, model, { steps: 40, rate: 2e-3, policy });
      let state: TrainingState<object> = await training.init(model.init(1));
      const losses: number[] = [];
      const params = state.params;
      if (policy === POLICIES[0]) {
        const untrained = await accuracy(gpu, model, { params, digits: test });
        // Ten classes.
        assertLess(untrained, 0.3);
      }
      for await (state of scan(training, state, digitBatches(train, { batch: 16, seed: 1 }).from(1))) {
        losses.push(...state.look?.loss ?? []);
      }
      const mean = (part: readonly number[]): number => part.reduce((a, b) => a + b) / part.length;
      // Chance is ln 10 = 2.30; the mean of ten small batches is uncertain by less than 0.1.
      assertLess(mean(losses.slice(-10)), mean(losses.slice(0, 10)) - 0.3, policy.name);
      assert(state.frozen.length > 0, `${policy.name} froze nothing`);
      assertLess(training.costOf(state.frozen).matmulFlops, training.costOf([]).matmulFlops);
      training[Symbol.dispose]();
    }
  });
}

Deno.test("components of the models have the layer that their names say, and kinds found in the graph", () => {
  const found = (name: keyof typeof MODELS): string[] => {
    const { init, logits } = MODELS[name];
    const leaves = new Map([...flatten(init(0))].map(([path, spec]) => [path, leaf(path, spec)]));
    const scores = logits(unflatten(leaves), leaf("images", { shape: [4, PIXELS], dtype: "f32" }));
    assertEquals(scores.shape, [4, 10]);
    const loss = crossEntropy(scores, leaf("labels", { shape: [4], dtype: "i32" }));
    return findComponents(loss, { leaves, trainable: () => true }).map(({ path, layer, kind }) =>
      `${path} ${layer} ${kind}`
    );
  };
  assertEquals(found("mlp"), [
    "layers.0 0 linear",
    "layers.1 1 linear",
    "layers.2 2 linear",
    "head null linear",
  ]);
  const mixer = found("mixer");
  assertEquals(mixer.slice(0, 4), [
    "patches null linear",
    "layers.0.token_norm 0 norm",
    "layers.0.tokens.up 0 linear",
    "layers.0.tokens.down 0 linear",
  ]);
  assertEquals(mixer.length, 3 + 3 * 6);
  const vit = found("vit");
  assertEquals(vit.filter((part) => part.startsWith("layers.1.")), [
    "layers.1.attention_norm 1 norm",
    ...["query", "key", "value", "out"].map((part) => `layers.1.${part} 1 linear`),
    "layers.1.mlp_norm 1 norm",
    "layers.1.mlp.up 1 linear",
    "layers.1.mlp.down 1 linear",
  ]);
  assertEquals(vit.slice(0, 2), ["patches null linear", "positions null other"]);
});

Deno.test("digits prints its accuracy and what a step costs, and writes a log that explain reads", async () => {
  await inFolder(async (folder) => {
    const out = `${folder}/out`, args = ["--steps", "12", "--batch", "16", "--tau", "1e9", "--out", out];
    const { code, stdout, stderr } = await example("digits", args, folder);
    assertEquals([code, stderr], [0, ""]);
    assertMatch(stdout, /^step 10: froze layers\.0, layers\.1, layers\.2$/m);
    assertMatch(stdout, /^accuracy {8}\d+\.\d\d % of 2000 digits$/m);
    assertMatch(stdout, /^frozen {10}3 of 4 components$/m);
    assertMatch(stdout, /^flop a step {5}\S+ MFLOP → \S+ MFLOP \(-\d+ %\)$/m);
    assertMatch(await Deno.readTextFile(`${out}/report.html`), /^<!doctype html>/i);
    const { frozen, active, finished } = explain(await readLog(`${out}/metrics.jsonl`));
    assertEquals([frozen, active, finished], [["layers.0", "layers.1", "layers.2"], ["head"], true]);
  });
});

Deno.test("digits refuses a model that it does not have, and names the others", async () => {
  await inFolder(async (folder) => {
    const { code, stderr } = await example("digits", ["--model", "cnn"], folder);
    assertEquals(code, 2);
    assertEquals(stderr, 'digits: --model must be one of mlp, mixer, vit: got "cnn"\nSee --help\n');
  });
});
