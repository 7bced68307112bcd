/**
 * Samples and their batches: masks, packing, order, resuming.
 *
 * @module
 */

import { DataError, InputError, type TokenBatch } from "@firn/train";
import { assert, assertEquals, assertLess, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import {
  bestFit,
  encodeExample,
  encodeHere,
  evaluationBatches,
  type ExampleKind,
  fingerprint,
  joinSources,
  memoryFileSystem,
  mixSources,
  openEncoder,
  type OpenFile,
  openRows,
  packSamples,
  padSamples,
  rowBatches,
  type RowBatchesOptions,
  type Sample,
  type SampleSource,
  sampleSource,
} from "@firn/train/data";
import { hostValues } from "../../core/sources.ts";
import type { Tensor } from "../../core/tensor.ts";

const valuesOf = (tensor: Tensor): number[] => [...hostValues(tensor, "values")] as number[];

/** A tokenizer of characters, in which "ab" is one token. */
const CHARACTERS = {
  encode: (text: string) =>
    text.match(/ab|./gsu)?.map((part) => part === "ab" ? 1 : part.codePointAt(0)!) ?? [],
  eos: 2,
  before: [3],
  after: [],
};

function sample(length: number, first = 10): Sample {
  return {
    ids: Int32Array.from({ length }, (_, i) => first + i),
    learned: new Uint8Array(length).fill(1, 1),
  };
}

/** A source whose samples are told apart by their first id. */
function sourceOf(blocks: readonly (readonly number[])[]): SampleSource & { reads: number[] } {
  const reads: number[] = [];
  return {
    reads,
    blocks: blocks.map((block) => ({ count: block.length, bytes: 100 })),
    fingerprint: "f",
    // deno-lint-ignore require-await
    async read(block) {
      reads.push(block);
      return blocks[block].map((length, i) => sample(length, 1000 * (block + 1) + 100 * i));
    },
  };
}

const idsOf = (batches: readonly TokenBatch[]): number[][] =>
  batches.map(({ inputIds }) => valuesOf(inputIds));

/** The batches of steps, one after another. */
async function take(
  source: SampleSource,
  options: RowBatchesOptions,
  { from = 1, count = 8 } = {},
): Promise<number[][]> {
  const batches: TokenBatch[] = [];
  for await (const batch of (await rowBatches(source, options)).from(from)) {
    if (batches.push(batch) === count) break;
  }
  return idsOf(batches);
}

Deno.test("a completion is learned with what ends it, from the first token that holds some of it", () => {
  const masked = (prompt: string, completion: string) => {
    const { ids, learned } = encodeExample(CHARACTERS, { kind: "completion", prompt, completion });
    return [[...ids], [...learned]];
  };
  assertEquals(masked("xy", "z"), [[3, 120, 121, 122, 2], [0, 0, 0, 1, 1]]);
  // The token of "a" and "b" together is neither's alone.
  assertEquals(masked("xa", "bz"), [[3, 120, 1, 122, 2], [0, 0, 1, 1, 1]]);
  const all = encodeExample(CHARACTERS, { kind: "completion", prompt: "x", completion: "y" }, {
    loss: "all",
  });
  assertEquals([...all.learned], [1, 1, 1, 1]);
});

Deno.test("padSamples pads either side, masks padding, and makes up for missing rows", () => {
  const left = padSamples([sample(2), sample(3)], { side: "left", batch: 3, length: 4, pad: 9 });
  assertEquals(valuesOf(left.inputIds), [9, 9, 10, 11, 9, 10, 11, 12, 9, 9, 9, 9]);
  assertEquals(valuesOf(left.attentionMask!), [0, 0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 0]);
  assertEquals(valuesOf(left.labels), [-100, -100, -100, 11, -100, -100, 11, 12, -100, -100, -100, -100]);
  assertEquals(padSamples([sample(2)], { mask: false }).attentionMask, undefined);
  assertThrows(() => padSamples([sample(5)], { length: 4 }), InputError, "a row has 4 tokens: got one of 5");
});

Deno.test("bestFit packs every item once, no bin too full, the fullest that fits first", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const lengths = Array.from({ length: 200 }, (_, i) => 1 + (seed * 7919 * (i + 1) ** 2) % 20);
    const bins = bestFit(lengths, 50), fill = bins.map((bin) => bin.reduce((n, i) => n + lengths[i], 0));
    assertEquals(bins.flat().toSorted((a, b) => a - b), lengths.map((_, i) => i));
    assert(fill.every((n) => n <= 50));
    const least = Math.ceil(lengths.reduce((a, b) => a + b) / 50);
    assert(bins.length <= Math.ceil(least * 11 / 9) + 1);
  }
  // First fit would put the 2 into the first bin.
  assertEquals(bestFit([6, 7, 2], 9), [[1, 2], [0]]);
});

