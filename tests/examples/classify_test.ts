/** The examples `classify`, `vision` and `vlm`: scores, the bag of words, batches, and their command lines. */

import { assert, assertAlmostEquals, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { DataError, InputError } from "@firn/train";
import { encodeDocument, loadTokenizer } from "@firn/train/data";
import { hostValues } from "../../core/sources.ts";
import { bagOfWords } from "../../examples/bag_of_words.ts";
import { classArchitecture, main as classify } from "../../examples/classify.ts";
import { readExamples } from "../../examples/labelled_text.ts";
import { allBatches, cutIds, encodeRows, shuffledBatches } from "../../examples/text_batches.ts";
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

Deno.test("allBatches pads on the right, keeps the end of a text that is cut, and labels no row that fills a batch", async () => {
  const tokenizer = await loadTokenizer("examples/models/sotu");
  const examples = [
    { text: "Peace", label: "b" },
    { text: "Peace ".repeat(999), label: "a" },
    { text: "Peace", label: "a" },
  ];
  const rows = encodeRows(examples, { tokenizer, names: ["a", "b"], length: 6 });
  const batches = allBatches(rows, { batch: 2, length: 6, padding: 9 });
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

Deno.test("cutIds gives what the whole text begins with, however much of it is encoded", async () => {
  const tokenizer = await loadTokenizer("examples/models/sotu");
  const text = "Extraordinarily long sentences about constitutional amendments. ".repeat(40) +
    "x".repeat(500);
  const all = encodeDocument(tokenizer, text);
  for (const most of [2, 3, 17, 200, all.length - 1]) {
    assertEquals(cutIds(tokenizer, text, most), [...all.slice(0, most - 1), tokenizer.eos!]);
  }
  assertEquals(cutIds(tokenizer, text, all.length), all);
});

Deno.test("shuffledBatches has every row once in each epoch, in an order that the seed tells", () => {
  const rows = Array.from({ length: 7 }, (_, i) => ({ ids: [i], label: 0 }));
  const order = (seed: number): number[] => {
    const batches = shuffledBatches(rows, { seed, batch: 2, length: 1, padding: 9 });
    return Array.from({ length: 7 }, () => [...hostValues(batches.next().value.inputIds, "ids")]).flat();
  };
  const first = order(1), sorted = (ids: number[]): number[] => ids.toSorted((a, b) => a - b);
  assertEquals([sorted(first.slice(0, 7)), sorted(first.slice(7))], [[0, 1, 2, 3, 4, 5, 6], [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
  ]]);
  assertNotEquals(first.slice(0, 7), first.slice(7));
  assertEquals(order(1), first);
  assertNotEquals(order(2), first);
});

Deno.test("readExamples reads JSON lines and tables alike, by the names of their columns", async () => {
  const folder = await Deno.makeTempDir();
  const write = async (name: string, content: string): Promise<string> => {
    await Deno.writeTextFile(`${folder}/${name}`, content);
    return `${folder}/${name}`;
  };
  const wanted = [{ text: 'He said "no, thanks"', label: "7" }, { text: "two\nlines", label: "8" }];
  const columns = { text: "query", label: "category" };
  const quoted = '"He said ""no, thanks"""', broken = '"two\nlines"';
  const files = [
    await write("a.csv", `\ufeffcategory,query\r\n7,${quoted}\r\n8,${broken}\r\n`),
    await write("a.tsv", `query\tcategory\n${quoted}\t7\n\n${broken}\t8\n`),
    await write(
      "a.jsonl",
      `${wanted.map(({ text, label }) => JSON.stringify({ query: text, category: +label })).join("\n")}`,
    ),
  ];
  try {
    for (const file of files) assertEquals(await readExamples(file, columns), wanted);
    await assertRejects(
      () => readExamples(files[0], { text: "query" }),
      DataError,
      `Cannot use line 2 of "${files[0]}" as there must be a name or a number in "label"`,
    );
    const flags = ["--data", files[0], "--columns", "text=query,label=category", "--validation"];
    const other = await write("b.csv", "query,category\nyes,9\n");
    const refused = await call(classify, [...flags, other]);
    assert(refused instanceof DataError && refused.message.includes('"9" is none'), `${refused}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("classify takes --steps or --epochs, not both", async () => {
  const refused = await call(classify, ["--steps", "3", "--epochs", "2"]);
  assert(refused instanceof UsageError && refused.message.includes("give one"), `${refused}`);
});

Deno.test("classify freezes by a policy that there is, and caches steps of one batch alone", async () => {
  const cases = [
    ["--policy bottomFreez", "--policy must be one of gradES, "],
    ["--cache-prefix --accumulate 2", "--cache-prefix leaves out parts of whole steps"],
  ];
  for (const [flags, message] of cases) {
    const refused = await call(classify, flags.split(" "));
    assert(refused instanceof UsageError && refused.message.includes(message), `${refused}`);
  }
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
