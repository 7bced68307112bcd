import { assertEquals } from "@std/assert";
import { compactOrder, gatherRows, scatterRows } from "../../kernels/compact_rows.ts";
import { blank, runKernel, values } from "./run_kernel.ts";

const IGNORE = -100;

/** Labels by what counts: a third, none, all, all but each 64th. */
const PATTERNS: readonly ((i: number) => boolean)[] = [
  (i) => Math.imul(i + 7, 2654435761) >>> 0 < 2 ** 32 / 3,
  () => false,
  () => true,
  (i) => i % 64 !== 63,
];

function order(labels: Int32Array): { readonly order: number[]; readonly count: number } {
  const rows = [...labels.keys()];
  const counted = rows.filter((i) => labels[i] !== IGNORE);
  return { order: [...counted, ...rows.filter((i) => labels[i] === IGNORE)], count: counted.length };
}

for (const rows of [1, 5, 255, 256, 257, 1300, 4100]) {
  Deno.test(`compactOrder keeps the order of ${rows} rows among the labelled and among the ignored ones`, async () => {
    for (const counts of PATTERNS) {
      const labels = Int32Array.from({ length: rows }, (_, i) => counts(i) ? i : IGNORE);
      const [places, count] = await runKernel(compactOrder({ rows, ignore: IGNORE }), {
        inputs: [labels],
        outputs: [new Uint32Array(rows).fill(rows), new Uint32Array(1)],
      });
      const expected = order(labels);
      assertEquals([[...places], [...count]], [expected.order, [expected.count]]);
    }
  });
}

for (const width of [3, 8]) {
  Deno.test(`gatherRows copies labelled rows of ${width} and leaves zeros, scatterRows puts them back`, async () => {
    const rows = 11, x = values(rows * width, 1);
    const labels = Int32Array.from({ length: rows }, (_, i) => i % 3 === 0 ? IGNORE : i);
    const { order: places, count } = order(labels);
    const inputs = [x, labels, Uint32Array.from(places), Uint32Array.of(count)] as const;
    const all: number[] = [];
    for (const [start, size, limit] of [[0, 4, 4], [4, 4, 3], [8, 3, 0]]) {
      const kernel = gatherRows({ rows, width, ignore: IGNORE, start, count: size });
      const [gathered, own, most] = await runKernel(kernel, {
        inputs,
        outputs: [blank(size * width), new Int32Array(size), new Uint32Array(1)],
      });
      const row = (i: number): number[] =>
        i < count ? [...x.subarray(places[i] * width, (places[i] + 1) * width)] : new Array(width).fill(0);
      const here = Array.from({ length: size }, (_, i) => start + i);
      assertEquals([...gathered], here.flatMap(row));
      assertEquals([...own], here.map((i) => labels[places[i]]));
      assertEquals([...most], [limit]);
      all.push(...gathered);
    }
    const [spread] = await runKernel(scatterRows({ rows, width }), {
      inputs: [Float32Array.from(all), inputs[2]],
      outputs: [blank(rows * width)],
    });
    assertEquals([...spread], [...x].map((value, i) => labels[Math.floor(i / width)] === IGNORE ? 0 : value));
  });
}
