/**
 * The data and the tasks of the comparison of policies.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DataError, InputError, logits, NotFoundError, read, tensor } from "@firn/train";
import { corpusOf, loadTokenizer } from "@firn/train/data";
import { loadModel } from "@firn/train/hub";
import { divided, type Labelled, readRows, subjectAndBody } from "../../examples/labelled_text.ts";
import { readIntents } from "./policies_data.ts";
import { labelTask, textTask } from "./policies_tasks.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const FOLDER = "examples/models/sotu";
const ROWS = Array.from({ length: 90 }, (_, i) => ({
  text: `Number ${i} of the people and of the States.`,
  label: i % 3 === 0 ? "threefold" : "other",
}));

Deno.test("divided splits by text alone: whatever the order, and no text in two parts", () => {
  const { train, validation, test } = divided([...ROWS, ...ROWS]);
  assertEquals(train.length + validation.length + test.length, 90);
  assert(train.length > 60 && validation.length > 3 && test.length > 3);
  const texts = (part: readonly { text: string }[]) => part.map(({ text }) => text).toSorted();
  assertEquals(texts(divided(ROWS.toReversed()).test), texts(test));
  assertThrows(
    () => divided(ROWS.map((row) => ({ ...row, label: "one" }))),
    InputError,
    "there are 1 labels",
  );
});

Deno.test("subjectAndBody drops all headers but the subject", () => {
  const mail =
    "From a@b Thu\nReceived: by zzzz\nSubject: Hello\n there\nX-Spam: yes\n\nThe  body,\n\nall of it.\n";
  assertEquals(subjectAndBody(mail), "Hello there The body, all of it.");
  assertEquals(subjectAndBody("Subject: only"), "only");
  assertEquals(subjectAndBody("From x\n\nSubject: quoted"), "Subject: quoted");
});

Deno.test("readRows names the line that is no example", async () => {
  const path = await Deno.makeTempFile({ suffix: ".jsonl" });
  try {
    await Deno.writeTextFile(path, `${ROWS.map((row) => JSON.stringify(row)).join("\n")}\n\n`);
    assertEquals((await readRows(path)).train, divided(ROWS).train);
    await Deno.writeTextFile(path, '{"text": "a", "label": "b"}\n{"text": "a"}\n');
    await assertRejects(() => readRows(path), DataError, `Cannot use line 2 of "${path}"`);
    await assertRejects(() => readRows(`no-${path.slice(1)}`), NotFoundError, "there is no such file");
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("readIntents joins the parts of queries, tests on the validate files, and reads Latin-1", async () => {
  const folder = await Deno.makeTempDir();
  const query = (...parts: string[]) => ({ data: parts.map((text) => ({ text })) });
  try {
    await assertRejects(
      () => readIntents(folder),
      NotFoundError,
      "must hold files train_INTENT_full.json",
    );
    for (const intent of ["Play", "Book"]) {
      const train = Array.from({ length: 60 }, (_, i) => query(`${intent} `, `number ${i}`, "\n"));
      await Deno.writeTextFile(`${folder}/train_${intent}_full.json`, JSON.stringify({ [intent]: train }));
      const test = [query(`${intent} `, "number 3"), query(intent, " caf\u00e9")];
      const latin = Uint8Array.from(JSON.stringify({ [intent]: test }), (c) => c.charCodeAt(0));
      await Deno.writeFile(`${folder}/validate_${intent}.json`, latin);
    }
    const { train, validation, test } = await readIntents(folder);
    assertEquals(test.map(({ text, label }) => `${label}: ${text}`), [
      "Book: Book number 3",
      "Book: Book caf\u00e9",
      "Play: Play number 3",
      "Play: Play caf\u00e9",
    ]);
    assertEquals(train.length + validation.length, 2 * 59);
    assertEquals([...train, ...validation].filter(({ text }) => text.endsWith("number 3")), []);
    assertEquals(await readIntents(`${folder}/none`).catch((e) => e.message.slice(0, 11)), "Cannot list");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("labelTask learns and judges the letter after the question, and nothing else", async () => {
  await using gpu = await openTestGpu();
  const model = await loadModel(gpu, FOLDER), tokenizer = await loadTokenizer(FOLDER);
  const examples: Labelled = {
    train: ROWS.slice(0, 60),
    validation: ROWS.slice(60, 64),
    test: ROWS.slice(64, 69),
  };
  const sizes = { gpu, model, tokenizer, batch: 2, length: 32, watch: 9 };
  const task = labelTask(examples, sizes);
  const letters = [" A", " B"].map((text) => tokenizer.encode(text)[0]);
  const [{ inputIds, labels }] = task.batches(0);
  const [ids, wanted] = [await read(gpu, inputIds), await read(gpu, labels)];
  for (const row of [0, 1]) {
    const places = Array.from({ length: 32 }, (_, i) => row * 32 + i).filter((i) => wanted[i] !== -100);
    assertEquals(places.length, 1);
    assert(letters.includes(ids[places[0]]) && wanted[places[0]] === ids[places[0]]);
    const text = tokenizer.decode(ids.slice(row * 32, places[0] + 1));
    const example = ROWS.find((row) => text.startsWith(row.text))!;
    assertEquals(text, `${example.text}\nClass: ${example.label === "other" ? "A" : "B"}`);
  }

  // The same by hand, from the scores of each text alone.
  let loss = 0, right = 0;
  for (const { text, label } of examples.test) {
    const prompt = tokenizer.encode(`${text}\nClass:`);
    const scores = await read(gpu, logits(model, tensor(Int32Array.from(prompt), [1, prompt.length])));
    const last = Array.from(scores.slice(-scores.length / prompt.length)),
      own = letters[label === "other" ? 0 : 1];
    const top = Math.max(...last);
    loss += (top + Math.log(last.reduce((n, s) => n + Math.exp(s - top), 0)) - last[own]) / 5;
    if (last[own] === Math.max(...letters.map((id) => last[id]))) right++;
  }
  const judged = await task.test(model.params);
  assertEquals(judged.accuracy, right / 5);
  // Rounding of f32 sums in another order.
  assertAlmostEquals(judged.loss, loss, 1e-4);
  const watch = await task.watch(model.params),
    ownTest = labelTask({ ...examples, test: examples.validation }, sizes);
  assertEquals(
    { loss: await watch.loss(), accuracy: await watch.accuracy() },
    await ownTest.test(model.params),
  );
  watch.close();
  assertThrows(() => labelTask(examples, { ...sizes, length: 6 }), InputError, "--length is 6");
});

Deno.test("labelTask gives each seed an order of its own, and every text once an epoch", async () => {
  await using gpu = await openTestGpu();
  const model = await loadModel(gpu, FOLDER), tokenizer = await loadTokenizer(FOLDER);
  const examples: Labelled = {
    train: ROWS.slice(0, 7),
    validation: ROWS.slice(60, 64),
    test: ROWS.slice(64, 66),
  };
  const task = labelTask(examples, { gpu, model, tokenizer, batch: 2, length: 32, watch: 9 });
  const textsOf = async (seed: number) => {
    const texts: string[] = [];
    for (const { inputIds } of task.batches(seed)) {
      const ids = await read(gpu, inputIds);
      for (const row of [0, 1]) texts.push(tokenizer.decode(ids.slice(32 * row, 32 * row + 6)).split(" ")[1]);
      if (texts.length === 14) return texts;
    }
    return [];
  };
  const texts = await textsOf(0);
  for (const epoch of [texts.slice(0, 7), texts.slice(7)]) {
    assertEquals(epoch.toSorted(), ["0", "1", "2", "3", "4", "5", "6"]);
  }
  assert(texts.slice(0, 7).join() !== texts.slice(7).join());
  assert((await textsOf(1)).join() !== texts.join());
});

Deno.test("textTask holds out a tenth, half of it for the test", async () => {
  await using gpu = await openTestGpu();
  const model = await loadModel(gpu, FOLDER), tokenizer = await loadTokenizer(FOLDER);
  const text = Array.from({ length: 400 }, (_, i) => `Article ${i} of the treaty.`).join(" ");
  const task = await textTask(corpusOf([text]), { gpu, model, tokenizer, batch: 2, length: 16, watch: 1 });
  const tested = Math.ceil(tokenizer.encode(text.slice(-text.length / 20)).length / (2 * 16));
  assertEquals(task.about[1], `1 batches of 2 to validate on, ${tested} to test on`);
  const { loss, accuracy } = await task.test(model.params);
  assert(loss > 1 && loss < 12);
  const watch = await task.watch(model.params);
  assertEquals([accuracy, await watch.accuracy()], [null, null]);
  assert(await watch.loss() !== loss);
  watch.close();
});
