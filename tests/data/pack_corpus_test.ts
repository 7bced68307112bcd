import { assert, assertEquals } from "@std/assert";
import {
  type Corpus,
  corpusOf,
  encodeDocument,
  type Encoder,
  loadTokenizer,
  memoryFileSystem,
  openCorpus,
  packCorpus,
  packDocuments,
} from "@firn/train/data";
import { documentPieces } from "../../core/data/text/corpus.ts";
import { tokenList } from "../../core/data/tokenizer/token_list.ts";

const CASES: readonly { readonly name: string; readonly tokenizer: unknown }[] = JSON.parse(
  await Deno.readTextFile(new URL("../fixtures/tokenizers/cases.json", import.meta.url)),
);

async function tokenizers(): Promise<Map<string, Encoder>> {
  const known = new Map<string, Encoder>([["sotu", await loadTokenizer("examples/models/sotu")]]);
  for (const { name, tokenizer } of CASES) {
    const files = { "m/tokenizer.json": JSON.stringify(tokenizer) };
    known.set(name, await loadTokenizer("m", { fileSystem: memoryFileSystem(files) }));
  }
  return known;
}

/** Text with all that tokenizers treat differently: runs of spaces and lines, numbers, signs, accents, added tokens. */
const TEXT = [
  "The cat's in the hat, isn't it?  It's 1995 \u2014 12345678 of them.\n\n",
  "\tdef f(x):\n        return x  # \u00bd \u2167 \u2460\r\n\r\n\r\n",
  "na\u00efve e\u0301a \u65e5\u672c\u8a9e\u3002\u4eba\u4eba \u{1f433}\u{1f433} \ufeff <s> </s> [MASK] <|endoftext|>end \u2581x\n \n",
  "\u039f\u0394\u039f\u03a3 \u03a3 DON'T don\u2019t a  b   c    d \n\n  e\u00a0f\u3000g ab a .\u00e4 the an ab, 12\n",
].join("");
const DOCUMENTS = [TEXT + TEXT, "the", `${TEXT}  `, `\n\n${TEXT}`, "<s> the </s>"];

/** Documents in pieces of about a size. */
function inPieces(documents: readonly string[], size: number): Corpus {
  return { ...corpusOf(documents), pieces: () => documentPieces(documents, { size, most: 300 }) };
}

Deno.test("packCorpus gives for pieces the ids of the whole documents, with every tokenizer", async () => {
  for (const [name, tokenizer] of await tokenizers()) {
    for (const [around, encoder] of Object.entries(framesOf(tokenizer))) {
      const whole = packDocuments(encoder, DOCUMENTS);
      for (const size of [1, 7, 30, 100, 1000]) {
        const sizes = { size, most: 300 };
        const packed = await packCorpus(encoder, inPieces(DOCUMENTS, size), { sizes });
        assertEquals(packed, whole, `${name}, ${around}, pieces of ${size}`);
      }
    }
  }
});

/** A tokenizer with other rules for what begins and ends a text. */
function framesOf(tokenizer: Encoder): Record<string, Encoder> {
  return {
    "as it is": tokenizer,
    "BOS and EOS": { ...tokenizer, before: [1], after: [2], eos: 2 },
    "one token": { ...tokenizer, before: [2], after: [], eos: 2 },
    nothing: { ...tokenizer, before: [], after: [], eos: null },
  };
}

Deno.test("packCorpus encodes a file of any chunk size as the text that it holds", async () => {
  const tokenizer = await loadTokenizer("examples/models/sotu"),
    fileSystem = memoryFileSystem({ "a.txt": TEXT });
  const whole = Int32Array.from(encodeDocument(tokenizer, TEXT.replaceAll("\r\n", "\n")));
  for (const chunk of [1, 10, 333]) {
    const corpus = await openCorpus("a.txt", { fileSystem, sizes: { chunk, size: 10 } });
    assertEquals(await packCorpus(tokenizer, corpus), whole);
  }
});

Deno.test("packCorpus never encodes much at a time", async () => {
  const tokenizer = await loadTokenizer("examples/models/sotu");
  let longest = 0;
  const encode = (text: string) => {
    longest = Math.max(longest, text.length);
    return tokenizer.encode(text);
  };
  for (const text of ["the hat ".repeat(4e4), "\u4eba\u4eba\u3002".repeat(1e5)]) {
    longest = 0;
    const packed = await packCorpus({ ...tokenizer, encode }, corpusOf([text]));
    assert(longest < 2 ** 18 + 100, `${longest}`);
    assert(packed.length > 6e4);
  }
});

Deno.test("packCorpus cuts where no border is for long", async () => {
  const joins: Encoder = { encode: (text) => [text.length], eos: null, before: [0], after: [] };
  const packed = await packCorpus(joins, inPieces(["ab ".repeat(300)], 10), { sizes: { most: 100 } });
  assertEquals(packed.reduce((sum, length) => sum + length, 0), 900);
  assertEquals(packed.length, 1 + 9);
});

Deno.test("a list of tokens keeps order over its blocks and can be filled again", () => {
  const list = tokenList(), ids = Array.from({ length: 100_000 }, (_, i) => i);
  for (let i = 0; i < ids.length; i += 7) list.push(ids.slice(i, i + 7));
  assertEquals(list.take(), Int32Array.from(ids));
  list.push([5]);
  assertEquals(list.take(), new Int32Array([5]));
});
