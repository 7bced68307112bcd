/**
 * Runs that the repository keeps: they are what they were but for digits, and none counts twice.
 *
 * @module
 */

import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { DataError, InputError, NotFoundError } from "@firn/train";
import { UsageError } from "../../examples/flags.ts";
import { main } from "./study.ts";
import type { CacheResult } from "./study_cache.ts";
import { keptLine, keptText, parseKept } from "./study_columns.ts";
import { joinKept, openBehind, readKept } from "./study_kept.ts";
import { lineOf, openLines, type StudyLine } from "./study_lines.ts";
import { madeUp } from "./study_made_up.ts";
import { finalRuns, PLAN, type StudyPlan, tuningRuns } from "./study_plan.ts";
import { partsOf } from "./study_report.ts";
import { DIVERGED } from "./study_run.ts";

const SMALL: StudyPlan = { ...PLAN, tasks: PLAN.tasks.slice(2, 4) };
const RUNS = [...tuningRuns(SMALL), ...finalRuns(SMALL, ({ rates }) => rates[1])].map(madeUp);
const [FIRST, SECOND] = RUNS;

/** Runs of each kind: with all that may be absent, without it, of many digits, and one that left the finite. */
const KINDS: readonly StudyLine[] = [
  FIRST,
  { ...FIRST, seed: 7, joules: 1283.456, tau: 0.0012345678, policy: "auto()", wall: 5.25, together: 4 },
  {
    ...FIRST,
    seed: 8,
    perplexity: null,
    rate: 1e-7,
    peakBytes: 524987654,
    versions: { adapter: "H200", driver: null },
  },
  { ...FIRST, seed: 9, steps: 0, seconds: 0, flops: 0, quality: DIVERGED, start: DIVERGED, curve: [] },
];

const cacheOf = (seeds: readonly number[]): CacheResult => ({
  task: FIRST.task,
  epochs: 4,
  pairs: seeds.map((seed) => ({ full: { ...FIRST, seed }, cached: { ...SECOND, arm: "bottom 50 %", seed } })),
});

Deno.test("a run that is kept is the run but for digits, and its date but for the time of day", () => {
  const cache = [cacheOf([1, 2])], { lines, cache: read } = parseKept(keptText({ lines: KINDS, cache }), "f");
  assertEquals(lines, KINDS.map(keptLine));
  assertEquals(
    read,
    cache.map((result) => ({
      ...result,
      pairs: result.pairs.map(({ full, cached }) => ({ full: keptLine(full), cached: keptLine(cached) })),
    })),
  );
  // A run of few digits stays as it is.
  assertEquals(lines[0], { ...FIRST, date: "2026-11-29" });
  assertEquals([lines[1].tau, lines[1].wall, lines[0].wall, "wall" in lines[0]], [
    0.00123457,
    5.25,
    undefined,
    false,
  ]);
  assertEquals([lines[2].peakBytes, lines[2].rate, lines[3].curve], [524988000, 1e-7, []]);
  const curve = FIRST.curve.map(([, ...rest], i) => [i / 3, ...rest] as const);
  const fine = { ...FIRST, seconds: curve.at(-1)![0], curve }, kept = keptLine(fine);
  kept.curve.forEach((point, i) =>
    point.forEach((x, k) => assertAlmostEquals(x, curve[i][k], 2e-5 * Math.abs(x)))
  );
  assertEquals([kept.curve[1][0], kept.curve[3][0], kept.seconds], [0.33333, 1, 1]);
  const odd = { ...FIRST, seconds: 9 };
  assertThrows(
    () => keptText({ lines: [odd], cache: [] }),
    InputError,
    "its curve must begin at its start and end",
  );
});

Deno.test("a kept run takes at most 400 bytes", () => {
  const versions = {
    adapter: "NVIDIA H200 (dawn)",
    driver: "570.1",
    firn: "0.1.0",
    deno: "2.9.6",
    v8: "15.0",
  };
  const long = RUNS.map((line, i): StudyLine => {
    const digits = (scale: number): number => scale * (1 + ((i * 0.618034 + 0.1234567) % 1));
    const [quality, start, seconds, flops] = [-digits(3), -digits(5), digits(2), Math.round(digits(5e13))];
    const inner = [1, 2, 3, 4].map((k) =>
      [k * digits(0.3), 96 * k, Math.round(k * digits(1e13)), -digits(3)] as const
    );
    return {
      ...line,
      ...{ versions, policy: "anyOf(auto(), prefix())" },
      ...{
        planned: 480,
        steps: 480,
        best: 480,
        quality,
        start,
        seconds,
        flops,
        loss: -quality,
        validation: -digits(3),
      },
      ...{
        setup: digits(1),
        compiling: digits(0.01),
        changing: digits(0.2),
        joules: digits(1000),
        wall: digits(4),
      },
      ...{
        perplexity: [digits(30), digits(60)],
        tau: digits(0.001),
        peakBytes: Math.round(digits(3e9)),
        together: 4,
      },
      curve: [[0, 0, 0, start], ...inner, [seconds, 480, flops, quality]],
    };
  });
  const bytes = keptText({ lines: long, cache: [] }).length / long.length;
  assert(bytes <= 400, `${bytes} bytes a run`);
});

