/** The examples `classify`, `vision` and `vlm`: scores, the bag of words, batches, and their command lines. */

import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { InputError, type Model } from "@firn/train";
import { loadTokenizer } from "@firn/train/data";
import { hostValues } from "../../core/sources.ts";
import { bagOfWords } from "../../examples/bag_of_words.ts";
import { classArchitecture, main as classify, textBatches } from "../../examples/classify.ts";
import { main as vision } from "../../examples/vision.ts";
import { main as vlm } from "../../examples/vlm.ts";
import { confusionLines, scoresOf } from "../../examples/scores.ts";
import { UsageError } from "../../examples/flags.ts";
import { call } from "./process.ts";

Deno.test("scoresOf counts by class and prediction: accuracy, F1 and the confusion matrix", () => {
  // Class 0: two of three found, and one of class 1 taken for it. Class 2 is never said.
  const scores = scoresOf([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 1], 3);
  assertEquals(scores.confusion, [[2, 1, 0], [1, 1, 0], [0, 1, 0]]);
  assertAlmostEquals(scores.accuracy, 3 / 6);
  const [p, r] = [2 / 3, 2 / 3], [q, s] = [1 / 3, 1 / 2];
  assertAlmostEquals(scores.f1[0], 2 * p * r / (p + r));
  assertAlmostEquals(scores.f1[1], 2 * q * s / (q + s));
  assertEquals(scores.f1[2], 0);
  assertAlmostEquals(scores.macroF1, (scores.f1[0] + scores.f1[1]) / 3);
  const lines = confusionLines(scores, ["a", "b", "c"]);
  assertEquals(lines.length, 4);
  assertEquals(lines[2].split(/ +/), ["b", "1", "1", "0", "40.0"]);
});

Deno.test("bagOfWords tells classes apart by their words, and by their number where it knows no word", () => {
  const examples = [
    { text: "Win cash now", label: "spam" },
    { text: "lunch at noon?", label: "ham" },
    { text: "see you at lunch", label: "ham" },
  ];
  const classOf = bagOfWords(examples, ["ham", "spam"]);
  assertEquals(["CASH for you, now", "lunch now", "zzz"].map(classOf), [1, 0, 0]);
});

Deno.test("textBatches pads on the right, keeps the end of a text that is cut, and labels no row that fills a batch", async () => {
  const tokenizer = await loadTokenizer("examples/models/sotu");
  const model = { source: { pad_token_id: 9 } } as unknown as Model;
  const examples = [{ text: "Peace", label: "b" }, { text: "Peace ".repeat(9), label: "a" }, {
    text: "Peace",
    label: "a",
  }];
  const sizes = { batch: 2, length: 6 };
  const batches = textBatches(examples, { model, tokenizer, names: ["a", "b"] }, sizes);
  assertEquals(batches.length, 2);
  const [first, second] = batches.map(({ inputIds, attentionMask, labels }) => ({
    ids: [...hostValues(inputIds, "ids")],
    mask: [...hostValues(attentionMask!, "mask")],
    labels: [...hostValues(labels, "labels")],
  }));
  const peace = [...tokenizer.encode("Peace"), tokenizer.eos!];
  const padded = [...peace, ...Array(6 - peace.length).fill(9)];
  assertEquals(first.ids.slice(0, 6), padded);
  assertEquals(first.mask.slice(0, 6), padded.map((_, t) => t < peace.length ? 1 : 0));
  assertEquals([first.ids[11], first.mask.slice(6)], [tokenizer.eos!, Array(6).fill(1)]);
  assertEquals([first.labels, second.labels], [[1, 0], [0, -100]]);
});

Deno.test("classArchitecture finds the head for sequences of a folder's family", async () => {
  const fixtures = `${import.meta.dirname}/../fixtures`;
  assertEquals(await classArchitecture("examples/models/sotu"), "LlamaForSequenceClassification");
  assertEquals(await classArchitecture(`${fixtures}/bert-tokens`), "BertForSequenceClassification");
  await assertRejects(() => classArchitecture(`${fixtures}/vit`), InputError, '"vit" has none');
});

for (const [name, main] of Object.entries({ classify, vision, vlm })) {
  Deno.test(`${name} shows its help, and refuses a flag that it does not have`, async () => {
    assertEquals(await call(main, ["--help"]), null);
    assert(await call(main, ["--stepz", "3"]) instanceof UsageError);
  });
}
