/**
 * Pairs of answers: from rows to batches, and what the reference finds of them.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import {
  defineTraining,
  evaluate,
  flatten,
  freeState,
  InputError,
  type Model,
  readAll,
  sgd,
  tensor,
  type TensorTree,
  unflatten,
} from "@firn/train";
import { chatTemplate, loadTokenizer, memoryFileSystem, openRows } from "@firn/train/data";
import { loadModel, newAdapter } from "@firn/train/hub";
import {
  countPairs,
  distillationLoss,
  dpoLoss,
  feedbackSamples,
  pairBatches,
  pairSamples,
  type SamplePair,
  withReference,
  withTeacher,
} from "@firn/train/objectives";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const tokenizer = await loadTokenizer("examples/models/sotu");
const template = chatTemplate(
  "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
);
const open = <K extends "preference" | "feedback">(rows: readonly unknown[], kind: K) => {
  const fileSystem = memoryFileSystem({ "rows.jsonl": rows.map((row) => JSON.stringify(row)).join("\n") });
  return openRows("rows.jsonl", { kind, fileSystem });
};
const learned = ({ ids, learned }: SamplePair["first"]): string =>
  tokenizer.decode(ids.filter((_, i) => learned[i] === 1)).trim();
const say = (role: string, content: string) => ({ role, content });

Deno.test("pairSamples reads prompts as texts, as messages, and as what both conversations begin with", async () => {
  const hello = say("user", "Hello"),
    rows = [
      { prompt: "Hello", chosen: "good", rejected: "bad", margin: 0.5 },
      { prompt: [hello], chosen: [say("assistant", "good")], rejected: [say("assistant", "bad")] },
      { chosen: [hello, say("assistant", "good")], rejected: [hello, say("assistant", "bad")] },
      { instruction: "Hello", input: "", output: "other", chosen: "good", rejected: "bad" },
    ];
  const { pairs } = await pairSamples(await open(rows, "preference"), { tokenizer, template, length: 64 });
  for (const { first, second } of pairs) {
    assertEquals([learned(first), learned(second)], ["good", "bad"]);
    assertEquals([...first.ids], [...pairs[0].first.ids]);
  }
  assertEquals(pairs.map(({ margin }) => margin), [0.5, undefined, undefined, undefined]);
});

Deno.test("pairSamples leaves out pairs of which an answer does not fit", async () => {
  const rows = [
    { prompt: "Hello", chosen: "good", rejected: "bad" },
    { prompt: "Hello ".repeat(30), chosen: "good", rejected: "bad" },
  ];
  const { pairs, cut } = await pairSamples(await open(rows, "preference"), { tokenizer, length: 24 });
  assertEquals([pairs.length, cut], [1, 1]);
});

Deno.test("feedbackSamples pairs each answer with that of another prompt, and takes preferences apart", async () => {
  const rows = [["one", " yes", true], ["two", " no", 0], ["three", " maybe", "1"]].map(
    ([prompt, completion, label]) => ({ prompt, completion, label }),
  );
  const own = await feedbackSamples(await open(rows, "feedback"), { tokenizer, length: 32 });
  assertEquals(own.pairs.map(({ desirable }) => desirable), [true, false, true]);
  assertEquals(own.pairs.map(({ first }) => learned(first)), ["yes", "no", "maybe"]);
  assertEquals(own.pairs.map(({ second }) => learned(second)), ["maybe", "yes", "no"]);
  const prompts = own.pairs.map(({ first, second }) =>
    [first, second].map((s) => s.ids.slice(0, s.learned.indexOf(1)).join())
  );
  for (const [a, b] of prompts) assertEquals(a, b);
  const taken = await feedbackSamples(
    await open([{ prompt: "one", chosen: " yes", rejected: " no" }, {
      prompt: "two",
      chosen: " a",
      rejected: " b",
    }], "preference"),
    { tokenizer, length: 32 },
  );
  assertEquals(taken.pairs.map(({ desirable }) => desirable), [true, false, true, false]);
  // Both answers to a prompt are no reference point for each other.
  assertEquals(taken.pairs.map(({ second }) => learned(second)), ["b", "b", "no", "no"]);
  const { pairs: [alone] } = await feedbackSamples(await open(rows.slice(0, 1), "feedback"), {
    tokenizer,
    length: 32,
    others: own.pairs,
  });
  assertEquals(learned(alone.second), "maybe");
  await assertRejects(
    async () => await feedbackSamples(await open(rows.slice(0, 1), "feedback"), { tokenizer, length: 32 }),
    InputError,
    "there must be answers to several prompts",
  );
});

Deno.test("pairBatches has each pair once an epoch, and the batch of a step does not depend on those before", () => {
  const sample = (...ids: number[]) => ({
    ids: Int32Array.from(ids),
    learned: new Uint8Array(ids.length).fill(1),
  });
  const pairs = Array.from({ length: 5 }, (_, i) => ({
    first: sample(10 + i, ...Array(i % 3 + 1).fill(7)),
    second: sample(20 + i, 8),
    reference: [i, -i] as const,
  }));
  const batches = pairBatches(pairs, { length: 8, batch: 2, seed: 3 });
  const seen = [1, 2, 3].map((step) => batches.at(step));
  assertEquals(seen.map(countPairs).toSorted(), [1, 2, 2]);
  const values = (t: unknown) => (t as { attrs: { data: Float32Array } }).attrs.data;
  const references = seen.flatMap(({ reference }) => [...values(reference).subarray(0, 2)]);
  assertEquals(references.toSorted(), [0, 0, 1, 2, 3, 4]);
  for (const { inputIds, reference } of seen) {
    const ids = values(inputIds), time = inputIds.shape[1];
    // A reference goes with its row.
    for (const row of [0, 1]) {
      if (ids[row * time] >= 10) assertEquals(values(reference)[row], ids[row * time] - 10);
    }
  }
  assertEquals(values(batches.at(2).inputIds), values(seen[1].inputIds));
  const epoch = (first: number) => [0, 1, 2].map((i) => values(batches.at(first + i).inputIds));
  assertNotEquals([epoch(4), epoch(7)], [epoch(1), epoch(1)]);
  assertEquals(pairBatches(pairs, { length: 8, batch: 2, seed: 3 }).fingerprint, batches.fingerprint);
});

const base = await loadModel(gpu, "tests/fixtures/llama");
const model = await newAdapter(gpu, base, { rank: 2, targets: ["q_proj"], seed: 1 });

/** The model with other weights. */
async function scaled(factor: number): Promise<Model> {
  const leaves = [...flatten(base.params)], values = await readAll(gpu, leaves.map(([, t]) => t));
  const scaled = leaves.map(([path, { shape }], i) =>
    [path, tensor(values[i].map((x) => factor * x), shape)] as const
  );
  return { ...base, params: unflatten(new Map(scaled)) };
}

