/**
 * The example `explain`: what it makes of logs, and how it prints that.
 *
 * @module
 */

import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import {
  endingText,
  explain,
  explanationText,
  type FreezeLine,
  type Line,
  percent,
  readLog,
  renderReport,
  reportOf,
  type StepLine,
} from "@firn/train/report";
import { type Component, type ComponentCost, DataError } from "@firn/train";
import { inFolder } from "../data/files.ts";
import { example } from "./process.ts";

function component(path: string, layer: number | null, cost?: ComponentCost): Component {
  return { path, layer, parameters: [`${path}.weight`], kind: "linear", size: 100, ...cost && { cost } };
}

function cost(launches: number, megaflop: number): FreezeLine["before"] {
  const flops = 1e6 * megaflop;
  return { launches, flops, matmulFlops: flops, bytes: 2 ** 20, memory: 2 ** 20, constants: 0 };
}

/** Two looks of two steps each from a step on; the first of them is slower. */
function steps(from: number, stepMs: number, { launches, flops }: FreezeLine["before"]): StepLine[] {
  return [0, 1, 2, 3].map((i): StepLine => ({
    kind: "step",
    step: from + i,
    loss: 1 / (from + i),
    learningRate: 0.1,
    stepMs: i < 2 ? 10 * stepMs : stepMs,
    launches,
    flops,
    frozen: 0,
    readings: { gradNorm: { "layers.0.up": 3, head: 9 } },
  }));
}

const [FULL, LESS, MORE] = [cost(50, 90), cost(40, 60), cost(45, 80)];
const PRICE = { forward: 30e6, dX: 0, dW: 30e6, depth: 0 };

const START: Line = {
  kind: "start",
  config: { model: "mlp", policy: "below(gradNorm, 4)", steps: 16 },
  adapter: "a GPU",
  accuracy: 0.1,
};
const PARTS: Line = {
  kind: "components",
  components: [
    component("layers.0.up", 0, PRICE),
    component("layers.1.up_and_down", 1, { ...PRICE, dW: 1234 }),
    component("head", null),
  ],
};
const FREEZE: FreezeLine = {
  kind: "freeze",
  step: 4,
  frozen: ["layers.0.up", "layers.1.up_and_down"],
  thawed: [],
  before: FULL,
  after: LESS,
  reasons: {
    "layers.0.up": { signal: "gradNorm", value: 3.14159, threshold: 4, rule: "below(gradNorm, 4)" },
    "layers.1.up_and_down": { signal: "step", value: null, threshold: null, rule: "stopAt(4)" },
  },
};
const THAW: FreezeLine = {
  kind: "freeze",
  step: 8,
  frozen: [],
  thawed: ["layers.0.up"],
  before: LESS,
  after: MORE,
};
/** A run in which two components freeze after step 4 and one of them thaws after step 8. */
const LOG: readonly Line[] = [
  START,
  PARTS,
  ...steps(1, 20, FULL),
  FREEZE,
  ...steps(5, 10, LESS),
  THAW,
  ...steps(9, 15, MORE),
  { kind: "end", accuracy: 0.95 },
];

Deno.test("explain says why each component froze, what its gradient costs and how long it was held", () => {
  const { changes, frozen, active, finished } = explain(LOG);
  assertEquals(changes[0].frozen, [
    { path: "layers.0.up", reason: FREEZE.reasons!["layers.0.up"], flops: 30e6 },
    { path: "layers.1.up_and_down", reason: FREEZE.reasons!["layers.1.up_and_down"], flops: 1234 },
  ]);
  assertEquals(changes[1].thawed, [
    { path: "layers.0.up", reason: FREEZE.reasons!["layers.0.up"], flops: 30e6, heldFor: 4 },
  ]);
  assertEquals([frozen, active, finished], [["layers.1.up_and_down"], ["layers.0.up", "head"], true]);
});

Deno.test("explain measures a step between two changes, without the look that waited for shaders", () => {
  const { changes, share, flopShare } = explain(LOG);
  assertEquals(changes.map(({ before, after }) => [before.stepMs, after.stepMs]), [[20, 10], [10, 15]]);
  assertEquals(changes.map(({ before, after }) => [before.cost, after.cost]), [[FULL, LESS], [LESS, MORE]]);
  assertEquals([share, flopShare], [1 / 3, (90 + 60 + 80) / (3 * 90)]);
});

Deno.test("explain has no time of a step where all that was measured waited for shaders", () => {
  const early = LOG.filter((line) => line.kind !== "step" || line.step < 6);
  assertEquals(explain(early).changes[0].after.stepMs, null);
});

