import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "@firn/train";
import { encodeDocument, encodePrompt, type Encoder, packDocuments } from "@firn/train/data";

const text = (ids: Partial<Encoder>): Encoder => ({
  encode: (words) => words.split(/\s/).filter((word) => word !== "").map(Number),
  eos: 2,
  before: [],
  after: [],
  ...ids,
});

interface Row {
  readonly kind: string;
  readonly tokenizer: Encoder;
  readonly document: readonly number[];
  readonly prompt: readonly number[];
  readonly packed: readonly number[];
}

const ROWS: readonly Row[] = [
  {
    kind: "Llama 2: BOS, no EOS",
    tokenizer: text({ before: [1] }),
    document: [1, 7, 8, 2],
    prompt: [1, 7, 8],
    packed: [1, 7, 2, 1, 2, 1, 8, 2],
  },
  {
    kind: "T5: appends EOS",
    tokenizer: text({ after: [2] }),
    document: [7, 8, 2],
    prompt: [7, 8],
    packed: [7, 2, 2, 8, 2],
  },
  {
    kind: "GPT-2: neither",
    tokenizer: text({}),
    document: [7, 8, 2],
    prompt: [7, 8],
    packed: [7, 2, 2, 8, 2],
  },
  {
    kind: "BERT: CLS and SEP, no EOS",
    tokenizer: text({ before: [3], after: [4], eos: null }),
    document: [3, 7, 8, 4],
    prompt: [3, 7, 8],
    packed: [3, 7, 4, 3, 4, 3, 8, 4],
  },
  {
    kind: "BOS is EOS",
    tokenizer: text({ before: [2] }),
    document: [2, 7, 8, 2],
    prompt: [2, 7, 8],
    packed: [2, 7, 2, 2, 8, 2],
  },
  {
    kind: "nothing around a text, no EOS",
    tokenizer: text({ eos: null }),
    document: [7, 8],
    prompt: [7, 8],
    packed: [7, 8],
  },
];

for (const { kind, tokenizer, document, prompt, packed } of ROWS) {
  Deno.test(`a document ends with EOS once and a prompt never: ${kind}`, () => {
    assertEquals(encodeDocument(tokenizer, "7 8"), document);
    assertEquals(encodePrompt(tokenizer, "7 8"), prompt);
    assertEquals([...packDocuments(tokenizer, ["7", "", "8"])], packed);
  });
}

Deno.test("a text that spells out BOS or EOS gets no second one", () => {
  const llama = text({ before: [1], after: [2] });
  assertEquals(encodePrompt(llama, "1 7"), [1, 7]);
  assertEquals(encodeDocument(llama, "1 7 2"), [1, 7, 2]);
});

Deno.test("packDocuments refuses to pack nothing", () => {
  assertThrows(() => packDocuments(text({}), []), InputError, "give at least one");
});