const row = (seed: number, length: number) => ({
  ids: Int32Array.from({ length }, (_, i) => (seed * 31 + i * 17) % 96),
  learned: Uint8Array.from({ length }, (_, i) => i < 3 || i === 5 ? 0 : 1),
});
const PAIRS: readonly SamplePair[] = [1, 2].map((seed) => ({
  first: row(seed, 9),
  second: row(seed + 7, 11),
}));

Deno.test("withReference finds what the policy finds with its adapter off, and keeps it for the same model and pairs alone", async () => {
  const fileSystem = memoryFileSystem({}), options = { pairs: PAIRS, cache: "run", fileSystem };
  const known = await withReference(gpu, model, options);
  const batch = pairBatches(known, { length: 16, batch: 2 }).all()[0], { reference: _, ...bare } = batch;
  const loss = dpoLoss(model);
  const found = await evaluate(gpu, { loss, params: model.params, batches: [batch] });
  const computed = await evaluate(gpu, { loss, params: model.params, batches: [bare] });
  // Without the reference of the batch, the adapter is off; both are the policy at first.
  assertAlmostEquals(found.loss, Math.LN2, 1e-6);
  assertAlmostEquals(computed.loss, Math.LN2, 1e-6);
  const files = async () => (await fileSystem.list("run")).map(({ name }) => name);
  const [name, ...others] = await files();
  assertEquals(others, []);
  // A kept result is read, not computed.
  await fileSystem.write(`run/${name}`, JSON.stringify({ values: [1, 2, 3, 4] }));
  assertEquals((await withReference(gpu, model, options)).map(({ reference }) => reference), [[1, 2], [
    3,
    4,
  ]]);
  await withReference(gpu, model, { ...options, pairs: PAIRS.slice(0, 1) });
  assertEquals((await files()).length, 2, "other pairs have another file");
  await withReference(gpu, await scaled(1.5), options);
  assertEquals((await files()).length, 3, "other weights have another file");
});

Deno.test("dpoLoss refuses a model without adapter and reference by the name of the function that gives one", async () => {
  const { reference: _, ...batch } = pairBatches(PAIRS, { length: 16, batch: 2 }).all()[0];
  await assertRejects(
    async () => await evaluate(gpu, { loss: dpoLoss(base), params: base.params, batches: [batch] }),
    InputError,
    "give batches of withReference",
  );
});

Deno.test("distillationLoss by the likeliest tokens of a teacher is that of the teacher itself, where all are kept", async () => {
  const { inputIds, labels } = pairBatches(PAIRS, { length: 16, batch: 2 }).all()[0];
  const batches = [{ inputIds, labels }], student = await scaled(1.5), { params } = student;
  const settings = { temperature: 2, labels: 0.25 } as const;
  const loss = distillationLoss(student, { ...settings, teacher: base });
  const wanted = await evaluate(gpu, { loss, params, batches });
  const lossOf = async (keep: number): Promise<number> => {
    const kept = await withTeacher(gpu, base, { batches, keep, temperature: 2 });
    return (await evaluate(gpu, { loss: distillationLoss(student, settings), params, batches: kept })).loss;
  };
  assertAlmostEquals(await lossOf(96), wanted.loss, 1e-4);
  // What is not kept is one class, so that less is told apart.
  const few = await lossOf(4);
  assert(few < wanted.loss - 1e-3 && few > 0.25);
});

Deno.test("distillationLoss trains beside a teacher on the device, whose weights stay", async () => {
  const { inputIds, labels } = pairBatches(PAIRS, { length: 16, batch: 2 }).all()[0];
  const student = await scaled(1.5), before = await readAll(gpu, [...flatten(base.params).values()]);
  const training = defineTraining(gpu, distillationLoss(student, { teacher: base }), {
    optimizer: sgd({ learningRate: 0.1 }),
    steps: 3,
    lookEvery: 3,
  });
  let state = await training.init(student.params as TensorTree as object);
  for (let i = 0; i < 3; i++) state = await training.next(state, { inputIds, labels });
  const { loss } = state.look!;
  assert(loss[2] < loss[0]);
  assertEquals(await readAll(gpu, [...flatten(base.params).values()]), before);
  freeState(state);
  training[Symbol.dispose]();
});