Deno.test("a kept file that is broken is named", () => {
  const text = keptText({ lines: [FIRST], cache: [] });
  assertThrows(
    () => parseKept(text.split("\n").slice(1).join("\n"), "f"),
    DataError,
    'read "f" as its first line',
  );
  assertEquals(parseKept(text.trimEnd(), "f").lines.length, 1);
  assertThrows(() => parseKept(text.slice(0, -9), "f"), DataError, 'line 2 of "f"');
  assertThrows(() => parseKept("", "f"), DataError, 'read "f" as its first line');
  assertThrows(() => parseKept(`<<<<<<<\n${text}`, "f"), DataError, 'line 1 of "f"');
});

Deno.test("a run that is kept already counts once, and two of the same name are refused", () => {
  const kept = { folder: "kept", ...parseKept(keptText({ lines: [FIRST], cache: [cacheOf([1])] }), "f") };
  const more = { folder: "more", lines: [FIRST, SECOND], cache: [cacheOf([1, 2])] };
  const { lines, cache } = joinKept(kept, more);
  assertEquals(lines.map(({ arm }) => arm), [FIRST.arm, SECOND.arm]);
  assertEquals(cache.map(({ pairs }) => pairs.map(({ full }) => full.seed)), [[1, 2]]);
  const refused = (other: Partial<typeof more>): string =>
    assertThrows(() => joinKept(kept, { ...more, ...other }), InputError).message;
  assertMatch(refused({ lines: [{ ...FIRST, setup: 9 }] }), /"kept" and "more".*"instruction-full","full"/);
  const [{ pairs: [{ full, cached }] }] = more.cache;
  const again = [{ ...more.cache[0], pairs: [{ full, cached: { ...cached, setup: 9 } }] }];
  assertMatch(refused({ cache: again }), /"kept" and "more" as none may count twice/);
});

Deno.test("--keep adds the runs of folders, --report reads what is kept, and a new folder goes on behind it", async () => {
  const folder = await Deno.makeTempDir(), kept = `${folder}/runs.jsonl`, document = `${folder}/STUDY.md`;
  try {
    const given = await Deno.readTextFile(new URL("STUDY.md", import.meta.url));
    const half = RUNS.length / 2;
    const put = async (name: string, lines: readonly StudyLine[]): Promise<string> => {
      await Deno.mkdir(`${folder}/${name}`, { recursive: true });
      await Deno.writeTextFile(`${folder}/${name}/lines.jsonl`, lines.map(lineOf).join(""));
      return `${folder}/${name}`;
    };
    const [a, b] = [await put("a", RUNS.slice(0, half)), await put("b", RUNS.slice(half, -1))];
    const result = cacheOf([1, 2, 3]);
    await Deno.writeTextFile(`${a}/cache_prefix.jsonl`, JSON.stringify(result) + "\n");
    const reported = async (...args: string[]): Promise<string> => {
      await Deno.writeTextFile(document, given);
      await main(["--report", "--kept", kept, "--document", document, ...args]);
      return await Deno.readTextFile(document);
    };
    await assertRejects(() => reported(), NotFoundError);
    await main(["--keep", "--kept", kept, "--out", `${a},${b}`]);
    const text = await Deno.readTextFile(kept);
    await main(["--keep", "--kept", kept, "--out", `${b},${a}`]);
    assertEquals(await Deno.readTextFile(kept), text);
    assertEquals(await reported(), await reported("--out", `${a},${b}`));
    assert(
      (await reported()).includes(
        partsOf(PLAN, { lines: RUNS.slice(0, -1), cache: [result] }).parts.cache[0],
      ),
    );

    const last = RUNS.at(-1)!, file = await openBehind(`${folder}/new`, await readKept(kept));
    assertEquals(file.lines.length, RUNS.length - 1);
    await file.add(last);
    assertEquals([file.lines.length, (await openLines(`${folder}/new`)).lines.length], [RUNS.length, 1]);
    assertEquals(
      await reported("--from-kept", "--out", `${folder}/new`),
      await reported("--out", `${a},${b},${folder}/new`),
    );
    const other = await put("other", [{ ...last, seed: 99, task: "other", precision: "f32" }]);
    const refused = await assertRejects(() => main(["--keep", "--kept", kept, "--out", other]), InputError);
    assertMatch(refused.message, /runs\.jsonl,.*other" as all must be of one precision/);
    assertEquals(await Deno.readTextFile(kept), text);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("tiny runs go neither into what the repository keeps nor into STUDY.md", async () => {
  for (const [flag, file] of [["keep", "kept"], ["report", "document"]]) {
    const error = await assertRejects(() => main(["--tiny", `--${flag}`]), UsageError);
    assertMatch(
      error.message,
      new RegExp(`^--${file} must be another file than "tests/bench/.* with --tiny`),
    );
  }
});