Deno.test("packSamples gives no sample a label for its first token, and begins its positions at 0", () => {
  const { labels, segments, positions } = packSamples([[sample(2), sample(3)]], { length: 6, batch: 2 });
  assertEquals(valuesOf(labels).slice(0, 6), [-100, 11, -100, 11, 12, -100]);
  assertEquals(valuesOf(segments), [1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0]);
  assertEquals(valuesOf(positions), [0, 1, 0, 1, 2, 0, 0, 1, 2, 3, 4, 5]);
});

const SHAPES: readonly Omit<RowBatchesOptions, "length" | "batch">[] = [{}, { pack: true }, { buckets: 1 }, {
  long: "split",
}];

Deno.test("an epoch has every sample once, in another order in the next", async () => {
  for (const shape of SHAPES) {
    const source = sourceOf([[3, 4, 5, 6], [2, 2, 9], [8]]);
    for (const buffer of [1, 150, 1e6]) {
      const options = { length: 9, batch: 2, seed: 5, buffer, ...shape };
      const { steps } = await rowBatches(source, options);
      const count = steps ?? (await take(source, options, { count: 40 })).findIndex((_, i, all) => {
            const first = all.slice(0, i + 1).flat().filter((id) => id >= 1000 && id % 100 === 0);
            return new Set(first).size === 8;
          }) + 1;
      const epochs = await take(source, options, { count: 2 * count });
      const firsts = (part: number[][]) => part.flat().filter((id) => id >= 1000 && id % 100 === 0);
      assertEquals(
        firsts(epochs.slice(0, count)).toSorted(),
        [1000, 1100, 1200, 1300, 2000, 2100, 2200, 3000].toSorted(),
      );
      assertNotEquals(firsts(epochs.slice(0, count)), firsts(epochs.slice(count)));
    }
  }
});

Deno.test("batches from any step on are those of a run that was not interrupted, whatever the buffer", async () => {
  for (const shape of SHAPES) {
    for (const buffer of [1, 150, 1e6]) {
      const source = sourceOf([[3, 4, 5, 6], [2, 2, 9], [8], [7, 3]]);
      const options = { length: 9, batch: 2, seed: 5, buffer, ...shape },
        all = await take(source, options, { count: 15 });
      const batches = await rowBatches(source, options);
      for (const step of [1, 2, 5, 9, 14]) {
        assertEquals(await take(source, options, { from: step, count: 2 }), all.slice(step - 1, step + 1));
        assertEquals(valuesOf((await batches.at(step)).inputIds), all[step - 1]);
      }
    }
  }
});

Deno.test("a padded batch is as short as its samples let it be", async () => {
  const source = sourceOf([[2, 9, 3, 16, 4, 2, 10, 1 + 15]]),
    batches = await rowBatches(source, { length: 16, batch: 2 });
  const shapes = await Promise.all(
    [1, 2, 3, 4].map(async (step) => (await batches.at(step)).inputIds.shape[1]),
  );
  assertEquals(shapes.toSorted(), [16, 16, 4, 4].toSorted());
  assertEquals(
    (await evaluationBatches(source, { length: 16, batch: 2 })).map(({ inputIds }) => inputIds.shape),
    Array(4).fill([2, 16]),
  );
});

