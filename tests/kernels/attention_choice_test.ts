/**
 * Which tiling an adapter gets, and how threads of a subgroup combine in it.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { attention } from "../../kernels/attention/forward.ts";
import { attentionGradKV, attentionGradQ } from "../../kernels/attention/backward.ts";
import { attentionTiling, tileBytes } from "../../kernels/attention/tiling.ts";
import type { AttentionTiling } from "../../kernels/attention/frame.ts";
import { CASES, SHAPE, stages, tiles } from "./attention_cases.ts";

/** GPUs whose subgroups have 32 threads, as an H100; eight; and none that kernels can use. */
const H100 = { software: false, subgroups: true, wideSubgroups: true };
const GPUS = [H100, { ...H100, wideSubgroups: false }, {
  software: false,
  subgroups: false,
  wideSubgroups: false,
}];
const ADAPTERS = [{ ...H100, software: true }, ...GPUS];
const PASSES = ["forward", "gradQ", "gradKV"] as const;

Deno.test("attentionTiling recommends what attentionFrame accepts, within the memory of the device", () => {
  for (const dim of [1, 7, 10, 16, 32, 48, 64, 80, 96, 112, 128, 256]) {
    for (const time of [1, 33, 256, 1024]) {
      for (const workgroupBytes of [16384, 32768, 49152]) {
        for (const adapter of ADAPTERS) {
          const shape = { ...SHAPE, heads: 12, time, dim };
          const tiling = (pass: "forward" | "gradQ" | "gradKV"): AttentionTiling => {
            const chosen = attentionTiling(shape, { ...adapter, workgroupBytes, pass });
            const { rows = 64, tile, split = 8, staged, subgroups = false } = chosen;
            const options = { rows, tile, split, subgroups, dim, pass, staged };
            assert(tile === 0 || tileBytes(options) <= workgroupBytes);
            return chosen;
          };
          attention({ ...shape, ...tiling("forward") });
          attentionGradQ({ ...shape, ...tiling("gradQ") });
          attentionGradKV({ ...shape, outputs: { k: true, v: true }, ...tiling("gradKV") });
        }
      }
    }
  }
});

Deno.test("attentionTiling tiles the head sizes of common models on a GPU", () => {
  for (const dim of [32, 48, 64, 80, 96, 112, 128]) {
    for (const pass of PASSES) {
      const { tile } = attentionTiling({ ...SHAPE, dim }, { ...H100, workgroupBytes: 49152, pass });
      assert(tile > 0, `${pass}, dim ${dim}`);
    }
  }
});

Deno.test("attentionTiling spares the registers of a thread where heads have more than 128 elements", () => {
  const split = (dim: number, pass: typeof PASSES[number]): (number | undefined)[] => {
    const sizes = { ...SHAPE, batch: 8, heads: 8, time: 1024, dim };
    const { rows, tile, split, staged } = attentionTiling(sizes, { ...H100, workgroupBytes: 49152, pass });
    assert(staged);
    return [rows, tile, split];
  };
  assertEquals(split(256, "gradKV"), [64, 64, 16]);
  assertEquals(split(224, "gradQ"), [128, 32, 8]);
});