Deno.test("explanationText aligns the columns of every change and sums up", () => {
  assertEquals(
    explanationText(explain(LOG), { color: false }),
    `run         finished, 12 of 16 steps
model       mlp
policy      below(gradNorm, 4)
adapter     a GPU

step 4: 2 froze    launches 50 → 40 (-20 %), 90 MFLOP → 60 MFLOP (-33 %), 20 ms → 10 ms (-50 %)
  component             signal    value  threshold       saves  of a step  rule
  layers.0.up           gradNorm  3.142          4    30 MFLOP     33.3 %  below(gradNorm, 4)
  layers.1.up_and_down  step          –          –  1.23 kFLOP      0.0 %  stopAt(4)

step 8: 1 thawed    launches 40 → 45 (+13 %), 60 MFLOP → 80 MFLOP (+33 %), 10 ms → 15 ms (+50 %)
  layers.0.up  thawed after 4 steps

frozen      1 of 3 components, 33.3 % of their elements
a step      launches 50 → 45 (-10 %), 90 MFLOP → 80 MFLOP (-11 %), 20 ms → 15 ms (-25 %)
the run     85.2 % of the FLOPs of 12 steps without a freeze
active      layers.0.up, head
accuracy    0.1 → 0.95
`,
  );
});

Deno.test("explanationText prints a log that is older than reasons and components", () => {
  const { reasons: _, ...bare } = FREEZE;
  const text = explanationText(explain([START, ...steps(1, 20, FULL), bare]), { color: false });
  assertMatch(text, /^run {9}under way, or interrupted, 4 of 16 steps$/m);
  assertStringIncludes(text, "\n  layers.0.up\n  layers.1.up_and_down\n\nfrozen      2 of 3 components\n");
  assertMatch(text, /^accuracy {4}0\.1$/m);
  assertEquals(/undefined|NaN|null/.test(text), false);
});

Deno.test("explanationText says so when nothing froze, or no step was taken", () => {
  const text = explanationText(explain([START, PARTS, ...steps(1, 20, FULL)]), { color: false });
  assertMatch(text, /^Nothing was frozen\.$/m);
  assertMatch(text, /^the run {5}100\.0 % of the FLOPs of 4 steps without a freeze$/m);
  assertMatch(explanationText(explain([START]), { color: false }), /^run {9}under way, .*, 0 of 16 steps$/m);
});

