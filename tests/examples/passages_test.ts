import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { corpusOf, loadTokenizer } from "@firn/train/data";
import { loadModel } from "@firn/train/hub";
import {
  centred,
  cosine,
  countWords,
  cutPassages,
  embed,
  passagesOf,
  scoreSearch,
} from "../../examples/passages.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

Deno.test("passages are pairs of neighbours of one document, from all over the text", async () => {
  const documents = Array.from(
    { length: 6 },
    (_, d) => Array.from({ length: 9 }, (_, w) => `d${d}w${w}`).join(" "),
  );
  const passages = await passagesOf(corpusOf(documents), { words: 2, most: 8 });
  assertEquals(passages.length, 8);
  for (let i = 0; i < 8; i += 2) {
    const [a, b] = [passages[i], passages[i + 1]].map((text) =>
      text.split(" ").map((word) => word.split("w"))
    );
    assertEquals(a[0][0], b[1][0]);
    assertEquals(Number(b[0][1]), Number(a[1][1]) + 1);
  }
  assert(new Set(passages.map((text) => text[1])).size > 2);
});

Deno.test("passages that are searched are whole rows where these are short, and keep the end of a document", async () => {
  const corpus = corpusOf(["a b c d e", "f", "g h"]);
  assertEquals(await cutPassages(corpus, { words: 2, most: 9 }), ["a b", "c d", "e", "f", "g h"]);
  assertEquals(await cutPassages(corpus, { words: 60, most: 9 }), ["a b c d e", "f", "g h"]);
  assertEquals(await cutPassages(corpus, { words: 2, most: 2 }), ["a b", "e"]);
});

Deno.test("counts of words know the words of the text alone, and texts of the same words are near", () => {
  const known = ["The whale, the sea.", "A ship"],
    [same, other] = countWords(["SEA the whale the", "ship"], known);
  const [first] = countWords(known, known);
  assertAlmostEquals(cosine(same, first), 1, 1e-6);
  assertEquals([cosine(other, first), same.length], [0, 5]);
});

Deno.test("a search is scored by the rank of the neighbour", () => {
  // The neighbour of 0 is nearest, that of 2 comes second.
  const near: Readonly<Record<string, number>> = { "0,1": 3, "0,2": 2, "2,3": 1, "2,0": 5 };
  assertEquals(scoreSearch(4, (a, b) => near[`${a},${b}`] ?? 0), { meanReciprocalRank: 0.75, first: 0.5 });
});

Deno.test("texts have the same vectors in batches of any size", async () => {
  const folder = "examples/models/sotu",
    model = await loadModel(gpu, folder),
    tokenizer = await loadTokenizer(folder, { model });
  const texts = ["The state of the Union", "whales", "The navy and the army"];
  const [all, each] = [
    await embed(gpu, model, { texts, tokenizer, batch: 3 }),
    await embed(gpu, model, { texts, tokenizer, batch: 2 }),
  ];
  all.forEach((row, i) => assertAlmostEquals(cosine(row, each[i]), 1, 1e-5));
  const [a, b] = centred(all, all);
  assertAlmostEquals(Math.hypot(...a), 1, 1e-5);
  assert(cosine(a, b) < 0.9);
});