Deno.test("a buffer is filled while the batches of the one before are used, and no earlier", async () => {
  const source = sourceOf([[3, 3], [3, 3], [3, 3], [3, 3]]);
  const batches = (await rowBatches(source, { length: 4, batch: 1, buffer: 1 })).from(1);
  await batches.next();
  await new Promise((resolve) => setTimeout(resolve));
  assertEquals(source.reads.length, 2);
});

Deno.test("the fingerprint of batches tells samples, sizes and seeds apart", async () => {
  const options = { length: 8, batch: 2, seed: 1 }, source = sourceOf([[3, 4, 5]]);
  const of = async (source: SampleSource, options: RowBatchesOptions) =>
    (await rowBatches(source, options)).fingerprint;
  const own = await of(source, options);
  assertEquals(await of(sourceOf([[3, 4, 5]]), options), own);
  for (const other of [{ seed: 2 }, { pack: true }, { length: 7 }, { batch: 1 }, { long: "drop" as const }]) {
    assertNotEquals(await of(source, { ...options, ...other }), own);
  }
  assertNotEquals(await of(sourceOf([[3, 4, 6]]), options), own);
  assertNotEquals(await of({ ...source, fingerprint: fingerprint([1]) }, options), own);
});

Deno.test("rowBatches refuses samples of which none can be learned", async () => {
  await assertRejects(
    () => rowBatches(sourceOf([[12, 13]]), { length: 4, batch: 1, long: "drop" }),
    InputError,
    "none has",
  );
});

Deno.test("workers make the samples that this thread makes, in order, and say what goes wrong", async () => {
  const texts = Array.from({ length: 50 }, (_, i) => `The state of the union in the year ${i}.`);
  const rows = texts.map((text, i) =>
    ({ example: { kind: "text", text }, file: "a", unit: "line", line: i + 1 }) as const
  );
  const folder = "examples/models/sotu",
    chat = { kind: "chat", messages: [{ role: "user", content: "Hi" }] } as const;
  using here = await openEncoder(folder, { workers: 0 });
  using there = await openEncoder(folder, { workers: 2 });
  const parts = await Promise.all(
    [0, 10, 20, 30, 40].map((from) => there.encode(rows.slice(from, from + 10))),
  );
  assertEquals(parts.flat(), await here.encode(rows));
  const fault = "there must be a chat template: the model has none; name a file with one";
  assertEquals(await there.encode([{ ...rows[0], example: chat }]), [fault]);
  await assertRejects(() => openEncoder("nowhere", { workers: 1 }), DataError, "nowhere");
  await assertRejects(() => openEncoder(folder, { workers: -1 }), InputError, "from 0 to 64");
});

/** How many samples of each block of ids a mixture gives. */
async function countsOf(source: SampleSource): Promise<Map<number, number>> {
  const counts = new Map<number, number>();
  for (const block of source.blocks.keys()) {
    for (const { ids } of await source.read(block)) counts.set(ids[0], (counts.get(ids[0]) ?? 0) + 1);
  }
  return counts;
}