Deno.test("explanationText colours on request, and the text is the same otherwise", () => {
  const plain = explanationText(explain(LOG), { color: false });
  const coloured = explanationText(explain(LOG), { color: true });
  // deno-lint-ignore no-control-regex
  const codes = /\x1b\[\d+m/g;
  assertEquals(coloured.match(codes)!.length > 0, true);
  assertEquals(coloured.replace(codes, ""), plain);
  assertEquals(plain.match(codes), null);
});

Deno.test("the report shows the same reasons and times as a table", async () => {
  const components = PARTS.kind === "components" ? PARTS.components : [];
  const written = await renderReport(reportOf(LOG, { title: "A run", summary: [], components }));
  const page = written.replace(/\s+/g, " ").replace(/ ?(<\/?t[dr][^>]*>) ?/g, "$1");
  const reasons = page.slice(page.indexOf(`class="reasons"`));
  assertMatch(
    reasons,
    /<td>layers\.0\.up<\/td><td>gradNorm<\/td><td>3\.142<\/td><td>4<\/td><td>30 M <small>33\.3 %<\/small><\/td><td>below\(gradNorm, 4\)/,
  );
  assertMatch(reasons, /<td>layers\.0\.up<\/td><td>thawed after 4 steps<\/td>/);
  const events = page.slice(page.indexOf(`class="events"`), page.indexOf(`class="reasons"`));
  assertMatch(events, /<td>10 ms <small>−50 %<\/small>/);
  const old = await renderReport(reportOf(
    LOG.filter(({ kind }) => kind !== "components").map((line) => {
      if (line.kind !== "freeze") return line;
      const { reasons: _, ...bare } = line;
      return bare;
    }),
    { title: "A run", summary: [], components },
  ));
  assertEquals(old.includes(`class="reasons"`), false);
});

Deno.test("explanationText says how training ended, and leaves the step that was never taken out of the sums", () => {
  const last: FreezeLine = { ...FREEZE, after: cost(0, 0) };
  const ending = { reason: "stopped", step: 4, best: 2 } as const;
  const log: Line[] = [START, ...steps(1, 20, FULL), last, { kind: "end", accuracy: 0.5, ending }];
  const text = explanationText(explain(log), { color: false });
  assertMatch(text, /^run {9}finished, 4 of 16 steps, ended early, with the parameters of step 2$/m);
  assertMatch(text, /^step 4: 2 froze {4}training ended$/m);
  assertMatch(text, /^a step {6}launches 50 → 50 \(0 %\)/m);
});

Deno.test("endingText has nothing to say of a run that took all steps and kept the last", () => {
  assertEquals(endingText(null), "");
  assertEquals(endingText({ reason: "steps", step: 9, best: null }), "");
  assertEquals(endingText({ reason: "steps", step: 9, best: 9 }), "");
  assertEquals(endingText({ reason: "frozen", step: 9, best: null }), ", ended as all is frozen");
});

Deno.test("percent rounds, signs what changed, and has no number where there is nothing to compare with", () => {
  assertEquals([[100, 82], [100, 150], [1000, 999], [5, 5]].map(([a, b]) => percent(a, b)), [
    "-18 %",
    "+50 %",
    "0 %",
    "0 %",
  ]);
  assertEquals(percent(0, 3), "");
});

Deno.test("reportOf takes the threshold from the reasons where all name one of a signal that was logged", () => {
  const readingsOf = (reasons: FreezeLine["reasons"]) => {
    const log = LOG.map((line) => line === FREEZE ? { ...FREEZE, reasons } : line);
    return reportOf(log, { title: "A run", summary: [], components: [] }).readings;
  };
  const why = (signal: string, threshold: number | null) => ({ signal, value: 3, threshold, rule: "" });
  const found = readingsOf({ a: why("gradNorm", 4), b: why("gradNorm", 4) })!;
  assertEquals([found.signal, found.tau, found.values.length], ["gradNorm", 4, 24]);
  assertEquals(readingsOf({ a: why("gradNorm", 4), b: why("gradNorm", 5) }), undefined);
  assertEquals(readingsOf({ a: why("gradNorm/size", 4) }), undefined);
  assertEquals(readingsOf({ a: why("gradNorm", null) }), undefined);
  assertEquals(readingsOf(undefined), undefined);
});

Deno.test("readLog drops a line that is being written, and refuses what is no log", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/metrics.jsonl`;
    const rows = LOG.map((line) => JSON.stringify(line) + "\n").join("");
    await Deno.writeTextFile(path, rows + '{"kind":"st');
    assertEquals(await readLog(path), LOG);
    for (const row of ['{"name":"firn"}', '{"kind":"step","step":1}']) {
      await Deno.writeTextFile(path, `${row}\n`);
      await assertRejects(
        () => readLog(path),
        DataError,
        "as line 1 must be the start of a run",
      );
    }
    await Deno.writeTextFile(path, `${JSON.stringify(START)}\nhello\n`);
    await assertRejects(
      () => readLog(path),
      DataError,
      "as line 2 must be a step, a freeze or the end",
    );
  });
});

Deno.test("explain prints the run of a folder and of its log without an escape code, and needs to read only", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(
      `${folder}/metrics.jsonl`,
      LOG.map((line) => JSON.stringify(line) + "\n").join(""),
    );
    const whole = explanationText(explain(LOG), { color: false });
    for (const place of [folder, `${folder}/`, `${folder}/metrics.jsonl`]) {
      assertEquals(await example("explain", [place], folder), { code: 0, stdout: whole, stderr: "" });
    }
  });
});

/** Command lines that are refused, and what is said. In both, `@` is an empty folder. */
const REFUSED: readonly (readonly [args: readonly string[], code: number, message: string])[] = [
  [[], 2, "name the output folder of a run\nSee --help"],
  [["@", "@"], 2, 'one run at a time: "@" is too much\nSee --help'],
  [
    ["@/nowhere"],
    1,
    'Cannot explain "@/nowhere" as it must be the output folder of a run, or its metrics.jsonl: it is not there',
  ],
  [
    ["@"],
    1,
    'Cannot explain "@" as it must be the output folder of a run, or its metrics.jsonl: it is not there',
  ],
];

for (const [args, code, message] of REFUSED) {
  Deno.test(`explain ${args.join(" ")} is refused with the way out`, async () => {
    await inFolder(async (folder) => {
      const seen = await example("explain", args.map((arg) => arg.replace("@", folder)), folder);
      assertEquals(seen, { code, stdout: "", stderr: `explain: ${message.replaceAll("@", folder)}\n` });
    });
  });
}
