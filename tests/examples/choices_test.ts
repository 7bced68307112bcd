import { assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { DataError, logits, read, tensor } from "@firn/train";
import { loadTokenizer } from "@firn/train/data";
import { loadModel } from "@firn/train/hub";
import { logLikelihoods, questionOf, readQuestions, scoreChoices } from "../../examples/choices.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const folder = "examples/models/sotu";
const model = await loadModel(gpu, folder), tokenizer = await loadTokenizer(folder, { model });

/** Log-probabilities of a text's tokens from one on, added up in float64. */
async function logProbability(text: string, first: number): Promise<number> {
  const ids = tokenizer.encode(text), vocab = tokenizer.vocabSize;
  const scores = await read(gpu, logits(model, tensor(Int32Array.from(ids), [1, ids.length])));
  return ids.slice(first).reduce((sum, id, i) => {
    const row = Array.from(scores.slice((first + i - 1) * vocab, (first + i) * vocab)),
      most = Math.max(...row);
    return sum + row[id] - most - Math.log(row.reduce((n, score) => n + Math.exp(score - most), 0));
  }, 0);
}

Deno.test("the log-likelihood of a choice is that of its tokens after the context, whatever their number", async () => {
  const context = "The state of the Union",
    choices = [" is strong", " is the most important of all that we have to say"];
  const seen = await logLikelihoods(gpu, model, {
    tokenizer,
    pairs: choices.map((text) => [context, text] as const),
  });
  for (const [i, text] of choices.entries()) {
    const wanted = await logProbability(context + text, tokenizer.encode(context).length);
    assertAlmostEquals(seen[i], wanted, 1e-4 * Math.abs(wanted));
  }
});

Deno.test("multiple choice takes the likeliest text, and the likeliest for its length", async () => {
  const context = "The United States of", continuations = [" America", " whales whales whales"];
  const question = { contexts: [context, context], continuations, gold: 0 };
  const scores = await scoreChoices(gpu, model, {
    questions: [question, { ...question, gold: 1 }],
    tokenizer,
  });
  assertEquals(scores, { accuracy: 0.5, accuracyByLength: 0.5, chance: 0.5, count: 2 });
});

Deno.test("questions are read in the forms of commonsense, ARC and plain lists", () => {
  const piqa = questionOf({
    instruction:
      "Please choose the correct solution to the question: How?\n\nSolution1: So.\n\nSolution2: Thus: no.\n\n" +
      "Answer format: solution1/solution2",
    answer: "solution2",
  });
  const context = "Question: How?\nAnswer:";
  assertEquals(piqa, { contexts: [context, context], continuations: [" So.", " Thus: no."], gold: 1 });
  const boolq = questionOf({
    instruction:
      "Please answer the following question with true or false, question: is it?\n\nAnswer format: true/false",
    answer: "true",
  });
  assertEquals([boolq?.contexts[0], boolq?.continuations], ["Question: is it?\nAnswer:", [
    " true",
    " false",
  ]]);
  const winogrande = questionOf({
    instruction:
      "Please choose the correct answer to fill in the blank to complete the given sentence: Sarah saw Ann as _ " +
      "waved.\n\nOption1: Sarah Option2: Ann Answer format: option1/option2",
    answer: "option2",
  });
  assertEquals(winogrande, {
    contexts: ["Sarah saw Ann as Sarah", "Sarah saw Ann as Ann"],
    continuations: [" waved.", " waved."],
    gold: 1,
  });
  const arc = { question: "What?", choices: { text: ["a", "b"], label: ["A", "B"] }, answerKey: "B" };
  const plain = { query: "What?", choices: ["a", "b"], gold: 1 };
  assertEquals(questionOf(arc), questionOf(plain));
  assertEquals([
    questionOf(arc)?.gold,
    questionOf({ text: "no question" }),
    questionOf({ ...plain, gold: 2 }),
  ], [1, null, null]);
});

Deno.test("an answer is a choice, its label, its letter or its index", () => {
  const gold = (more: object): number | undefined =>
    questionOf({ question: "What?", choices: ["a", "b"], ...more })?.gold;
  const arc = { choices: { text: ["a", "b"], label: ["1", "2"] } };
  assertEquals(
    [{ answer: "b" }, { answer: "B" }, { answer: "1" }, { answer: 1 }, { ...arc, answer: "2" }, {
      ...arc,
      answer: 2,
    }]
      .map(gold),
    Array(6).fill(1),
  );
  assertEquals(
    [{ answer: 0.5 }, { answer: "C" }, { answer: 2 }, {}, { choices: ["a", " "], answer: 0 }].map(gold),
    Array(5).fill(undefined),
  );
  const hellaswag = { ctx: "What?", endings: ["a", "b"], label: "1" };
  assertEquals(questionOf(hellaswag), questionOf({ question: "What?", choices: ["a", "b"], answer: "b" }));
});

Deno.test("acc_norm divides by characters, as lm-evaluation-harness does, whatever bytes they take", async () => {
  const question = { contexts: ["The", "The"], continuations: [" ——", " xqzj"], gold: 1 };
  const pairs = question.continuations.map((text) => ["The", text] as const);
  const found = await logLikelihoods(gpu, model, { tokenizer, pairs });
  const best = (lengths: readonly number[]): number => found[0] / lengths[0] > found[1] / lengths[1] ? 0 : 1;
  // The choice must be one where bytes and characters differ in what they find.
  assertEquals([best([2, 4]), best([6, 4])], [1, 0]);
  assertEquals((await scoreChoices(gpu, model, { questions: [question], tokenizer })).accuracyByLength, 1);
});

Deno.test("a row that is no question is named, unless none is or has choices", async () => {
  const path = await Deno.makeTempFile({ suffix: ".jsonl" });
  try {
    const row = JSON.stringify({ question: "What?", choices: ["a", "b"], answer: "a" });
    await Deno.writeTextFile(path, `${row}\n\n{"question":"What?"}\n`);
    await assertRejects(() => readQuestions(path), DataError, `Cannot use line 3 of "${path}"`);
    await Deno.writeTextFile(path, '{"question":"What?","choices":["a","b"]}\n');
    await assertRejects(() => readQuestions(path), DataError, `Cannot use line 1 of "${path}"`);
    await Deno.writeTextFile(path, '{"text":"a"}\n');
    assertEquals(await readQuestions(path), null);
    await Deno.writeTextFile(path, "{");
    await assertRejects(() => readQuestions(path), DataError, "as it must be JSON");
  } finally {
    await Deno.remove(path);
  }
});