Deno.test("mixSources gives each source its share of every block, and every row its turn", async () => {
  const large = (id: number, count: number): SampleSource => {
    const { blocks, read, ...source } = sourceOf([Array(count).fill(2), Array(count).fill(2)]);
    return {
      ...source,
      blocks: blocks.map((block) => ({ ...block, bytes: 2 ** 20 })),
      read: async (block) =>
        (await read(block)).map((one, i) => ({ ...one, ids: Int32Array.of(1e6 * id + 1000 * block + i, 0) })),
    };
  };
  const parts = [{ source: large(1, 30), weight: 7 }, { source: large(2, 50), weight: 3 }];
  const mixed = mixSources(parts, { seed: 4 });
  assert(mixed.blocks.length > 4);
  for (const block of mixed.blocks.keys()) {
    const samples = await mixed.read(block), first = samples.filter(({ ids }) => ids[0] < 2e6).length;
    assertEquals(samples.length, mixed.blocks[block].count);
    assert(Math.abs(first - 0.7 * samples.length) <= 1);
  }
  const counts = [...await countsOf(mixed)];
  // 100 rows are 30 %, so that the 60 others come up 233 times: 3 or 4 times each.
  assertEquals(counts.filter(([id]) => id >= 2e6).map(([, n]) => n), Array(100).fill(1));
  assertEquals([...new Set(counts.filter(([id]) => id < 2e6).map(([, n]) => n))].toSorted(), [3, 4]);
  assertEquals(await countsOf(mixSources(parts, { seed: 4 })), await countsOf(mixed));
  assertNotEquals(mixSources(parts, { seed: 5 }).fingerprint, mixed.fingerprint);
  assertNotEquals(
    mixSources([{ ...parts[0], weight: 6 }, parts[1]], { seed: 4 }).fingerprint,
    mixed.fingerprint,
  );
  assertThrows(() => mixSources([{ source: parts[0].source, weight: 0 }]), InputError, "above 0: one is 0");
  assertEquals(joinSources(parts.map(({ source }) => source)).blocks.length, 4);
  // However small a share is, a block fits into memory.
  const { blocks } = mixSources([{ source: large(1, 30), weight: 1e5 }, { source: large(2, 50), weight: 1 }]);
  assertLess(Math.max(...blocks.map(({ bytes }) => bytes)), 1.01 * 2 ** 24);
});

Deno.test("rows larger than the memory are read block by block, and never held", async () => {
  // 64 MB that are made as they are read.
  const line = new TextEncoder().encode(
    `${JSON.stringify({ prompt: "Say it", completion: "x".repeat(4000) })}\n`,
  );
  const size = line.length * 16_000,
    open = (): OpenFile => ({
      size,
      // deno-lint-ignore require-await
      async read(begin, end) {
        const bytes = new Uint8Array(end - begin);
        for (let at = begin - begin % line.length; at < end; at += line.length) {
          const from = Math.max(0, begin - at);
          bytes.set(line.subarray(from, Math.min(line.length, end - at)), at + from - begin);
        }
        return bytes;
      },
      [Symbol.asyncDispose]: () => Promise.resolve(),
    });
  const fileSystem = { ...memoryFileSystem({ "a.jsonl": "" }), open: () => Promise.resolve(open()) };
  const rows = await openRows("a.jsonl", { fileSystem }),
    held = () => {
      const { heapUsed, external } = Deno.memoryUsage();
      return heapUsed + external;
    };
  assertEquals(rows.count, 16_000);
  const encode = encodeHere<ExampleKind>(() => sample(8));
  const options = { length: 8, batch: 4, seed: 1, buffer: 2 ** 21 }, source = sampleSource(rows, { encode });
  const before = held(), batches = (await rowBatches(source, options)).from(1);
  let most = 0;
  for (let step = 1; step <= 1000; step++) {
    await batches.next();
    most = Math.max(most, held() - before);
  }
  assert(most < 2 ** 25 + 2 ** 24, `${most} bytes`);
});

Deno.test("windows of a stream of samples lose no more than the rest of a buffer, and are resumed at any step", async () => {
  const source = sourceOf([[3, 4, 5, 6], [2, 2, 9], [8], [7, 3]]);
  for (const buffer of [1, 150, 1e6]) {
    const options = { length: 5, batch: 2, seed: 2, buffer, windows: true },
      all = await take(source, options, { count: 12 });
    assertEquals(all.every((batch) => batch.length === 10), true);
    assertEquals(await take(source, options, { from: 7, count: 3 }), all.slice(6, 9));
    assertEquals(all.flat().filter((id) => id !== 0).length > 90, true);
  }
  const whole = await evaluationBatches(source, { length: 5, batch: 2, windows: true });
  const stream = (await Promise.all([0, 1, 2, 3].map((block) => source.read(block)))).flat().flatMap((
    { ids },
  ) => [...ids]);
  assertEquals(idsOf(whole).flat().slice(0, 45), stream.slice(0, 45));
});