Deno.test("attentionTiling tiles as the cases do whose results are compared", () => {
  const name = ({ rows, tile, split, staged }: AttentionTiling, subgroups: boolean | undefined): string =>
    `${rows} ${tile} ${split} ${staged} ${subgroups}`;
  // Each tiling is computed with subgroups and without; gradients need none.
  const compared = {
    forward: new Set(
      CASES.flatMap(({ tiling }) => [true, false].map((subgroups) => name(tiling, subgroups))),
    ),
    gradient: new Set(
      CASES.filter(({ gradients }) => gradients !== null).map(({ tiling }) => name(tiling, false)),
    ),
  };
  const widest = new Set<string>();
  for (const dim of [16, 32, 48, 64, 80, 96, 112, 128, 256]) {
    for (const [batch, time] of [[1, 1], [1, 12], [1, 24], [1, 256], [32, 1024]]) {
      for (const workgroupBytes of [16384, 32768, 49152]) {
        for (const gpu of GPUS) {
          for (const pass of PASSES) {
            const shape = { ...SHAPE, batch, time, heads: 12, dim };
            const tiling = attentionTiling(shape, { ...gpu, workgroupBytes, pass });
            const forward = pass === "forward", cases = compared[forward ? "forward" : "gradient"];
            const chosen = name(tiling, forward && tiling.subgroups);
            assert(tiling.tile === 0 || cases.has(chosen), `${pass}: ${chosen}`);
            if (gpu === H100 && forward && dim === 64) widest.add(chosen);
          }
        }
      }
    }
  }
  assert(widest.has("64 64 16 true true"), [...widest].join());
});

/** What a lane holds: how often the value of each lane went into it. */
type Held = ReadonlyMap<number, number>;

/** Runs the shuffles of a kernel, on lanes that begin with a value of their own: what lanes hold at the end of each chain. */
function shuffled(code: string, lanes: number): Held[][] {
  const chains: Held[][] = [];
  const known = new Map<string, Held[]>();
  const line = /let (\w+) = .*?(\w+)(?:,| \+) subgroupShuffleXor\((\w+), (\d+)u\)/g;
  const steps = [...code.matchAll(line)];
  assertEquals(steps.length, code.split("subgroupShuffle").length - 1, "shuffles in another form");
  for (const [, to, own, from, mask] of steps) {
    assertEquals(own, from);
    const before = known.get(from) ?? Array.from({ length: lanes }, (_, lane) => new Map([[lane, 1]]));
    const after = before.map((held, lane) => {
      const sum = new Map(held);
      for (const [of, count] of before[lane ^ Number(mask)]) sum.set(of, (sum.get(of) ?? 0) + count);
      return sum;
    });
    known.set(to, after);
    if (new RegExp(`let whole\\d+ = ${to};`).test(code)) chains.push(after);
  }
  return chains;
}

const SPLITS = [4, 8, 16] as const;
const TILINGS = SPLITS.flatMap((split) => [tiles(64, 64, split), stages(64, 64, split)]);

for (const tiling of TILINGS) {
  const { split, staged } = tiling, what = `${split} threads a row${staged ? ", staged" : ""}`;
  Deno.test(`attention combines what each thread of a row has once, through subgroups: ${what}`, () => {
    const { code } = attention({ ...SHAPE, dim: 64, ...tiling, subgroups: true });
    assert(code.includes(`let tx = lid % ${split}u;`), "threads that share a row are neighbours");
    // The maxima and the sums of each quad of rows.
    const chains = shuffled(code, 32);
    assertEquals(chains.length, 2 * (staged ? 2 : 1));
    for (const lanes of chains) {
      lanes.forEach((held, lane) => {
        const first = lane - lane % split;
        const row = new Map(Array.from({ length: split }, (_, i) => [first + i, 1]));
        assertEquals(new Map([...held].toSorted(([a], [b]) => a - b)), row, `lane ${lane}`);
      });
    }
  });
}

Deno.test("attention shuffles nothing without subgroups, and gradients are of one text with and without", () => {
  for (const tiling of TILINGS) {
    const [without, wide] = [false, true].map((subgroups) => ({ ...SHAPE, dim: 64, ...tiling, subgroups }));
    assertEquals(attention(without).code.includes("subgroup"), false);
    const outputs = { k: true, v: true };
    assertEquals(attentionGradQ(without).code, attentionGradQ(wide).code);
    assertEquals(attentionGradKV({ ...without, outputs }).code, attentionGradKV({ ...wide, outputs }).code);
    assertEquals(attentionGradQ(wide).code.includes("subgroup"), false);
    assertEquals(attentionGradKV({ ...wide, outputs }).code.includes("subgroup"), false);
  }
});
